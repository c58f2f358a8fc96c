"""Which configurations are worth another run."""

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from eeipu import EEIPUSampler, Float, Pipeline, StageCache, Tuner, stage
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.noise.repeats import draws_anew
from eeipu.methods.proposals import Proposals
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import no_design

NOISE = 0.3


def pipeline_of(seed=0, *, noise=NOISE, memoize=False, last_cost=0.1):
    """Two stages, of which the cheap last one adds noise in each run."""
    rng = np.random.default_rng(seed)

    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 5.0, version="1")
    def prep(data, *, x):
        return -((x - 0.3) ** 2)

    @stage(space={"y": Float(0.0, 1.0)}, cost=lambda y: last_cost, version="1", memoize=memoize)
    def score(prepared, *, y):
        return prepared - (y - 0.6) ** 2 + noise * rng.standard_normal()

    return Pipeline([prep, score])


def searched(pipeline, trials=30, **options):
    tuner = Tuner(pipeline, budget=None, cache=StageCache(), seed=0, n_initial=6, **options)
    return tuner.run(0.0, max_trials=trials, progress=False)


def configurations(study):
    return [tuple(trial.params.values()) for trial in study.trials]


def runs_twice(study):
    return len(configurations(study)) > len(set(configurations(study)))


def test_where_the_last_stage_draws_anew_a_configuration_runs_again():
    study = searched(pipeline_of())

    again = [t for t in study.trials if "repeats" in t.user_attrs.get("chosen", {})]

    assert again
    for trial in again:
        first = study.trials[trial.user_attrs["chosen"]["repeats"]]
        assert first.params == trial.params
        assert first.number < trial.number
        assert first.value != trial.value
        assert trial.user_attrs["chosen"]["by"] == "models"
        assert trial.user_attrs["chosen"]["gain"] > 0.0


def test_a_repeat_pays_for_the_last_stages_alone():
    study = searched(pipeline_of())

    paid = {
        tuple(t.user_attrs["memoized"]): t.user_attrs["charged"]
        for t in study.trials
        if "repeats" in t.user_attrs.get("chosen", {})
    }

    assert paid[True, False] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "cache"),
    [({"memoize": True}, StageCache()), ({}, None)],
    ids=["all stages are memoized", "nothing is kept"],
)
def test_otherwise_nothing_runs_again(options, cache):
    tuner = Tuner(pipeline_of(**options), budget=None, cache=cache, seed=0, n_initial=6)

    assert not runs_twice(tuner.run(0.0, max_trials=20, progress=False))


@pytest.mark.parametrize("method", ["ei", "eeipu-paper"])
def test_other_methods_do_not_repeat(method):
    assert not runs_twice(searched(pipeline_of(), trials=20, method=method))


def test_stages_that_are_not_random_are_found_out():
    study = searched(pipeline_of(noise=0.0))

    again = len(study.trials) - len(set(configurations(study)))

    assert again <= 2


def test_a_study_that_is_resumed_repeats_too():
    pipeline, cache, storage = pipeline_of(), StageCache(), InMemoryStorage()
    options = {"cache": cache, "storage": storage, "seed": 0, "n_initial": 6}
    Tuner(pipeline, **options).run(0.0, max_trials=8, progress=False)

    study = Tuner(pipeline, **options).run(0.0, max_trials=16, progress=False)

    again = [t for t in study.trials[8:] if "repeats" in t.user_attrs.get("chosen", {})]
    assert again
    assert all(study.trials[t.user_attrs["chosen"]["repeats"]].params == t.params for t in again)


def test_repeats_run_beside_other_trials():
    study = searched(pipeline_of(), max_parallel=3, executor="threads")

    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    assert runs_twice(study)


def test_an_optuna_loop_repeats_too():
    pipeline, cache = pipeline_of(), StageCache()
    sampler = EEIPUSampler(pipeline, budget=1e3, cache=cache, seed=0, n_initial=6)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    study.optimize(lambda trial: pipeline.run(trial, 0.0, cache=cache).value, n_trials=30)

    assert runs_twice(study)


def test_what_the_user_has_enqueued_is_run_first_and_may_be_repeated():
    tuner = Tuner(pipeline_of(), cache=StageCache(), seed=0, n_initial=6)
    best = {"prep.x": 0.3, "score.y": 0.6}
    tuner.enqueue(best)

    study = tuner.run(0.0, max_trials=30, progress=False)

    assert study.trials[0].params == best
    assert runs_twice(study)


