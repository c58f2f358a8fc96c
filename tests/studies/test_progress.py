"""Which display shows a run, and what a run shows."""

import io
import logging
import re
from contextlib import nullcontext

import pytest
from rich.console import Console
from snapshots import ENDED, snapshot
from toys import Toy, config

import eeipu.studies.displays.progress
import eeipu.studies.one_run
from eeipu import StageRun, Tuner
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.methods.budget import Budget
from eeipu.stages.runs import PipelineRun
from eeipu.studies.displays.live_table import LiveTable
from eeipu.studies.displays.notebook_table import NotebookTable
from eeipu.studies.displays.progress import Reporter, showing
from eeipu.studies.displays.trial_lines import TrialLines


def terminal(term="xterm-256color"):
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=25, _environ={"TERM": term}
    )


# --- where it is shown


def test_a_terminal_shows_a_live_table():
    with showing(True, terminal()) as display:
        assert isinstance(display, LiveTable)


@pytest.mark.parametrize(
    "console",
    [Console(file=io.StringIO()), terminal("dumb")],
    ids=["no terminal", "a terminal that cannot redraw"],
)
def test_elsewhere_there_is_a_line_a_trial(console):
    with showing(True, console) as display:
        assert isinstance(display, TrialLines)
        display.trial_ended(ENDED)

    assert console.file.getvalue().startswith("trial 3: value 0.5, ")
    assert console.file.getvalue().count("\n") == 1


@pytest.mark.parametrize("console", [terminal(), Console(file=io.StringIO())])
def test_a_notebook_shows_a_table_whatever_its_streams_are(console, monkeypatch):
    shown = []
    monkeypatch.setattr(eeipu.studies.displays.progress, "kernel_display", lambda: shown_in(shown))
    with showing(True, console) as display:
        assert isinstance(display, NotebookTable)
        display.update(snapshot())

    assert len(shown) == 1
    assert console.file.getvalue() == ""


def shown_in(shown):
    return lambda bundle, **keywords: shown.append(bundle)


def test_no_progress_is_silent_everywhere(caplog, monkeypatch):
    console, shown = terminal(), []
    monkeypatch.setattr(eeipu.studies.displays.progress, "kernel_display", lambda: shown_in(shown))
    with caplog.at_level(logging.INFO, "eeipu"), showing(False, console) as display:
        display.update(snapshot())
        display.trial_ended(ENDED)

    assert console.file.getvalue() == ""
    assert caplog.records == shown == []


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
    monkeypatch.setattr(eeipu.studies.one_run, "showing", lambda progress: nullcontext(recorder))
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


def test_a_run_writes_a_line_a_trial_to_standard_error(capsys):
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
    tuner.enqueue(config(x=0.25, y=0.5))
    tuner.enqueue(config(x=0.25, y=0.75))
    capsys.readouterr()  # Optuna says that it has made a study
    tuner.run(1.0, max_trials=2)

    out, err = capsys.readouterr()
    assert out == ""
    assert re.sub(r"[-\d.]+ s elapsed", "_ s elapsed", err).splitlines() == [
        "trial 0: value -1.0625, best -1.0625, reused nothing, charged 6.5, spent 6.5 of 100, "
        "_ s elapsed",
        "trial 1: value -1, best -1, reused prep, charged 2.5, spent 9 of 100, _ s elapsed",
    ]


def test_a_run_without_progress_writes_nothing(capsys):
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
    capsys.readouterr()  # Optuna says that it has made a study
    tuner.run(1.0, max_trials=2, progress=False)

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("workers", "shown"), [(1, 4 * 6), (16, 1)])
def test_beside_many_workers_updates_are_shown_now_and_then(workers, shown, recorder, monkeypatch):
    monkeypatch.setattr(eeipu.studies.displays.progress, "SHOWN_EVERY_S", 1e9)
    tuner = Tuner(
        Toy().pipeline, budget=1e9, method="random", cache=None, executor=SimulatedPool(workers)
    )
    tuner.run(1.0, max_trials=6)

    assert len(recorder.updates) == shown  # of each trial there are four to see
    assert len(recorder.ended) == 6


def test_nothing_is_read_for_a_silent_display(monkeypatch):
    monkeypatch.setattr(eeipu.studies.displays.progress, "Snapshot", None)  # nobody makes one
    study = Tuner(Toy().pipeline, budget=9.0, method="random").run(1.0, progress=False)

    assert len(study.trials) == 2


# --- times and charges


class Now:
    s = 1000.0

    def __call__(self):
        return self.s


class Run:
    """A reporter's run whose trials cost what the test says."""

    def __init__(self, recorder, budget=None):
        self.now = Now()
        self.tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
        self.add(charged=10.0, suggest_s=7.0)  # of an earlier run
        self.recorder = recorder
        self.reporter = Reporter(
            self.tuner._trials,
            Budget(100.0) if budget is None else budget,
            recorder,
            workers=1,
            clock=self.now,
        )

    def add(self, charged, suggest_s):
        trial = self.tuner.study.ask()
        trial.set_user_attr("charged", charged)
        trial.set_user_attr("suggest_s", suggest_s)
        self.tuner.study.tell(trial, 1.0)
        return trial.number

    def end(self, number):
        runs = (StageRun("prep", "key"),)
        result = PipelineRun(("prep", "fit", "score"), runs, 1.0)
        self.reporter.trial_ended(number, result, lambda: "running fit of 7")
        return self.recorder.ended[-1]

    def seen(self):
        self.reporter.update(lambda: "running prep")
        return self.recorder.updates[-1]


def test_a_run_reports_its_own_times_and_the_studys_account(recorder):
    run = Run(recorder)
    run.now.s += 20.0
    ended = run.end(run.add(charged=5.0, suggest_s=2.0))

    assert (ended.elapsed_s, ended.choosing_s) == (20.0, 2.0)
    assert (ended.charged, ended.spent, ended.budget) == (5.0, 15.0, 100.0)
    assert ended.activity == "running fit of 7"


def test_the_end_is_estimated_from_how_fast_this_run_has_spent(recorder):
    run = Run(recorder)
    run.now.s += 3.0
    assert run.seen().end_s is None  # nothing is spent yet

    run.now.s += 17.0
    ended = run.end(run.add(charged=5.0, suggest_s=2.0))
    assert ended.end_s == 20.0 + 85.0 * 20.0 / 5.0

    run.now.s += 60.0  # a long stage, whose cost is not known before its end
    assert run.seen().end_s == ended.end_s


def test_a_spent_budget_has_no_estimated_end(recorder):
    run = Run(recorder)
    run.now.s += 20.0

    assert run.end(run.add(charged=95.0, suggest_s=2.0)).end_s is None


def test_the_first_of_all_limits_is_the_estimated_end(recorder):
    budget = Budget(100.0, timeout_s=300.0)
    run = Run(recorder, budget)
    bounds = budget.begin_run(20, run.now)
    assert run.seen().end_s == 300.0  # nothing is spent yet, and no trial has ended

    bounds.count_trial()
    run.now.s += 10.0
    run.end(run.add(charged=2.0, suggest_s=0.0))
    bounds.count_trial()
    assert run.seen().end_s == 20 * 10.0

    run.now.s += 10.0
    assert run.end(run.add(charged=48.0, suggest_s=0.0)).end_s == 20.0 + 40.0 * 20.0 / 50.0


def test_without_a_budget_there_is_no_estimated_end(recorder):
    run = Run(recorder, Budget())
    run.now.s += 20.0
    ended = run.end(run.add(charged=5.0, suggest_s=2.0))

    assert (ended.budget, ended.end_s, ended.spent) == (None, None, 15.0)
