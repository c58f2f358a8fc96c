"""A line for each trial, on standard error or in the user's log."""

import io
import logging

import pytest
from rich.console import Console
from snapshots import ENDED, FAILED, snapshot

from eeipu.studies.displays.trial_lines import TrialLines, line_of

LINE = (
    "trial 3: value 0.5, best 0.934568, reused prep, charged 1.26 s, spent 15 s of 60 s, "
    "21 s elapsed"
)


@pytest.fixture
def lines():
    return TrialLines(Console(file=io.StringIO(), width=40))


@pytest.fixture
def written(lines):
    """What went to the console."""
    return lambda: lines._console.file.getvalue()


def test_a_trial_is_one_line_of_any_length(lines, written):
    lines.update(snapshot(number=3, activity="running fit"))
    lines.trial_ended(ENDED)

    assert written() == f"{LINE}\n"


def test_a_failure_is_shown_with_its_stage_and_reason():
    assert line_of(FAILED) == (
        "trial 3: failed, best 0.934568, reused prep, charged 0.5 s, spent 15 s of 60 s, "
        "21 s elapsed; failed in fit: ValueError: no data"
    )


def test_without_a_budget_there_is_no_total():
    assert "charged 1.26 s, spent 15 s, 21" in line_of(snapshot(budget=None, charged=1.26))


def test_before_the_first_success_there_is_no_best_value():
    assert "no best value yet, reused nothing" in line_of(snapshot(best_value=None))


def test_brackets_and_colours_are_left_as_they_are(written, lines):
    lines.trial_ended(snapshot(unit=" [red]"))

    assert "spent 15 [red] of 60 [red]" in written()


class Broken(io.StringIO):
    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("file", [Broken(), io.StringIO()], ids=["broken", "closed"])
def test_a_search_outlives_the_reader_of_its_lines(file):
    lines = TrialLines(Console(file=file))
    if not isinstance(file, Broken):
        file.close()

    lines.trial_ended(ENDED)


def test_lines_go_to_the_log_where_that_takes_them(caplog, lines, written):
    with caplog.at_level(logging.INFO, "eeipu"):
        lines.trial_ended(ENDED)

    assert caplog.messages == [LINE]
    assert written() == ""


@pytest.mark.parametrize("logger_level", [logging.WARNING, logging.INFO])
def test_a_log_that_would_swallow_them_gets_none(logger_level, caplog, lines, written, monkeypatch):
    logger = logging.getLogger("eeipu")
    handler = logging.StreamHandler(io.StringIO())
    handler.setLevel(logging.WARNING)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    with caplog.at_level(logger_level, "eeipu"):
        lines.trial_ended(ENDED)

    assert handler.stream.getvalue() == ""
    assert written() == f"{LINE}\n"
