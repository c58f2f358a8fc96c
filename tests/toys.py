"""Toy pipelines with declared costs, which remember how they were called."""

from collections import Counter

from eeipu import Categorical, Float, Int, Pipeline, stage

PREP_COST, FIT_COST, SCORE_COST = 4.0, 2.0, 0.5


class Toy:
    """A pipeline `prep -> fit -> score` whose best value, 0, is at x=0.25, y=0.75 and "square".

    Args:
        on_call: Called as `on_call(stage_name, params)` inside every stage, for what it may do.
    """

    def __init__(self, on_call=None):
        self.calls = []
        toy = self

        def note(name, **params):
            toy.calls.append((name, params))
            if on_call is not None:
                on_call(name, params)

        @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: PREP_COST, version="1")
        def prep(data, *, x):
            note("prep", x=x)
            return data + (x - 0.25)

        @stage(
            space={"y": Float(0.0, 1.0), "loss": Categorical(["square", "absolute"])},
            cost=lambda y, loss: FIT_COST,
            version="1",
        )
        def fit(data, *, y, loss):
            note("fit", y=y, loss=loss)
            return (data, y - 0.75, 0.0 if loss == "square" else 0.1)

        @stage(
            space={"k": Int(1, 8, log=True)}, cost=lambda k: SCORE_COST, memoize=False, version="1"
        )
        def score(model, *, k):
            note("score", k=k)
            return -(model[0] ** 2) - model[1] ** 2 - model[2] - 0.001 * (k - 1)

        self.pipeline = Pipeline([prep, fit, score])

    @property
    def counts(self):
        return Counter(name for name, _ in self.calls)


def config(x=0.5, y=0.5, loss="square", k=1):
    return {"prep.x": x, "fit.y": y, "fit.loss": loss, "score.k": k}


def declared(x=None, y=None):
    """The same three stages without functions; `x` and `y` may have other spaces."""
    return Pipeline.declare(
        {
            "prep": {"x": Float(0.0, 1.0) if x is None else x},
            "fit": {"y": Float(0.0, 1.0) if y is None else y},
            "score": {},
        }
    )


def accounts(study):
    """What each trial that has begun says of its stages: costs, memoized, charged."""
    return [
        tuple(trial.user_attrs[name] for name in ("stage_costs", "memoized", "charged"))
        for trial in study.trials
        if trial.state.name != "WAITING"
    ]
