"""Studies with several objectives: their front, their page, and what commands say of them."""

import json

import optuna
import pytest
from looking import SPACE, paid, study_of
from optuna.trial import create_trial
from typer.testing import CliRunner

import eeipu.report as report
from eeipu.__main__ import app
from eeipu.errors import ConfigurationError
from eeipu.report.page.document import report_html

VALUES = [(1.0, 9.0), (2.0, 5.0), (0.5, 6.0), (3.0, 7.0)]


@pytest.fixture
def stored(tmp_path):
    """A study of two objectives in a file; the last two trials are on no front."""
    storage = f"sqlite:///{tmp_path}/tune.db"
    study = optuna.create_study(
        study_name="two", directions=["maximize", "minimize"], storage=storage
    )
    for name, value in study_of().user_attrs.items():
        study.set_user_attr(name, value)
    study.set_user_attr("eeipu:objective", ["auc", "mb"])
    for k, values in enumerate(VALUES):
        attrs = paid(1.0, 2.0, keys=(f"a{k}", f"b{k}"))
        params = {"prep.x": 0.5, "fit.y": 0.1 * k}
        study.add_trial(
            create_trial(values=values, params=params, distributions=SPACE, user_attrs=attrs)
        )
    study._storage._backend.engine.dispose()
    return f"{tmp_path}/tune.db"


def test_the_front_is_told(stored):
    rows = report.front_rows(report.load_study(stored))

    assert [row["number"] for row in rows if row["is_front"]] == [1, 3]
    assert rows[0]["values"] == {"auc": 1.0, "mb": 9.0}
    assert json.loads(json.dumps(rows)) == rows


def test_the_front_is_a_line_in_the_plane_of_two_objectives(stored):
    figure = report.front_figure(report.load_study(stored))

    others, front = figure.data
    assert (list(front.x), list(front.y), front.mode) == ([2.0, 3.0], [5.0, 7.0], "lines+markers")
    assert list(others.x) == [0.5, 1.0]
    assert figure.layout.yaxis.title.text == "mb (less is better)"


def test_one_objective_has_no_front():
    with pytest.raises(ConfigurationError, match="several objectives"):
        report.front_figure(study_of({"value": 1.0}))


def test_there_is_a_page(stored):
    page = report_html(report.load_study(stored)).partition("<script>")[0]

    assert "Trials on the front" in page
    assert "trials on the front</span><b>2</b>" in page
    assert 'data-picture="front 1"' in page
    assert 'data-picture="tree"' in page
    assert 'data-picture="budget"' not in page


@pytest.mark.parametrize("command", ["list", "show", "best", "trials", "export"])
def test_commands_speak_of_the_front(stored, command):
    plain = CliRunner().invoke(app, ["study", command, stored])
    said = CliRunner().invoke(app, ["study", command, stored, "--json"])

    assert (plain.exit_code, said.exit_code) == (0, 0), (plain.output, said.output)
    lines = [json.loads(line) for line in said.output.splitlines()]
    if command == "show":
        assert [each["number"] for each in lines[0]["front"]] == [1, 3]
        assert lines[0]["directions"] == ["maximize", "minimize"]
        assert "2 trials" in plain.output
    if command == "best":
        assert [each["values"] for each in lines] == [[2.0, 5.0], [3.0, 7.0]]
        assert "mb" in plain.output
    if command == "trials":
        assert "2, 5" in plain.output
