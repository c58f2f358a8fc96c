"""The settings of a warm-up on graphs; those of chains are in `test_warm_up.py`."""

import branching
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples

from eeipu import Float, Pipeline
from eeipu.methods.reuse.shared_settings import _moments, settings


def moves_of(pipeline, n):
    """In which of the trials after the first each stage gets a new setting, `n - 1 x K`."""
    numbers = np.array([settings(pipeline, i) for i in range(n)])
    return np.diff(numbers, axis=0) > 0


def test_branches_move_in_different_trials():
    moves = moves_of(branching.pipeline_of(branching.BRANCHES), 17)

    counts = moves[:, :4].sum(axis=0)
    assert set(counts) == {8}  # each in every second trial
    assert moves[:, 4].all()
    assert len(np.unique(moves[:, :4].T, axis=0)) == 4
    assert moves[:, :4].sum(axis=1).tolist() == [2] * 16  # never all of them


def test_a_join_sees_more_combinations_than_its_branches_have_settings():
    pipeline = branching.pipeline_of(branching.BRANCHES)
    numbers = np.array([settings(pipeline, i)[:4] for i in range(10)])

    assert len(np.unique(numbers, axis=0)) == 10
    assert max(len(np.unique(column)) for column in numbers.T) <= 6


def test_the_branches_of_a_diamond_move_with_its_first_stage_and_else_in_turn():
    moves = moves_of(branching.pipeline_of(branching.DIAMOND), 17)

    assert moves.sum(axis=0).tolist() == [8, 12, 12, 16]
    alone = moves[~moves[:, 0]][:, 1:3]
    assert (alone.sum(axis=1) == 1).all()


@examples(deadline=None, max_examples=50)
@given(branching.pipelines())
def test_a_stage_moves_whenever_one_that_leads_to_it_does(pipeline):
    moves = moves_of(pipeline, 20)

    for k, stage in enumerate(pipeline.stages):
        for j in pipeline.graph.ancestors[k]:
            assert (moves[:, k] >= moves[:, j]).all()
        if not stage.memoize:
            users = pipeline.graph.needed_by[k]
            assert all((moves[:, k] >= moves[:, j]).all() for j in users)


@examples(deadline=None, max_examples=50)
@given(branching.pipelines())
def test_a_stage_that_has_settings_moves_in_every_second_trial_at_least(pipeline):
    for stage, moments in zip(pipeline.stages, _moments(pipeline), strict=True):
        length = sum(high - low for low, high in moments)
        assert 0.0 <= length <= 1.0 + 1e-12
        assert length >= 0.5 or not stage.space


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_the_moments_of_a_chain_are_nested(count):
    pipeline = Pipeline.declare({f"s{k}": {"x": Float(0, 1)} for k in range(count)})

    shares = np.linspace(0.5, 1.0, count) if count > 1 else [1.0]
    assert _moments(pipeline) == [((0.0, share),) for share in shares]
