"""`eeipu study`, as a user types it."""

import csv
import io
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from eeipu import Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu import __main__ as command_line


@stage(space={"dims": Int(8, 64)}, cost=lambda dims: 2.0)
def embed(data, *, dims):
    return data + dims


@stage(space={"lr": Float(0.0, 1.0)}, cost=lambda lr: 1.0)
def train(embedded, *, lr):
    if lr > 0.9:
        raise ValueError("diverged [bold]badly[/bold]")
    return {"auc": embedded - lr, "size": 3}


ENQUEUED = [(8, 0.5), (8, 0.25), (8, 0.95), (9, 0.75)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of four trials: two reuse a stage, and one of these fails in the second stage."""
    file = tmp_path_factory.mktemp("study") / "a study.db"
    pipeline = Pipeline([embed, train], objective="auc")
    tuner = Tuner(
        pipeline,
        budget=100.0,
        method="random",
        cache=StageCache(),
        storage=f"sqlite:///{file}",
        study_name="demo",
    )
    for dims, lr in ENQUEUED:
        tuner.enqueue({"embed.dims": dims, "train.lr": lr})
    tuner.run(0, max_trials=4, progress=False)
    tuner.study._storage._backend.engine.dispose()
    return file


@pytest.fixture
def file(made, tmp_path):
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `eeipu study` on some arguments: its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["eeipu", "study", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, *capsys.readouterr()

    return run


def objects(output):
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_list_names_the_studies_of_a_file_or_url(run, file, form):
    code, output, _ = run("list", form.format(file))

    assert code == 0
    assert output.splitlines()[1].split() == ["demo", "3", "8.25", "8", "4"]


def test_show_gives_the_account_and_the_stages(run, file):
    _, output, _ = run("show", file)

    assert "3 complete, 1 failed" in output
    assert "8 of 100" in output
    rows = [line.split() for line in output.splitlines()]
    assert ["embed", "2", "2", "0", "2", "4"] in rows
    assert ["train", "4", "0", "1", "1", "4"] in rows
    assert "diverged [bold]badly[/bold]" in output


def test_show_gives_json(run, file):
    [shown] = objects(run("show", file, "--json")[1])

    assert shown["account"] == {
        "embed": 4.0,
        "train": 4.0,
        "loading": 0.0,
        "keeping": 0.0,
        "choosing": 0.0,
        "other": 0.0,
    }
    assert (shown["spent"], shown["saved"], shown["budget"]) == (8.0, 4.0, 100.0)
    assert shown["best"]["number"] == 3
    assert shown["unit"] == "declared"


def test_best_shows_the_best_trials(run, file):
    code, output, _ = run("best", file)
    assert code == 0
    assert ["train.lr", "0.75"] in [line.split() for line in output.splitlines()]
    assert [each["number"] for each in objects(run("best", file, "-n", 2, "--json")[1])] == [3, 1]


def test_best_of_a_study_without_a_value_is_the_exit_code_1(run, tmp_path):
    url = f"sqlite:///{tmp_path}/empty.db"
    optuna.create_study(storage=url, study_name="empty")._storage._backend.engine.dispose()

    code, _, errors = run("best", url)

    assert code == 1
    assert "no trial of 'empty' has a value yet" in errors


def test_trials_fit_eighty_columns_and_say_what_was_free(run, file):
    _, output, _ = run("trials", file)

    assert max(map(len, output.splitlines())) <= 80
    second = output.splitlines()[2]
    assert "embed =, train 1" in second


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ([], [0, 1, 2, 3]),
        (["--count", "2"], [2, 3]),
        (["--sort", "best"], [3, 1, 0]),
        (["--sort", "best", "-n", "1"], [3]),
        (["--sort", "charged", "-n", "2"], [0, 3]),
        (["--state", "failed"], [2]),
    ],
)
def test_trials_are_chosen_and_sorted(run, file, options, numbers):
    found = objects(run("trials", file, "--json", *options)[1])
    assert [each["number"] for each in found] == numbers


def test_export_is_a_flat_table(run, file, tmp_path):
    rows = list(csv.DictReader(io.StringIO(run("export", file)[1])))

    assert [row["reused:embed"] for row in rows] == ["False", "True", "True", "False"]
    assert [row["cost:train"] for row in rows] == ["1.0"] * 4
    assert rows[0]["metric:size"] == "3.0"
    assert rows[0]["train.lr"] == "0.5"
    assert rows[2]["error"] == "ValueError: diverged [bold]badly[/bold]"
    assert run("export", file, "-o", tmp_path / "out.csv")[1] == ""
    written = (tmp_path / "out.csv").read_text()
    assert list(csv.DictReader(io.StringIO(written))) == rows
    assert [row["number"] for row in objects(run("export", file, "--json")[1])] == [0, 1, 2, 3]


def test_numbers_that_are_not_finite_are_null_in_json(run, tmp_path):
    url = f"sqlite:///{tmp_path}/nan.db"
    study = optuna.create_study(storage=url)
    study.add_trial(create_trial(value=1.0, user_attrs={"metrics": {"f1": float("nan")}}))
    study._storage._backend.engine.dispose()

    [row] = objects(run("export", url, "--json")[1])

    assert row["metric:f1"] is None


def test_the_study_must_be_named_if_there_are_two(run, file):
    optuna.create_study(storage=f"sqlite:///{file}", study_name="other")

    code, _, errors = run("show", file)
    assert code == 1
    assert "'demo', 'other'" in errors
    assert "--study NAME" in errors
    assert run("show", file, "--study", "demo")[0] == 0
    assert "there is no study 'dmo'" in run("show", file, "--study", "dmo")[2]


@pytest.mark.parametrize("place", ["none.db", "sqlite:///none.db"])
def test_a_storage_that_is_not_there_is_not_created(run, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    code, _, errors = run("list", place)

    assert code == 1
    assert errors.count("\n") == 1
    assert "none.db" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"nothing of the kind\n", b"", b'{"a": 1}\n'])
def test_a_file_that_holds_no_studies_is_one_line(run, tmp_path, content):
    (tmp_path / "other").write_bytes(content)

    code, output, errors = run("show", tmp_path / "other")

    assert (code, output) == (1, "")
    assert errors.count("\n") == 1


def test_another_file_of_sqlite_is_one_line_and_stays_as_it_is(run, tmp_path):
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = file.read_bytes()

    code, _, errors = run("list", file)

    assert code == 1
    assert "give the storage that the tuner was given" in errors
    assert file.read_bytes() == before


def test_looking_waits_for_no_lock_and_writes_nothing(run, file):
    before = file.read_bytes()
    driver = sqlite3.connect(file)
    driver.execute("BEGIN IMMEDIATE")  # as a driver that is about to write

    for command in ("list", "show", "best", "trials", "export"):
        assert run(command, file)[0] == 0

    driver.close()
    assert file.read_bytes() == before


def test_a_trial_that_runs_is_listed(run, file):
    study = optuna.load_study(storage=f"sqlite:///{file}", study_name="demo")
    study.ask()
    study._storage._backend.engine.dispose()

    assert objects(run("trials", file, "--state", "running", "--json")[1])[0]["number"] == 4


def test_a_journal_is_read_by_its_path(run, tmp_path):
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.create_study(storage=storage, study_name="mine")
    study.add_trial(create_trial(value=1.5))
    study.add_trial(create_trial(state=TrialState.FAIL))

    [shown] = objects(run("show", tmp_path / "journal.log", "--json")[1])

    assert shown["trials"] == {"complete": 1, "failed": 1}


def test_stages_of_a_plain_study_are_guessed(run, tmp_path):
    url = f"sqlite:///{tmp_path}/plain.db"
    study = optuna.create_study(storage=url)
    costs = {"stage_costs": [1.0, 2.0], "charged": 3.0}
    x, y = (optuna.distributions.FloatDistribution(0, 1) for _ in "xy")
    named = {"prep.x": 0.5, "fit.y": 0.5}
    space = {"prep.x": x, "fit.y": y}
    study.add_trial(create_trial(value=1.0, params=named, distributions=space, user_attrs=costs))
    study.add_trial(create_trial(value=1.0, user_attrs=costs))
    study._storage._backend.engine.dispose()

    found = objects(run("trials", url, "--json")[1])

    assert found[0]["costs"] == {"prep": 1.0, "fit": 2.0}
    assert found[1]["costs"] == {"stage 1": 1.0, "stage 2": 2.0}


def test_show_says_what_models_recommend(run, tmp_path):
    tuner = Tuner(
        Pipeline.declare({"train": {"lr": Float(0.0, 1.0)}}),
        budget=None,
        storage=f"sqlite:///{tmp_path / 'a study.db'}",
    )
    for k in range(12):
        lr = (k + 0.5) / 12
        tuner.add_trial({"train.lr": lr}, 1.0 - (lr - 0.5) ** 2 + 0.02 * (-1) ** k)
    for value in (0.75, 0.82, 0.78, 1.3):  # one of these is luck
        tuner.add_trial({"train.lr": 0.97}, value)

    code, output, _ = run("show", tmp_path / "a study.db", "--recommended", "--json")
    [shown] = objects(output)

    assert code == 0
    assert shown["best"]["params"] == {"train.lr": 0.97}
    assert shown["recommended"]["number"] == tuner.recommend().number
    assert shown["recommended"]["params"] == tuner.recommend().params != shown["best"]["params"]
    text = run("show", tmp_path / "a study.db", "--recommended")[1]
    assert f"trial {tuner.recommend().number}" in text
    assert "recommended" not in run("show", tmp_path / "a study.db")[1]


def test_show_says_why_models_recommend_nothing(run, file):
    code, _, error = run("show", file, "--recommended")

    assert code == 1
    assert "fewer than 5 trials" in error
