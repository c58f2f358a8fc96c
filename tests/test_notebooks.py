"""The notebooks run from top to bottom, and their two forms say the same."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

# What each notebook says for a reader, and says instead here, where nobody reads the result.
SMOKE = {
    "01_quickstart": {"budget=10.0": "budget=1.0, n_initial=4"},
    "02_paper_benchmarks": {
        "SEEDS = range(2)": "SEEDS = range(1)",
        "budget=2.0": "budget=0.5",
        "jobs=2": "jobs=1",  # processes of their own are for test_campaign.py
    },
    "03_graphs": {"budget=20.0": "budget=2.0, n_initial=3", "budget=40.0": "budget=2.0"},
    "04_how_eeipu_decides": {"budget=130.0": "budget=60.0, n_initial=4"},
    "05_stage_trees": {"TRIALS = 24": "TRIALS = 8"},
    "06_one_machine_to_a_cluster": {"TRIALS = 8": "TRIALS = 2", "budget=20.0": "budget=8.0"},
}

PLOTLY = "application/vnd.plotly.v1+json"

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.py"))


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_both_forms_say_the_same(script):
    notebook = jupytext.read(script.with_suffix(".ipynb"))

    assert sources(notebook) == sources(jupytext.read(script))


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_for_readers_on_the_web(script):
    stored = script.with_suffix(".ipynb")
    outputs = outputs_of(jupytext.read(stored))

    assert stored.stat().st_size < 400_000
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if PLOTLY in output.get("data", {})]


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.notebook
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel's client warns of event loops and ports, which are its own affair.
@pytest.mark.filterwarnings("default")
def test_it_runs(script, tmp_path):
    notebook = jupytext.read(script)
    for told, instead in SMOKE[script.stem].items():
        assert sum(told in cell.source for cell in notebook.cells) == 1
        for cell in notebook.cells:
            cell.source = cell.source.replace(told, instead)

    # Only a cell that hangs takes so long; on a busy machine the longest was seen to take minutes.
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()

    outputs = outputs_of(notebook)
    assert not [output for output in outputs if output.output_type == "error"]
    assert any(PLOTLY in output.get("data", {}) for output in outputs)
