"""`eeipu report`, as a user types it."""

import sys

import optuna
import pytest
from optuna.trial import create_trial

from eeipu import __main__ as command_line


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run `eeipu report` on some arguments in an empty folder: exit code, output, error output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["eeipu", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    study = optuna.create_study(storage=url, study_name="mine")
    study.add_trial(create_trial(value=0.25))
    study._storage._backend.engine.dispose()
    return url


def test_it_writes_a_page(run, url, tmp_path):
    code, output, _ = run(url, "--study", "mine", "-o", "there.html")

    assert code == 0
    assert output.startswith("wrote there.html (")
    assert "<title>mine</title>" in (tmp_path / "there.html").read_text()


def test_by_default_it_is_called_report(run, url, tmp_path):
    assert run(url, "--no-models")[0] == 0
    assert (tmp_path / "report.html").exists()


def test_a_study_that_is_not_there_is_one_line(run, url, tmp_path):
    code, _, errors = run(url, "--study", "other")

    assert code == 1
    assert errors.count("\n") == 1
    assert "there is no study 'other' of this storage: it has 'mine'; give --study NAME." in errors
    assert not (tmp_path / "report.html").exists()
