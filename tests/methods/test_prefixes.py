"""The prefix pool."""

import pytest
from optuna.trial import create_trial

from eeipu import Float, Int, Pipeline
from eeipu.methods.prefixes import Prefix, prefix_pool
from eeipu.stages.declaration import Stage

PIPELINE = Pipeline.declare(
    {
        "prep": {"a": Float(0, 1)},
        "train": {"b": Float(0, 1), "n": Int(1, 5)},
        "score": {"c": Float(0, 1)},
    }
)


def trial(a=0.1, b=0.2, n=3, c=0.4, keys=("p", "pt", "pts")):
    params = {"prep.a": a, "train.b": b, "train.n": n, "score.c": c}
    return create_trial(
        value=0.0,
        params=params,
        distributions=PIPELINE.space,
        user_attrs={"stage_keys": list(keys)},
    )


def test_pool_offers_all_kept_prefixes_and_the_empty_one():
    pool = prefix_pool(PIPELINE, (trial(),), {"p", "pt", "pts"})

    assert pool == [
        Prefix({}, (False, False, False)),
        Prefix({"prep.a": 0.1}, (True, False, False)),
        Prefix({"prep.a": 0.1, "train.b": 0.2, "train.n": 3}, (True, True, False)),
    ]


def test_pool_offers_what_is_there_now_only():
    assert len(prefix_pool(PIPELINE, (trial(),), {"pt"})) == 2
    assert prefix_pool(PIPELINE, (trial(),), ()) == [Prefix({}, (False, False, False))]


def test_pool_lists_a_shared_prefix_once():
    trials = (trial(), trial(b=0.9, keys=("p", "pu", "pus")))

    pool = prefix_pool(PIPELINE, trials, {"p", "pt", "pu"})

    assert [len(prefix.params) for prefix in pool] == [0, 1, 3, 3]


@pytest.mark.parametrize(("unkept", "lengths"), [("prep", [0]), ("train", [0, 1])])
def test_pool_ends_at_a_stage_that_is_not_memoized(unkept, lengths):
    stages = [Stage(name=s.name, space=s.space, memoize=s.name != unkept) for s in PIPELINE.stages]

    pool = prefix_pool(Pipeline(stages), (trial(),), {"p", "pt"})

    assert [len(prefix.params) for prefix in pool] == lengths


def test_a_first_stage_without_parameters_is_free_for_everyone():
    pipeline = Pipeline.declare({"load": {}, "fit": {"x": Float(0, 1)}})
    loaded = create_trial(
        value=0.0,
        params={"fit.x": 0.5},
        distributions=pipeline.space,
        user_attrs={"stage_keys": ["l", "lf"]},
    )

    assert prefix_pool(pipeline, (loaded,), {"l"}) == [Prefix({}, (True, False))]
