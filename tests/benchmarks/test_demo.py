"""The demo: its summary of hand-made studies, and the two searches that it compares."""

import io
import sys

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from eeipu import MissingExtraError
from eeipu.benchmarks import demo, digits
from eeipu.report.figures import plot_best_over_budget


@pytest.fixture
def study():
    """Two warm-up trials, one of them failed, and two trials that reuse outputs."""
    study = optuna.create_study(direction="maximize")
    for value, costs, charged, saved in [
        (None, [2.0, None], 2.0, 0.0),
        (0.5, [2.0, 1.0], 3.0, 0.0),
        (0.75, [None, 1.5], 1.75, 2.0),
        (0.25, [None, None], 0.5, 3.0),
    ]:
        attributes = {"stage_costs": costs, "charged": charged, "saved": saved, "suggest_s": 0.125}
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, user_attrs=attributes))
    return study


def test_a_summary_adds_up_what_the_trials_say(study):
    assert demo.summarize(study, warm_up=2) == demo.Summary(
        candidates=3,
        failed=1,
        best=0.75,
        gain=0.25,
        stage_s=(4.0, 2.5),
        loading_s=0.75,
        saved_s=5.0,
        optimiser_s=0.5,
    )


def test_what_choosing_was_charged_is_not_loading(study):
    charged = {"stage_costs": [None, None], "charged": 4.0, "overhead": 4.0}
    study.add_trial(create_trial(value=0.25, user_attrs=charged))

    assert demo.summarize(study, warm_up=2).loading_s == 0.75


def test_there_is_no_gain_over_a_warm_up_without_success(study):
    assert np.isnan(demo.summarize(study, warm_up=1).gain)


def rows_of(console):
    """The rows of the table that was printed to a console in memory, by their first cells."""
    lines = console.file.getvalue().splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {first: others for first, *others in cells}


def test_the_table_shows_every_figure(study):
    console = Console(file=io.StringIO(), width=100)
    summary = demo.summarize(study, warm_up=2)

    console.print(demo.comparison({"one": summary, "two": summary}, ["prep", "fit"]))

    rows = rows_of(console)
    assert rows["candidates evaluated"] == ["3", "3"]
    assert rows["trials that failed"] == ["1", "1"]
    assert rows["best accuracy"] == ["75.0%", "75.0%"]
    assert rows["gain since warm-up"] == ["+25.0 points", "+25.0 points"]
    assert rows["time in prep"] == ["4.0 s", "4.0 s"]
    assert rows["time in fit"] == ["2.5 s", "2.5 s"]
    assert rows["loading from the cache"] == ["0.8 s", "0.8 s"]
    assert rows["saved by the cache"] == ["5.0 s", "5.0 s"]
    assert rows["optimiser's own time"] == ["0.5 s", "0.5 s"]


# --- the whole


@pytest.mark.parametrize("library", ["sklearn", "matplotlib.figure"])
def test_a_missing_library_is_told_with_the_extra_to_install(monkeypatch, library):
    for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    for name in ("demo", "digits"):
        monkeypatch.delitem(sys.modules, f"eeipu.benchmarks.{name}")

    with pytest.raises(MissingExtraError, match=r'pip install "eeipu\[demo\]"'):
        __import__("eeipu.benchmarks.demo")


@pytest.mark.slow
def test_the_demo_compares_two_searches_that_share_their_warm_up(tmp_path, monkeypatch):
    seen = []

    def spy(studies, **options):
        seen.extend(study.trials for study in studies.values())
        return plot_best_over_budget(studies, **options)

    monkeypatch.setattr(demo, "plot_best_over_budget", spy)
    console = Console(file=io.StringIO(), width=100)
    out = tmp_path / "new" / "place"

    demo.run_demo(budget=3.0, seed=1, out=out, console=console)

    first, second = ([t for t in trials if t.value is not None] for trials in seen)
    shared = min(len(first), len(second), 10)
    assert shared >= 1
    assert [t.params for t in first[:shared]] == [t.params for t in second[:shared]]
    assert not any(any(trial.user_attrs["memoized"]) for trial in second)
    rows = rows_of(console)
    assert rows["candidates evaluated"] == [str(len(first)), str(len(second))]
    assert rows["best accuracy"] == [
        f"{max(t.value for t in found):.1%}" for found in (first, second)
    ]
    assert (out / "best-over-budget.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_search_that_stops_early_is_not_compared(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no digits today")

    monkeypatch.setattr(digits.ndimage, "map_coordinates", refuse)
    console = Console(file=io.StringIO(), width=100)

    demo.run_demo(budget=60.0, seed=1, out=tmp_path, console=console)

    assert "nothing to compare" in console.file.getvalue()
    assert list(tmp_path.iterdir()) == []
