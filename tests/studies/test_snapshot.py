"""The words for a study's state."""

import traceback

import pytest
from snapshots import ENDED, FAILED, TRACEBACK, snapshot

from eeipu import StageRun
from eeipu.studies.displays.snapshot import (
    TrainingProgress,
    account,
    outcome,
    reason,
    rungs,
    times,
    training,
)
from eeipu.studies.records.amounts import amount, duration


def error_of(function):
    try:
        function()
    except Exception:
        return traceback.format_exc()


def test_time_goes_on_while_nothing_else_changes():
    later = ENDED.at(1009.0)

    assert (later.elapsed_s, later.at(1010.0).elapsed_s) == (30.0, 31.0)
    assert later.at(1000.0) == ENDED


def test_only_a_failed_trial_has_a_failure():
    assert FAILED.failure == "fit: ValueError: no data"
    assert ENDED.failure is None
    assert snapshot().failure is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "15 s spent, 45 s left"),
        ({"spent": 61.0}, "61 s spent, 0 s left"),
        ({"budget": None}, "15 s spent"),
        ({"unit": ""}, "15 spent, 45 left"),
    ],
)
def test_the_account_says_what_is_spent_and_left(changes, words):
    assert account(snapshot(**changes)) == words


@pytest.mark.parametrize(
    ("end_s", "end"),
    [
        (None, ""),
        (84.0, " · ends in about 1 min 3 s"),
        (5.0, " · ends in about 0.0 s"),  # it is spent more slowly than so far
    ],
)
def test_the_times_say_how_long_it_took_and_will_take(end_s, end):
    assert times(snapshot(end_s=end_s)) == f"21 s elapsed · 3.2 s choosing{end}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (252.0, "4 min 12 s"),
        (3599.7, "1 h 0 min"),
        (90_000.0, "25 h 0 min"),
    ],
)
def test_durations_are_readable_at_any_length(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("cost", "unit", "words"),
    [
        (0.0123456, " s", "0.01235 s"),
        (1234.5678, " s", "1235 s"),
        (25_000.4, " s", "25,000 s"),
        (1e12, "", "1e+12"),
        (0.5, "", "0.5"),
    ],
)
def test_costs_are_readable_at_any_size(cost, unit, words):
    assert amount(cost, unit) == words


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (StageRun("fit", "key", cost=3.0), "3 s"),
        (StageRun("fit", "key", memoized=True, charged=0.1), "reused"),
        (StageRun("fit", "key", cost=0.5, error="Traceback"), "0.5 s, failed"),
        (StageRun("fit", "key", error="Traceback"), "cost unknown, failed"),
    ],
)
def test_outcomes_of_stages(run, words):
    assert outcome(run, " s") == words


def chained():
    try:
        {}["first"]
    except KeyError:
        raise ValueError("second\nthird") from None


def during():
    try:
        {}["first"]
    except KeyError as error:
        raise ValueError("second") from error


def grouped():
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


def grouped_with_tracebacks():
    try:
        during()
    except ValueError as error:
        raise ExceptionGroup("several", [error]) from None


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (chained, "ValueError: second"),
        (during, "ValueError: second"),
        (grouped, "ExceptionGroup: several (2 sub-exceptions)"),
        (grouped_with_tracebacks, "ValueError: second"),
        (lambda: compile("1 +", "file.py", "exec"), "SyntaxError: invalid syntax"),
        (lambda: [][0], "IndexError: list index out of range"),
    ],
    ids=["chained", "during", "grouped", "grouped with tracebacks", "syntax", "index"],
)
def test_the_reason_is_the_first_line_of_the_message(function, line):
    assert reason(error_of(function)) == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TRACEBACK, "ValueError: no data"),
        ("fit ran out of memory in stages.py:3", "fit ran out of memory in stages.py:3"),
        ("\n  the worker died\nat once", "the worker died"),
        ("Traceback", "Traceback"),
        ("Traceback (most recent call last):\n  ...", "Traceback (most recent call last):"),
        ("", ""),
    ],
)
def test_a_reason_is_found_in_any_text(error, line):
    assert reason(error) == line


def test_a_long_reason_is_cut():
    line = reason("ValueError: " + "x" * 1000)

    assert len(line) == 200
    assert line.endswith("xxx...")


def test_trainings_say_what_was_reached_what_is_shared_and_who_works():
    now = TrainingProgress({3: 27, 9: 9, 27: 3}, 2.4567, 120, busy=3, workers=4)
    assert training(snapshot(training=now)) == (
        "reached step 3: 27, 9: 9, 27: 3 · 120 steps shared, merge rate 2.46 · 3 of 4 workers busy"
    )
    assert training(snapshot()) == ""
    early = TrainingProgress({}, 1.0, 0, busy=1, workers=1)
    assert training(snapshot(training=early)) == (
        "reached no step yet · 0 steps shared, merge rate 1.00 · 1 of 1 worker busy"
    )


def test_of_very_many_steps_some_are_shown():
    now = TrainingProgress(dict.fromkeys(range(1, 101), 1), 1.0, 0, busy=0, workers=2)
    shown = rungs(now)
    assert shown.startswith("step 1: 1, ")
    assert shown.endswith(", 100: 1")
    assert shown.count(":") == 8
