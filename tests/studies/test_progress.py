"""The live display, the log lines, and silence."""

import io
import logging
from contextlib import nullcontext

import pytest
from rich.console import Console
from toys import Toy, config

import eeipu.studies.progress
import eeipu.tuner
from eeipu import StageRun, Tuner
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.studies.progress import Snapshot, render, showing


def terminal(term="xterm-256color"):
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=25, _environ={"TERM": term}
    )


def snapshot(**changes):
    return Snapshot(
        **{
            "study_name": "digits",
            "trials": 3,
            "failed": 0,
            "budget": 60.0,
            "spent": 15.0,
            "saved": 2.5,
            "unit": " s",
            "best_value": 0.93456789,
            "number": 4,
            "value": None,
            "stage_names": ("prep", "fit", "score"),
            "stage_runs": (),
            "activity": "",
            **changes,
        }
    )


ENDED = snapshot(
    number=3,
    value=0.5,
    stage_runs=(
        StageRun("prep", "key", memoized=True, saved=2.5),
        StageRun("fit", "key", cost=1.25),
        StageRun("score", "key", cost=0.01),
    ),
)


def text_of(*args):
    console = Console(width=80, file=io.StringIO())
    console.print(render(*args))
    return console.file.getvalue()


def lines_of(*args):
    return [" ".join(line.split()) for line in text_of(*args).splitlines()]


# --- what is shown


def test_budget_best_value_and_savings_are_shown():
    text = text_of(snapshot(), None)

    for words in ("digits", "15 s spent", "45 s left", "3 trials", "best 0.934568"):
        assert words in text
    assert "saved by the cache 2.5 s" in text
    assert "failed" not in text


def test_the_bar_is_as_long_as_what_is_spent():
    def bar(spent):
        return text_of(snapshot(spent=spent), None).count("━")

    assert bar(0.0) < bar(30.0) < bar(60.0) == bar(90.0) == 30


def test_a_budget_that_is_exceeded_leaves_nothing():
    assert "61 s spent, 0 s left" in text_of(snapshot(spent=61.0), None)


def test_failures_are_counted():
    assert "3 trials · 2 failed · best" in text_of(snapshot(failed=2), None)


def test_before_the_first_success_there_is_no_best_value():
    assert "best none yet" in text_of(snapshot(best_value=None), None)


def test_a_trials_stages_are_shown_with_what_was_free_and_what_it_cost():
    assert lines_of(ENDED, None)[2:] == [
        "trial 3",
        "prep free",
        "fit 1.25 s",
        "score 0.01 s",
        "value 0.5",
        "",
    ]


def test_the_last_trial_is_shown_beside_the_current_one():
    now = snapshot(stage_runs=(StageRun("prep", "key", cost=3.0),), activity="running fit")

    assert lines_of(now, ENDED)[2:] == [
        "trial 3 trial 4",
        "prep free 3 s",
        "fit 1.25 s",
        "score 0.01 s",
        "value 0.5",
        "running fit",
    ]


def test_a_failed_stage_is_named_with_its_cost():
    runs = (
        StageRun("prep", "key", cost=3.0),
        StageRun("fit", "key", cost=0.5, error="Traceback"),
    )
    assert "fit 0.5 s, failed" in lines_of(snapshot(stage_runs=runs), None)


def test_a_stage_without_a_cost_is_shown_as_such():
    runs = (StageRun("prep", "key", error="Traceback"),)

    assert "prep cost unknown, failed" in lines_of(snapshot(stage_runs=runs), None)


def test_brackets_in_names_are_only_brackets():
    odd = snapshot(
        study_name="[bold]a",
        stage_names=("[red]b",),
        stage_runs=(StageRun("[red]b", "key", cost=1.0),),
        activity="running [red]b",
    )

    for words in ("[bold]a", "[red]b  ", "running [red]b"):
        assert words in text_of(odd, None)


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
    runs = (StageRun("prep", "key", cost=cost),)

    assert f"prep {words}" in lines_of(snapshot(stage_runs=runs, unit=unit), None)


# --- where it is shown


def test_a_terminal_shows_a_live_table(caplog):
    console = terminal()
    with caplog.at_level(logging.INFO, "eeipu"), showing(True, console) as display:
        display.update(snapshot(number=3, activity="running fit"))
        display.trial_ended(ENDED)
        display.update(snapshot(activity="choosing a configuration"))

    last = console.file.getvalue().rpartition("digits")[2]  # the last frame stays
    for words in ("trial 3", "trial 4", "1.25 s", "choosing a configuration"):
        assert words in last
    assert caplog.records == []