def test_a_part_that_the_user_has_enqueued_is_completed_with_something_new():
    tuner = Tuner(pipeline_of(), cache=StageCache(), seed=0, n_initial=6)
    tuner.run(0.0, max_trials=25, progress=False)
    tuner.enqueue({"prep.x": 0.3})

    study = tuner.run(0.0, max_trials=1, progress=False)

    assert study.trials[-1].params["prep.x"] == 0.3
    assert "repeats" not in study.trials[-1].user_attrs.get("chosen", {})


# --- From trials that are written down

# The last stage has nothing to choose: every new configuration pays for the first one.
EVALUATED = Pipeline(
    [
        stage(lambda data, x, y: 0.0, name="prep", space={"x": Float(0, 1), "y": Float(0, 1)}),
        stage(lambda prepared: 0.0, name="score", memoize=False),
    ]
)


def history_of(rows, running=()):
    """A history of trials `(x, y, value)`, whose first stages cost 5 and the last ones .1."""
    study = optuna.create_study(direction="maximize")
    for x, y, value in [*rows, *((x, y, None) for x, y in running)]:
        study.add_trial(
            create_trial(
                params={"prep.x": x, "prep.y": y},
                distributions=EVALUATED.space,
                value=value,
                state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
                user_attrs={"stage_keys": [f"{x} {y}", "score"], "stage_costs": [5.0, 0.1]},
            )
        )
    return History.of(study, EVALUATED)


def scattered():
    rng = np.random.default_rng(3)
    points = rng.random((16, 2))
    values = -((points - 0.5) ** 2).sum(axis=1) + 0.1 * rng.standard_normal(16)
    return [(*point, value) for point, value in zip(points.tolist(), values.tolist(), strict=True)]


ROWS = scattered()
ALL_KEPT = {f"{x} {y}" for x, y, _ in ROWS}


def proposals_of(history, kept=ALL_KEPT, **options):
    search = Search(history, Budget(1e4), 2, len(history), seed=0)
    return Proposals(search, METHODS["eeipu"], no_design, top_q=5, kept=kept, **options)


def test_values_that_are_equal_whenever_repeated_are_not_drawn_anew():
    rows = [(0.1, 0.1, 1.0), (0.2, 0.2, 2.0)]

    def may_differ(more):
        history = history_of([*rows, *more])
        return draws_anew(Search(history, Budget(1.0), 2, len(history), seed=0))

    assert may_differ([])
    assert may_differ([(0.1, 0.1, 1.0)])
    assert not may_differ([(0.1, 0.1, 1.0), (0.2, 0.2, 2.0)])
    assert may_differ([(0.1, 0.1, 1.0), (0.2, 0.2, 2.0), (0.2, 0.2, 2.1)])


def test_a_repeat_is_one_of_the_best_and_has_the_values_as_stored():
    proposals = proposals_of(history_of(ROWS))
    repeat = proposals.repeat
    assert repeat is not None
    x, y, value = ROWS[repeat.number]

    assert repeat.candidate.params == {"prep.x": x, "prep.y": y}
    assert proposals.new(1) == [repeat.candidate.params]
    assert repeat.candidate.reuse.memoized == (True, False)
    assert value > np.median([each[2] for each in ROWS])
    reason = proposals.reason(repeat.candidate.params)
    assert (reason["repeats"], reason["reuses"]) == (repeat.number, ["prep"])
    assert reason["gain"] == pytest.approx(
        repeat.gain * proposals.search.models.standard.unit, rel=1e-4
    )


def test_a_repeat_that_would_cost_as_much_as_a_new_configuration_is_worth_less():
    kept, gone = (proposals_of(history_of(ROWS), keys).repeat for keys in (ALL_KEPT, set()))

    assert kept is not None
    assert gone is None or gone.candidate.score < kept.candidate.score


def test_running_repeats_make_further_ones_worth_less():
    alone = proposals_of(history_of(ROWS)).repeat
    x, y, _ = ROWS[alone.number]

    beside = proposals_of(history_of(ROWS, running=[(x, y)] * 8)).repeat

    assert beside is None or beside.gain < alone.gain


def test_with_values_of_the_users_own_or_early_stopping_nothing_is_repeated():
    history = history_of(ROWS)

    assert proposals_of(history, given={"prep.x": 0.5}).repeat is None
    assert proposals_of(history, may_repeat=False).repeat is None
