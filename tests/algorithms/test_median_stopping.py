"""Median stopping: which trials stop, and when."""

import math

import pytest
from playing import CONFIGS, asks, play, stops

from eeipu.algorithms.median_stopping import MedianStopping
from eeipu.algorithms.moves import OtherTrial


def test_a_trial_below_the_median_stops():
    median = MedianStopping([{"x": x} for x in (5, 6, 1)], max_steps=2, every=1, concurrency=3)
    assert asks(median.start()) == [(0, 1), (1, 1), (2, 1)]
    for trial, value in enumerate((5.0, 6.0)):
        assert asks(median.tell(trial, 1, value)) == [(trial, 2)]
        assert stops(median.tell(trial, 2, value)) == [trial]
    assert stops(median.tell(2, 1, 1.0)) == [2]


def test_nobody_is_stopped_for_trials_that_still_run():
    median = MedianStopping([{"x": x} for x in (5, 1)], max_steps=2, every=1, concurrency=2)
    list(median.start())
    median.tell(0, 1, 5.0)
    assert asks(median.tell(1, 1, 1.0)) == [(1, 2)]


def test_a_late_best_value_counts_for_a_trial():
    median = MedianStopping([{"x": x} for x in range(2)], max_steps=3, every=1, concurrency=2)
    list(median.start())
    for step in (1, 2, 3):
        median.tell(0, step, 5.0)
    assert stops(median.tell(1, 1, 9.0)) == []
    assert stops(median.tell(1, 2, 0.0)) == []


def test_nobody_is_stopped_too_early_and_the_end_is_the_end():
    history = play(
        MedianStopping(CONFIGS, max_steps=5, every=2, min_steps=4, concurrency=9),
    )
    assert all(steps[:2] == [2, 4] for steps in history.values())
    assert history[8] == [2, 4, 5]


def test_a_failed_trial_makes_room_for_a_new_one():
    median = MedianStopping(CONFIGS, max_steps=4, every=2)
    list(median.start())
    moves = median.tell(0, 2, None)
    assert (stops(moves), asks(moves)) == ([0], [(1, 2)])


@pytest.mark.parametrize("value", [math.inf, 0.0])
def test_without_others_nobody_is_poor(value):
    assert len(play(MedianStopping(CONFIGS[:1], max_steps=4, every=2), lambda c, s: value)) == 1


def test_the_ended_trials_of_other_processes_take_part_until_they_count_no_more():
    ended = OtherTrial(7, {}, {1: 3.0, 2: 5.0}, has_ended=True)
    runs = OtherTrial(8, {}, {1: 9.0})
    batches = iter([[(None, ended), (None, runs)], [(ended, None)]])
    median = MedianStopping(
        [{"x": x} for x in range(4)], max_steps=2, every=1, news=lambda: next(batches, ())
    )
    assert asks(median.start()) == [(0, 1)]
    assert stops(median.tell(0, 1, 2.0)) == [0]  # below 3
    assert asks(median.tell(1, 1, 2.0)) == [(1, 2)]  # trial 0 is all that is left
