"""The table on a terminal."""

import io
import logging

import pytest
from rich.console import Console
from snapshots import ENDED, FAILED, snapshot

from eeipu import StageRun
from eeipu.studies.displays.live_table import LiveTable, render


def terminal():
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=25, _environ={"TERM": "xterm"}
    )


def last_frame(console):
    return console.file.getvalue().rpartition("digits")[2]


def text_of(*args):
    console = Console(width=80, file=io.StringIO())
    console.print(render(*args))
    return console.file.getvalue()


def lines_of(*args):
    return [" ".join(line.split()) for line in text_of(*args).splitlines()]


# --- a frame


def test_budget_best_value_and_savings_are_shown():
    text = text_of(snapshot(), None)

    for words in ("digits", "15 s spent", "45 s left", "3 trials", "best 0.934568"):
        assert words in text
    assert "saved by the cache 2.5 s" in text
    assert "failed" not in text


def test_times_are_shown_with_the_estimated_end():
    assert lines_of(snapshot(end_s=84.0), None)[2] == (
        "21 s elapsed · 3.2 s choosing · ends in about 1 min 3 s"
    )


def test_the_bar_is_as_long_as_what_is_spent():
    def bar(spent):
        return text_of(snapshot(spent=spent), None).count("━")

    assert bar(0.0) < bar(30.0) < bar(60.0) == bar(90.0) == 30


def test_without_a_budget_there_is_no_bar():
    text = text_of(snapshot(budget=None), None)

    assert text.startswith("digits  15 s spent\n")
    assert "left" not in text
    assert "━" not in text


def test_a_budget_that_is_exceeded_leaves_nothing():
    assert "61 s spent, 0 s left" in text_of(snapshot(spent=61.0), None)


def test_failures_are_counted():
    assert "3 trials · 2 failed · best" in text_of(snapshot(failed=2), None)


def test_before_the_first_success_there_is_no_best_value():
    assert "best none yet" in text_of(snapshot(best_value=None), None)


def test_a_trials_stages_are_shown_with_what_was_reused_and_what_it_cost():
    assert lines_of(ENDED, None)[3:] == [
        "trial 3",
        "prep reused",
        "fit 1.25 s",
        "score 0.01 s",
        "value 0.5",
        "",
    ]


def test_the_last_trial_is_shown_beside_the_current_one():
    now = snapshot(stage_runs=(StageRun("prep", "key", cost=3.0),), activity="running fit")

    assert lines_of(now, ENDED)[3:] == [
        "trial 3 trial 4",
        "prep reused 3 s",
        "fit 1.25 s",
        "score 0.01 s",
        "value 0.5",
        "running fit",
    ]


def test_a_failed_stage_is_named_with_its_cost():
    assert "fit 0.5 s, failed" in lines_of(FAILED, None)


def test_brackets_in_names_are_only_brackets():
    odd = snapshot(
        study_name="[bold]a",
        stage_names=("[red]b",),
        stage_runs=(StageRun("[red]b", "key", cost=1.0),),
        activity="running [red]b",
    )

    for words in ("[bold]a", "[red]b  ", "running [red]b"):
        assert words in text_of(odd, None)


# --- on a terminal


def test_the_last_frame_stays(caplog):
    console = terminal()
    with caplog.at_level(logging.INFO, "eeipu"), LiveTable(console).open() as table:
        table.update(snapshot(number=3, activity="running fit"))
        table.trial_ended(ENDED)
        table.update(snapshot(activity="choosing a configuration"))

    for words in ("trial 3", "trial 4", "1.25 s", "choosing a configuration"):
        assert words in last_frame(console)
    assert caplog.records == []


def test_nothing_is_drawn_before_there_is_something_to_see():
    console = terminal()
    with LiveTable(console).open():
        pass

    assert "digits" not in console.file.getvalue()


def test_time_goes_on_while_a_stage_runs():
    console, now_s = terminal(), [1000.0]
    with LiveTable(console, lambda: now_s[0]).open() as table:
        table.update(snapshot(activity="running fit"))
        now_s[0] = 1300.0

    assert "5 min 21 s elapsed" in last_frame(console)


def test_at_the_end_nothing_is_estimated():
    console = terminal()
    with LiveTable(console, lambda: 1000.0).open() as table:
        table.trial_ended(snapshot(end_s=84.0))

    assert "elapsed" in last_frame(console)
    assert "about" not in last_frame(console)


def test_a_failure_is_shown_at_once_above_the_table_and_stays():
    console = terminal()
    with LiveTable(console).open() as table:
        table.trial_ended(FAILED)
        assert "trial 3 failed in fit: ValueError: no data" in console.file.getvalue()
        table.trial_ended(ENDED)

    assert console.file.getvalue().count("failed in fit") == 1


def test_the_display_ends_with_the_run_even_if_that_raises():
    console = terminal()

    def interrupted():
        with LiveTable(console).open() as table:
            table.update(snapshot())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue().endswith("\x1b[?25h")  # the cursor is back
