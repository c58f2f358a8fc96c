"""Which trials are the best ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eeipu.methods.several_objectives.fronts import best_first, first_front, totals

NONE = np.empty((0, 0))


def unlimited(values):
    return np.empty((len(values), 0))


def test_with_one_objective_the_largest_value_is_first_and_earlier_trials_win_ties():
    values = np.array([[1.0], [3.0], [np.nan], [3.0], [2.0]])
    assert best_first(values, unlimited(values)).tolist() == [1, 3, 4, 0]


def test_front_comes_after_front_and_ends_before_what_is_crowded():
    values = np.array([[0.0, 4.0], [1.0, 3.0], [1.1, 2.9], [4.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    order = best_first(values, unlimited(values)).tolist()
    assert set(order[:4]) == {0, 1, 2, 3}
    assert set(order[:2]) == {0, 3}  # the ends
    assert order[2:] == [2, 1, 4, 5]  # 2 has more room than 1


def test_what_keeps_its_limits_comes_before_what_is_better():
    values = np.array([[9.0], [1.0], [8.0], [2.0]])
    violations = np.array([[3.0], [0.0], [1.0], [-5.0]])
    assert best_first(values, violations).tolist() == [3, 1, 2, 0]


def test_violations_count_by_their_constraint_and_not_by_their_unit():
    """The first is beyond the first limit by all that was seen, and the second by half of each."""
    violations = np.array([[1000.0, -1.0], [500.0, 0.005], [-1.0, 0.01], [np.inf, np.nan]])
    assert totals(violations[:3]).tolist() == [1.0, 1.0, 1.0]
    assert totals(np.array([[-1.0, np.nan], [0.0, 0.0]])).tolist() == [0.0, 0.0]
    beyond = totals(violations)
    assert (beyond > 0).all()
    assert beyond[3] == beyond.max()
    assert np.isfinite(beyond).all()


@given(arrays(float, (9, 2), elements=st.integers(0, 4).map(float)))
def test_nothing_dominates_a_member_of_the_first_front(values):
    is_first = first_front(values)
    for row, is_in in zip(values, is_first, strict=True):
        dominates = (values >= row).all(axis=1) & (values > row).any(axis=1)
        assert is_in == (not dominates.any())


@given(arrays(float, (7, 3), elements=st.integers(0, 3).map(float)))
def test_all_trials_are_ranked_and_none_before_one_that_dominates_it(values):
    order = best_first(values, unlimited(values)).tolist()
    assert sorted(order) == list(range(7))
    for i, later in enumerate(order):
        for earlier in order[i + 1 :]:
            assert not (
                (values[earlier] >= values[later]).all() and (values[earlier] > values[later]).any()
            )


@pytest.mark.parametrize("count", [1, 2])
def test_no_trials_are_no_error(count):
    assert best_first(np.empty((0, count)), np.empty((0, 2))).tolist() == []
