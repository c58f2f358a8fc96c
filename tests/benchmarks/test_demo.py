"""The demo: its summary of hand-made studies, and the two searches that it compares."""

import io
import subprocess
import sys
from concurrent.futures import Executor, Future
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from eeipu import MissingExtraError
from eeipu.benchmarks import demo, digits


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
    assert demo.summarize(study) == demo.Summary(
        candidates=3,
        failed=1,
        best=0.75,
        stage_s=(4.0, 2.5),
        loading_s=0.75,
        saved_s=5.0,
        optimiser_s=0.5,
    )


def test_what_choosing_was_charged_is_not_loading(study):
    charged = {"stage_costs": [None, None], "charged": 4.0, "overhead": 4.0}
    study.add_trial(create_trial(value=0.25, user_attrs=charged))

    assert demo.summarize(study).loading_s == 0.75


def rows_of(console):
    """The rows of the table that was printed to a console in memory, by their first cells."""
    lines = console.file.getvalue().splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {first: others for first, *others in cells}


def test_the_table_shows_each_seed_and_means(study):
    console = Console(file=io.StringIO(), width=100)
    first = demo.summarize(study)
    second = replace(first, best=0.5, candidates=5)

    console.print(
        demo.comparison({"a": [first, second], "b": [second] * 2}, [3, 4], ["prep", "fit"])
    )

    rows = rows_of(console)
    assert rows["best accuracy, seed 3"] == ["75.0%", "50.0%"]
    assert rows["best accuracy, seed 4"] == ["50.0%", "50.0%"]
    assert rows["mean accuracy"] == ["62.5%", "50.0%"]
    assert rows["mean number of candidates"] == ["4", "5"]
    assert rows["trials that failed"] == ["1.0", "1.0"]
    assert rows["seconds in prep"] == ["4.0", "4.0"]
    assert rows["seconds in fit"] == ["2.5", "2.5"]
    assert rows["loading from the cache"] == ["0.8", "0.8"]
    assert rows["choosing configurations"] == ["0.5", "0.5"]
    assert rows["seconds saved by the cache"] == ["5.0", "5.0"]


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


class InThisProcess(Executor):
    """Runs each call when it is submitted, where patches of the test hold."""

    def __init__(self, *_, **__):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def constant(label, budget, seed):
    """The trials of a search that is better with our method, except for the seed 8."""
    value = 0.5 + 0.25 * (label == demo.OURS) * (seed != 8)
    attributes = {"stage_costs": [1.0] * 4, "charged": budget}
    return [create_trial(value=value, user_attrs=attributes)], 0.0


def test_the_demo_names_the_seeds_that_were_not_won(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(demo, "_search", constant)
    console = Console(file=io.StringIO(), width=100)

    demo.run_demo(budget=3.0, seed=7, out=tmp_path, console=console)

    assert "won 2 of 3 seeds; seed 8 was a draw." in console.file.getvalue()
    assert "eeipu demo --seed 10" in console.file.getvalue()


@pytest.mark.slow
def test_the_demo_makes_six_searches_a_picture_and_a_script(tmp_path):
    console = Console(file=io.StringIO(), width=100)
    out = tmp_path / "new" / "place"

    demo.run_demo(budget=2.0, seed=1, out=out, console=console)

    rows = rows_of(console)
    assert all(f"best accuracy, seed {seed}" in rows for seed in (1, 2, 3))
    assert rows["seconds saved by the cache"][1] == "0.0"
    assert (out / "best-over-time.png").read_bytes().startswith(b"\x89PNG")
    assert f"python {out / 'first_search.py'}" in console.file.getvalue()


@pytest.mark.slow
def test_the_script_to_go_on_with_runs_and_keeps_outputs(tmp_path):
    script = demo.FIRST_SEARCH.read_text().replace("budget=20.0", "budget=0.5")
    (tmp_path / "first_search.py").write_text(script)

    done = subprocess.run(
        [sys.executable, "first_search.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("best accuracy: 0.")
    assert (tmp_path / "first-search-cache").is_dir()


@pytest.mark.slow
def test_a_search_that_stops_early_is_not_compared(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no digits today")

    monkeypatch.setattr(demo, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(digits.ndimage, "map_coordinates", refuse)
    console = Console(file=io.StringIO(), width=100)

    demo.run_demo(budget=60.0, seed=1, out=tmp_path, console=console)

    assert "nothing to compare" in console.file.getvalue()
    assert "no digits today" in console.file.getvalue()
    assert list(tmp_path.iterdir()) == []
