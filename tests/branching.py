"""Pipelines that are graphs, and trials of them whose stages have Merkle keys."""

from hypothesis import strategies as st
from optuna.trial import create_trial

from eeipu import Categorical, Float, Int, Pipeline
from eeipu.pipeline import INPUTS
from eeipu.stages.declaration import Stage

SPACES = {"x": Float(0.0, 1.0), "n": Int(1, 3), "c": Categorical(["a", "b"])}


def pipeline_of(given, params=(("x",),), unkept=()):
    """Stages `s0`, `s1`, ...: for each the stages whose outputs it gets, none for the inputs.

    Args:
        given: For each stage, the numbers of those whose outputs it gets.
        params: For each stage, the names of its hyper-parameters in `SPACES`; repeated as needed.
        unkept: The stages that are not memoized.
    """
    return Pipeline(
        Stage(
            f"s{k}",
            {name: SPACES[name] for name in params[k % len(params)]},
            memoize=k not in unkept,
            inputs=tuple(f"s{j}" for j in stages) or (INPUTS,),
        )
        for k, stages in enumerate(given)
    )


BRANCHES = ((), (), (), (), (0, 1, 2, 3))
DIAMOND = ((), (0,), (0,), (1, 2))
TWO_LEVELS = ((), (), (0, 1), (), (), (3, 4), (2, 5))
CHAIN = ((), (0,), (1,), (2,))


@st.composite
def pipelines(draw, most=6):
    """Random graphs in which every stage leads to the last one."""
    count = draw(st.integers(2, most))
    given = [
        tuple(sorted(draw(st.sets(st.integers(0, k - 1), max_size=2)))) if k else ()
        for k in range(count)
    ]
    users = {j for stages in given for j in stages}
    given[-1] = tuple(sorted({*given[-1], *(set(range(count - 1)) - users)}))
    names = st.lists(st.sampled_from(sorted(SPACES)), unique=True, max_size=2).map(tuple)
    params = [draw(names) for _ in given]
    unkept = draw(st.sets(st.integers(0, count - 1), max_size=1))
    return pipeline_of(given, params, unkept)


def keys_of(pipeline, params):
    """For each stage, a key that is equal where the stage and all that lead to it are equal."""
    names = [
        [
            f"{pipeline.stages[j].name}.{name}"
            for j in pipeline.graph.up_to(k)
            for name in pipeline.stages[j].space
        ]
        for k in range(len(pipeline.stages))
    ]
    return [f"s{k}({[params[name] for name in some]!r})" for k, some in enumerate(names)]


def trial_of(pipeline, params, value=0.0, costs=None):
    """A trial that has run all of its stages."""
    costs = [1.0] * len(pipeline.stages) if costs is None else costs
    return create_trial(
        value=value,
        params=params,
        distributions=pipeline.space,
        user_attrs={
            "stage_keys": keys_of(pipeline, params),
            "stage_costs": costs,
            "charged": sum(costs),
        },
    )


@st.composite
def trials(draw, pipeline, most=4):
    """Trials whose parameters have few values, so that many agree in some stages."""
    few = {"x": [0.1, 0.1 + 0.2, 0.7], "n": [1, 2, 3], "c": ["a", "b"]}
    values = {name: st.sampled_from(few[name.rpartition(".")[2]]) for name in pipeline.space}
    some = draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=most))
    return [trial_of(pipeline, params) for params in some]