@pytest.mark.parametrize(
    "console",
    [Console(file=io.StringIO()), terminal("dumb")],
    ids=["no terminal", "a terminal that cannot redraw"],
)
def test_elsewhere_there_is_a_log_line_a_trial(console, caplog):
    with caplog.at_level(logging.INFO, "eeipu"), showing(True, console) as display:
        display.update(snapshot(number=3, activity="running fit"))
        display.trial_ended(ENDED)

    assert caplog.messages == [
        "trial 3: value 0.5, best 0.934568, spent 15 s of 60 s "
        "(prep free, fit 1.25 s, score 0.01 s)"
    ]
    assert console.file.getvalue() == ""


def test_a_log_line_says_what_failed(caplog):
    failed = snapshot(best_value=None, stage_runs=(StageRun("prep", "k", cost=1.0, error="..."),))
    with (
        caplog.at_level(logging.INFO, "eeipu"),
        showing(True, Console(file=io.StringIO())) as display,
    ):
        display.trial_ended(failed)

    assert caplog.messages == ["trial 4: failed, best -, spent 15 s of 60 s (prep 1 s, failed)"]


def test_no_progress_is_silent_even_on_a_terminal(caplog):
    console = terminal()
    with caplog.at_level(logging.INFO, "eeipu"), showing(False, console) as display:
        display.update(snapshot())
        display.trial_ended(ENDED)

    assert console.file.getvalue() == ""
    assert caplog.records == []


def test_the_display_ends_with_the_run_even_if_that_raises():
    console = terminal()

    def interrupted():
        with showing(True, console) as display:
            display.update(snapshot())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue().endswith("\x1b[?25h")  # the cursor is back


# --- what a run shows


class Recorder:
    shows_updates = shows_ends = True

    def __init__(self):
        self.updates, self.ended = [], []

    def update(self, snapshot):
        self.updates.append(snapshot)

    def trial_ended(self, snapshot):
        self.ended.append(snapshot)


@pytest.fixture
def recorder(monkeypatch):
    """What a run would have shown."""
    recorder = Recorder()
    monkeypatch.setattr(eeipu.tuner, "showing", lambda progress: nullcontext(recorder))
    return recorder


def test_a_run_shows_every_step(recorder):
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
    tuner.enqueue(config(x=0.25, y=0.5))
    tuner.enqueue(config(x=0.25, y=0.75))
    tuner.run(1.0, max_trials=2)

    assert [(each.number, each.activity, len(each.stage_runs)) for each in recorder.updates] == [
        (2, "choosing a configuration", 0),
        (0, "running prep", 0),
        (0, "running fit", 1),
        (0, "running score", 2),
        (2, "choosing a configuration", 0),
        (1, "running fit", 1),
        (1, "running score", 2),
    ]
    first, second = recorder.ended
    assert [run.memoized for run in second.stage_runs] == [True, False, False]
    assert (first.spent, second.spent) == (6.5, 9.0)
    assert (first.saved, second.saved) == (0.0, 4.0)
    assert second.value == second.best_value == tuner.study.best_value
    assert second.trials == 2
    assert second.unit == ""  # these stages declare their costs


def test_a_run_shows_failures_and_the_best_of_a_minimisation(recorder):
    def fail(name, params):
        if name == "score" and params["k"] == 8:
            raise RuntimeError

    tuner = Tuner(Toy(fail).pipeline, budget=100.0, direction="minimize", method="random")
    tuner.enqueue(config(k=8))
    tuner.enqueue(config(y=0.5))
    tuner.enqueue(config(y=0.25))
    tuner.run(1.0, max_trials=3)

    failed, first, second = recorder.ended
    assert (failed.trials, failed.failed, failed.best_value, failed.value) == (0, 1, None, None)
    assert second.best_value == min(first.value, second.value)


def test_run_writes_to_standard_error_only_what_it_should(capsys):
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
    capsys.readouterr()  # Optuna says that it has made a study
    tuner.run(1.0, max_trials=2, progress=False)
    tuner.run(1.0, max_trials=2)

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("workers", "shown"), [(1, 4 * 6), (16, 1)])
def test_beside_many_workers_updates_are_shown_now_and_then(workers, shown, recorder, monkeypatch):
    monkeypatch.setattr(eeipu.studies.progress, "SHOWN_EVERY_S", 1e9)
    tuner = Tuner(
        Toy().pipeline, budget=1e9, method="random", cache=None, executor=SimulatedPool(workers)
    )
    tuner.run(1.0, max_trials=6)

    assert len(recorder.updates) == shown  # of each trial there are four to see
    assert len(recorder.ended) == 6


def test_nothing_is_read_for_a_silent_display(monkeypatch):
    monkeypatch.setattr(eeipu.studies.progress, "Snapshot", None)  # nobody makes one
    study = Tuner(Toy().pipeline, budget=9.0, method="random").run(1.0, progress=False)

    assert len(study.trials) == 2
