"""Kept parts, and which of them go together."""

import branching
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial

from eeipu import Float, Int, Pipeline
from eeipu.methods.reuse.candidates import Reuse
from eeipu.methods.reuse.kept_parts import FULL_EFFORT, KeptParts
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


# --- Graphs


@st.composite
def offers(draw):
    """A graph, trials of it, and the keys of the outputs that are kept."""
    pipeline = draw(branching.pipelines(most=5))
    some = draw(branching.trials(pipeline, most=3))
    keys = sorted({key for trial in some for key in trial.user_attrs["stage_keys"]})
    return pipeline, some, draw(st.sets(st.sampled_from(keys)))


def parts_by_hand(pipeline, some, kept):
    """Of each kept part: its stage, and what it fixes."""
    found = []
    for trial in some:
        for k, key in enumerate(trial.user_attrs["stage_keys"][:-1]):
            if key in kept and pipeline.memoizes[k]:
                stages = [pipeline.stages[j].name for j in pipeline.graph.up_to(k)]
                fixed = {n: v for n, v in trial.params.items() if n.partition(".")[0] in stages}
                found.append((k, fixed))
    return found


def combinations_by_hand(parts):
    """What all sets of parts fix that agree wherever two of them fix a value."""
    found = [{}]
    for _, fixed in parts:
        for before in list(found):
            joined = {**before, **fixed}
            if joined not in found and before.items() <= joined.items():
                found.append(joined)
    return found


@settings(deadline=None, max_examples=40)
@given(offers())
def test_combinations_are_all_sets_of_parts_that_go_together(offer):
    pipeline, some, kept = offer
    parts = KeptParts(pipeline, some, kept, lambda params: True)
    expected = combinations_by_hand(parts_by_hand(pipeline, some, kept))

    listed = [reuse.params for reuse in parts.listed]

    assert parts.are_all_listed == (len(expected) <= max(FULL_EFFORT, 1 + len(parts.codes)))
    assert len(listed) == len({repr(sorted(each.items())) for each in listed})
    assert all(each in expected for each in listed)
    if parts.are_all_listed:
        assert len(listed) == len(expected)


@settings(deadline=None, max_examples=40)
@given(offers())
def test_a_stage_is_free_if_the_graph_says_that_it_need_not_run(offer):
    pipeline, some, kept = offer
    by_hand = parts_by_hand(pipeline, some, kept)

    for reuse in KeptParts(pipeline, some, kept, lambda params: True).listed:
        held = [
            any(stage == k and fixed.items() <= reuse.params.items() for stage, fixed in by_hand)
            for k in range(len(pipeline.stages))
        ]
        assert reuse.memoized == tuple(not runs for runs in pipeline.graph.must_run(held))


@settings(deadline=None, max_examples=30)
@given(offers())
def test_fixed_values_are_the_trials_own(offer):
    pipeline, some, kept = offer
    own = {(name, type(value), value) for trial in some for name, value in trial.params.items()}

    for reuse in KeptParts(pipeline, some, kept, lambda params: True).listed:
        assert {(name, type(v), v) for name, v in reuse.params.items()} <= own


def branches(count):
    """Trials of four branches and a join; all outputs of the branches are kept."""
    pipeline = branching.pipeline_of(branching.BRANCHES)
    points = np.random.default_rng(0).random((count, 5)).tolist()
    names = list(pipeline.space)
    some = [branching.trial_of(pipeline, dict(zip(names, x, strict=True))) for x in points]
    return pipeline, some, {key for trial in some for key in trial.user_attrs["stage_keys"]}


def test_many_combinations_are_not_listed_but_those_of_one_trial_are():
    pipeline, some, kept = branches(5)
    parts = KeptParts(pipeline, some, kept, lambda params: True)

    sizes = [len(reuse.params) for reuse in parts.listed]

    assert not parts.are_all_listed
    assert [sizes.count(size) for size in range(5)] == [1, 20, 0, 20, 5]


def test_branches_of_several_trials_go_together_and_all_stages_before_them_are_free():
    pipeline, some, kept = branches(2)
    parts = KeptParts(pipeline, some, kept, lambda params: True)
    mixed = parts.codes[[0, 5]].max(axis=0)

    (reuse,) = parts.reuses(mixed[None])

    assert reuse.params == {"s0.x": some[0].params["s0.x"], "s1.x": some[1].params["s1.x"]}
    assert reuse.memoized == (True, True, False, False, False)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_combination_that_fixes_everything_is_offered_if_it_is_new(is_new):
    """A join without hyper-parameters: its branches may come from different trials."""
    pipeline = branching.pipeline_of(((), (), (0, 1)), (("x",), ("x",), ()))
    some = [branching.trial_of(pipeline, {"s0.x": x, "s1.x": x}) for x in (0.2, 0.8)]
    kept = {key for trial in some for key in trial.user_attrs["stage_keys"]}
    ran = [trial.params for trial in some]

    parts = KeptParts(pipeline, some, kept, lambda params: is_new and params not in ran)

    whole = [reuse.params for reuse in parts.listed if len(reuse.params) == 2]
    mixed = [{"s0.x": 0.2, "s1.x": 0.8}, {"s0.x": 0.8, "s1.x": 0.2}]
    assert sorted(whole, key=repr) == (mixed if is_new else [])


def test_values_that_are_equal_but_not_the_same_do_not_go_together():
    """A study never mixes them, but trials that others made may."""
    pipeline = branching.pipeline_of(branching.DIAMOND)
    points = [{"s0.x": 1.0, "s1.x": 0.1, "s2.x": 0.2, "s3.x": 0.3}]
    points.append({**points[0], "s0.x": 1, "s1.x": 0.5, "s2.x": 0.6})
    some = [branching.trial_of(pipeline, params) for params in points]
    for trial, params in zip(some, points, strict=True):
        trial.params = params
    kept = {key for trial in some for key in trial.user_attrs["stage_keys"]}

    for reuse in KeptParts(pipeline, some, kept, lambda params: True).listed:
        own = points[1] if type(reuse.params.get("s0.x")) is int else points[0]
        assert reuse.params.items() <= own.items()


def test_what_a_stage_that_is_kept_itself_needs_is_free_even_if_it_is_not_kept():
    pipeline = branching.pipeline_of(branching.DIAMOND)
    trial = branching.trial_of(pipeline, dict.fromkeys(pipeline.space, 0.5))
    keys = trial.user_attrs["stage_keys"]

    masks = {
        tuple(reuse.params): reuse.memoized
        for reuse in KeptParts(pipeline, [trial], {keys[1], keys[2]}, lambda params: True).listed
    }

    assert masks == {
        (): (False, False, False, False),
        ("s0.x", "s1.x"): (False, True, False, False),  # the other branch needs the first stage
        ("s0.x", "s2.x"): (False, False, True, False),
        ("s0.x", "s1.x", "s2.x"): (True, True, True, False),
    }
