"""`eeipu study show`, beside the processes that run the study."""

import json

import optuna
from typer.testing import CliRunner

from eeipu.__main__ import app
from eeipu.errors import ConfigurationError


def shown(*arguments):
    return CliRunner().invoke(app, ["study", "show", *map(str, arguments)], env={"COLUMNS": "150"})


def begun_study(url, name="demo"):
    study = optuna.create_study(storage=url, study_name=name)
    for number in range(3):
        trial = study.ask()
        trial.suggest_float("train.lr", 0.0, 1.0)
        trial.set_user_attr("charged", 1.5)
        for step in (3, 9):
            trial.report(number + 1 / step, step)
            trial.set_user_attr("best_value", number + 1 / 3)
        if number < 2:
            states = optuna.trial.TrialState
            study.tell(trial, state=states.PRUNED if number else states.FAIL)
    return study


def test_a_study_is_shown_while_its_trials_run(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    study = begun_study(url)
    result = shown(url)
    assert result.exit_code == 0, result.output
    assert "demo: 1 FAIL, 1 PRUNED, 1 RUNNING; charged 4.5" in result.output
    assert "train.lr=" in result.output
    study.ask()  # the storage was left to its owner
    (*_, last) = map(json.loads, shown(tmp_path / "tune.db", "--json").output.splitlines())
    assert (last["trial"], last["state"]) == (3, "RUNNING")


def test_values_by_step_are_shown(tmp_path):
    begun_study(f"sqlite:///{tmp_path}/tune.db")
    lines = shown(tmp_path / "tune.db", "--json").output.splitlines()
    running = json.loads(lines[2])
    assert running["intermediate_values"] == {"3": 2 + 1 / 3, "9": 2 + 1 / 9}
    assert (running["step"], running["value"], running["best"]) == (9, 2 + 1 / 9, 2 + 1 / 3)
    assert "9" in shown(tmp_path / "tune.db", "--last", "1").output


def test_what_is_no_study_is_told(tmp_path):
    assert "there is no database" in str(shown(tmp_path / "none.db").exception)
    assert not (tmp_path / "none.db").exists()
    url = f"sqlite:///{tmp_path}/tune.db"
    begun_study(url)
    begun_study(url, "other")
    several = shown(url).exception
    assert isinstance(several, ConfigurationError)
    assert "choose a study with --name" in str(several)
    assert shown(url, "--name", "other").exit_code == 0
    (tmp_path / "text").write_text("no database " * 100)
    assert "cannot be read" in str(shown(tmp_path / "text").exception)
