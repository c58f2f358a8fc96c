"""Kept parts, and which of them go together."""

import pytest
from optuna.trial import create_trial

from eeipu import Float, Int, Pipeline
from eeipu.methods.reuse.candidates import Reuse
from eeipu.methods.reuse.kept_parts import KeptParts
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


def pool_of(pipeline, trials, kept, is_new=lambda params: False):
    parts = KeptParts(pipeline, trials, kept, is_new)
    assert parts.are_all_listed
    return parts.listed


def test_pool_offers_all_kept_prefixes_and_the_empty_one():
    pool = pool_of(PIPELINE, (trial(),), {"p", "pt", "pts"})

    assert pool == [
        Reuse({}, (False, False, False)),
        Reuse({"prep.a": 0.1}, (True, False, False)),
        Reuse({"prep.a": 0.1, "train.b": 0.2, "train.n": 3}, (True, True, False)),
    ]


def test_pool_offers_what_is_there_now_only():
    assert len(pool_of(PIPELINE, (trial(),), {"pt"})) == 2
    assert pool_of(PIPELINE, (trial(),), ()) == [Reuse({}, (False, False, False))]


def test_pool_lists_a_shared_prefix_once():
    trials = (trial(), trial(b=0.9, keys=("p", "pu", "pus")))

    pool = pool_of(PIPELINE, trials, {"p", "pt", "pu"})

    assert [len(reuse.params) for reuse in pool] == [0, 1, 3, 3]


@pytest.mark.parametrize(("unkept", "lengths"), [("prep", [0]), ("train", [0, 1])])
def test_pool_ends_at_a_stage_that_is_not_memoized(unkept, lengths):
    stages = [Stage(name=s.name, space=s.space, memoize=s.name != unkept) for s in PIPELINE.stages]

    pool = pool_of(Pipeline(stages), (trial(),), {"p", "pt"})

    assert [len(reuse.params) for reuse in pool] == lengths


def test_a_first_stage_without_parameters_is_free_for_everyone():
    pipeline = Pipeline.declare({"load": {}, "fit": {"x": Float(0, 1)}})
    loaded = create_trial(
        value=0.0,
        params={"fit.x": 0.5},
        distributions=pipeline.space,
        user_attrs={"stage_keys": ["l", "lf"]},
    )

    assert pool_of(pipeline, (loaded,), {"l"}) == [Reuse({}, (True, False))]
