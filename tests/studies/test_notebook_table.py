"""The table in a notebook."""

import sys
import threading
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from snapshots import ENDED, FAILED, snapshot

import eeipu.studies.displays.notebook_table
from eeipu import StageRun
from eeipu.studies.displays.notebook_table import NotebookTable, kernel_display


class Output:
    """Stands for `IPython.display.display`, and for the handle that it returns."""

    def __init__(self):
        self.shown, self.displays, self.threads = [], 0, set()

    def __call__(self, bundle, *, raw, display_id):
        assert (raw, display_id) == (True, True)
        self.displays += 1
        self.update(bundle, raw=raw)
        return self

    def update(self, bundle, *, raw):
        assert raw
        self.shown.append(bundle)
        self.threads.add(threading.current_thread())

    @property
    def html(self):
        return self.shown[-1]["text/html"]


class Now:
    s = 1000.0

    def __call__(self):
        return self.s


@pytest.fixture
def output():
    return Output()


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def table(output, now):
    return NotebookTable(output, now)


def test_the_state_of_the_study_is_shown(table, output):
    table.update(snapshot(failed=2, end_s=84.0, activity="running fit"))

    for words in (
        "<b>digits</b>",
        '<progress value="0.2500" max="1">',
        "15 s spent, 45 s left of 60 s",
        "3 trials · 2 failed · best 0.934568 · saved by the cache 2.5 s",
        "21 s elapsed · 3.2 s choosing · ends in about 1 min 3 s",
        "now: running fit",
    ):
        assert words in output.html
    assert output.shown[-1]["text/plain"].startswith("digits: 15 s spent, 45 s left, 3 trials")


def test_without_a_budget_there_is_no_total(table, output):
    table.update(snapshot(budget=None))

    assert "15 s spent<br>" in output.html
    assert "progress" not in output.html


def test_the_last_trials_are_shown_newest_first(table, output):
    for number in range(20):
        table.trial_ended(snapshot(number=number, value=float(number)))
    table.refresh()

    starts = [output.html.find(f">{number}</td>") for number in range(19, 11, -1)]
    assert starts == sorted(starts)
    assert starts[0] > 0
    assert ">11</td>" not in output.html


def test_a_trial_shows_its_value_its_cost_and_what_it_reused(table, output):
    table.trial_ended(ENDED)

    for words in (">3<", ">0.5<", ">1.26 s<", ">prep reused, fit 1.25 s, score 0.01 s<"):
        assert words in output.html


def test_a_failure_shows_its_stage_and_reason(table, output):
    table.trial_ended(FAILED)

    for words in (">failed<", ">prep reused, fit 0.5 s, failed (fit: ValueError: no data)<"):
        assert words in output.html


def test_names_are_only_text(table, output):
    table.trial_ended(
        snapshot(
            study_name="<b>&",
            activity="running <i>",
            stage_runs=(StageRun("<u>", "key", cost=1.0, error="<s>"),),
        )
    )

    for words in ("&lt;b&gt;&amp;", "running &lt;i&gt;", "&lt;u&gt; 1 s", "&lt;u&gt;: &lt;s&gt;"):
        assert words in output.html
    assert not any(tag in output.html for tag in ("<i>", "<u>", "<s>"))


def test_updates_are_shown_together_at_the_next_refresh(table, output):
    for number in range(100):
        table.update(snapshot(number=number, activity=f"running {number}"))
    assert len(output.shown) == 1

    table.refresh()
    table.refresh()
    assert len(output.shown) == 2  # nothing had changed for the second
    assert output.displays == 1
    assert "running 99" in output.html


def test_time_goes_on_while_a_stage_runs(table, output, now):
    table.update(snapshot())
    now.s += 300.0
    table.refresh()

    assert "5 min 21 s elapsed" in output.html


def test_a_thread_refreshes_the_table_while_a_stage_runs(table, output, now, monkeypatch):
    monkeypatch.setattr(eeipu.studies.displays.notebook_table, "REFRESHED_EVERY_S", 0.001)
    shown = threading.Event()
    with table.open():
        table.update(snapshot())
        monkeypatch.setattr(output, "update", lambda bundle, raw: shown.set())
        now.s += 300.0
        assert shown.wait(60.0)


def test_the_thread_refreshes_a_few_times_a_second():
    assert 0.25 <= eeipu.studies.displays.notebook_table.REFRESHED_EVERY_S <= 1.0


def test_the_last_state_stays_and_no_thread(table, output):
    with table.open():
        table.update(snapshot(activity="running fit"))
        table.trial_ended(ENDED)
        table.update(snapshot(activity="choosing a configuration", end_s=84.0))

    assert not any("notebook" in thread.name for thread in threading.enumerate())
    assert ">0.5<" in output.html
    assert "now:" not in output.html
    assert "about" not in output.html


def test_the_table_ends_with_the_run_even_if_that_raises(table, output):
    def interrupted():
        with table.open():
            table.update(snapshot(activity="running fit"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "now:" not in output.html


def test_a_run_that_shows_nothing_leaves_no_output(table, output):
    with table.open():
        pass

    assert output.shown == []


# --- in a kernel


@pytest.mark.parametrize(
    "modules",
    [
        {},
        {"IPython": SimpleNamespace(get_ipython=lambda: None)},
        {"IPython": SimpleNamespace(get_ipython=lambda: SimpleNamespace())},
    ],
    ids=["no IPython", "IPython as a library", "IPython on a terminal"],
)
def test_outside_of_a_kernel_there_is_no_notebook(modules, monkeypatch):
    monkeypatch.setattr(sys, "modules", modules)

    assert kernel_display() is None


def test_a_kernel_has_a_notebook(monkeypatch):
    shell = SimpleNamespace(kernel=object())
    display = object()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))

    assert kernel_display() is display


CELL = """\
from eeipu import Float, Pipeline, Tuner, stage

@stage(space={"x": Float(0.0, 1.0)})
def prep(data, *, x):
    return data + x

@stage(space={"y": Float(0.0, 1.0)})
def fit(prepared, *, y):
    if y > 0.5:
        raise ValueError("y is too large")
    return prepared - y

tuner = Tuner(Pipeline([prep, fit], name="cells"), budget=60.0, method="random", seed=0)
tuner.enqueue({"prep.x": 0.25, "fit.y": 0.25})
tuner.enqueue({"prep.x": 0.25, "fit.y": 0.75})
tuner.run(1.0, max_trials=2);
"""


@pytest.mark.notebook
# The kernel's client warns of event loops and ports, which are its own affair.
@pytest.mark.filterwarnings("default")
def test_a_notebook_keeps_the_final_table(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()

    tables = [each for each in notebook.cells[0].outputs if each.output_type == "display_data"]
    assert len(tables) == 1
    html = tables[0].data["text/html"]
    for words in ("<b>cells</b>", "1 trial · 1 failed", ">1<", ">failed<", "prep reused"):
        assert words in html
    assert "(fit: ValueError: y is too large)" in html
    assert "now:" not in html
    streams = [each for each in notebook.cells[0].outputs if each.output_type == "stream"]
    assert not any("trial 0" in each.text for each in streams)
