"""Combinations of kept parts that good candidates find where not all are listed."""

from itertools import product

import branching
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.reuse.exchange import PartExchange
from eeipu.methods.reuse.kept_parts import KeptParts
from eeipu.methods.reuse.value_codes import FREE

PIPELINE = branching.pipeline_of(branching.BRANCHES)


def parts_of(X, pipeline=PIPELINE, is_new=lambda params: True):
    """The parts of trials at these points; all outputs are kept."""
    names = list(pipeline.space)
    some = [branching.trial_of(pipeline, dict(zip(names, x, strict=True))) for x in X.tolist()]
    kept = {key for trial in some for key in trial.user_attrs["stage_keys"]}
    return KeptParts(pipeline, some, kept, is_new)


def bowl(target, worth, coupling=0.0):
    """The closer to the target the better; each stage that is free is worth something."""

    def score(X, memoized):
        away = X[:, 0] - torch.from_numpy(target)
        together = coupling * away[:, :4].sum(-1).square()
        return -away.square().sum(-1) - together + memoized.double() @ torch.from_numpy(worth)

    return score


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_the_best_of_all_combinations_is_found(seed, worth):
    """In a bowl each branch is best with the kept value that is nearest, or at the target."""
    rng = np.random.default_rng(seed)
    X, target = rng.random((5, 5)), rng.random(5)
    worths = worth * rng.random(5)
    parts = parts_of(X)
    assert not parts.are_all_listed
    expected = sum(max(0.0, worths[k] - np.square(X[:, k] - target[k]).min()) for k in range(4))

    best = next(maximize(bowl(target, worths), PIPELINE.cube, parts.listed, parts=parts, seed=seed))

    assert best.score == pytest.approx(expected, abs=1e-4)
    own = {name: {trial[i] for trial in X.tolist()} for i, name in enumerate(PIPELINE.space)}
    assert all(value in own[name] for name, value in best.reuse.params.items())
    assert best.reuse.params.items() <= best.params.items()


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_all_combinations_is_found_where_branches_matter_together(seed):
    rng = np.random.default_rng(seed)
    X, target, worths = rng.random((4, 5)), rng.random(5), np.full(5, 0.05)
    score, parts = bowl(target, worths, coupling=3.0), parts_of(X)
    rows = np.array([*product(range(FREE, 4), repeat=4)])
    every = parts.reuses(np.column_stack([rows, np.full(len(rows), FREE)]))

    best = next(maximize(score, PIPELINE.cube, parts.listed, parts=parts, seed=seed))

    exhaustive = max(
        next(maximize(score, PIPELINE.cube, every[i : i + 48], seed=seed + 1)).score
        for i in range(0, len(every), 48)
    )
    assert best.score >= exhaustive - 1e-2


def test_a_join_without_hyperparameters_is_given_new_combinations_only():
    pipeline = branching.pipeline_of(branching.BRANCHES, (("x",),) * 4 + ((),))
    X = np.random.default_rng(0).random((5, 4))
    ran = [dict(zip(pipeline.space, x, strict=True)) for x in X.tolist()]
    parts = parts_of(X, pipeline, is_new=lambda params: params not in ran)
    score = bowl(X[0], np.ones(5))

    found = list(maximize(score, pipeline.cube, parts.listed, parts=parts, seed=0))

    whole = [candidate for candidate in found if len(candidate.reuse.params) == 4]
    assert whole
    assert all(candidate.params not in ran for candidate in whole)
    assert whole[0].reuse.memoized == (True, True, True, True, False)


def test_parts_that_contradict_the_one_taken_are_given_up_with_nothing_else():
    """In a diamond, a branch of another trial needs that trial's first stage."""
    pipeline = branching.pipeline_of(branching.DIAMOND)
    X = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6]])
    parts = parts_of(X, pipeline)
    first = parts.codes[[1, 2]].max(axis=0)[None]  # both branches of the first trial
    target = np.array([0.9, 0.8, 0.3, 0.4])

    def score(rows, points):
        return -np.square(points - target).sum(axis=-1)

    rows, points = PartExchange(parts, score, X[:1]).better(first, X[:1].copy(), np.array([-10.0]))

    # The second branch is free, and stays where it was.
    assert parts.reuses(rows)[0].params == {"s0.x": 0.9, "s1.x": 0.8}
    np.testing.assert_allclose(points[0], [0.9, 0.8, 0.3, 0.4])


def test_what_is_given_up_gets_the_values_of_the_best_other_point():
    X = np.random.default_rng(0).random((1, 5))
    parts = parts_of(X)
    raw = np.random.default_rng(1).random((16, 5))
    target = np.where(np.arange(5) == 2, raw[7], X[0])

    rows, points = PartExchange(
        parts, lambda rows, points: -np.abs(points - target).sum(axis=-1), raw
    ).better(parts.codes.max(axis=0)[None], X, np.array([-10.0]))

    assert (rows[0] == FREE).tolist() == [False, False, True, False, True]
    np.testing.assert_allclose(points[0], target)


def test_a_combination_is_changed_once():
    X = np.random.default_rng(0).random((3, 5))
    parts = parts_of(X)
    exchange = PartExchange(parts, lambda rows, points: np.zeros(len(rows)), X)
    start = parts.codes[:1], X[:1], np.zeros(1)

    assert len(exchange.better(*start)[0]) > 0
    assert len(exchange.better(*start)[0]) == 0
