"""The command line, as a user types it."""

import subprocess
import sys

import pytest

import eeipu
from eeipu import StageCache
from eeipu import __main__ as command_line
from eeipu.benchmarks import demo


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line on some arguments: its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["eeipu", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_it_tells_its_version(run):
    assert run("--version") == (0, f"eeipu {eeipu.__version__}\n", "")


def test_its_help_lists_the_commands(run):
    code, output, _ = run("--help")

    assert code == 0
    assert "demo" in output


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        ("--help", {"eeipu.report", "eeipu.cache", "fsspec"}),
        ("cache ls --help", {"eeipu.report", "eeipu.cache", "fsspec"}),
        ("study show --help", {"eeipu.report", "eeipu.cache", "fsspec"}),
        ("run --help", {"eeipu.report", "eeipu.cache", "fsspec", "rich"}),
        ("cache ls there", {"eeipu.report", "eeipu.cache", "fsspec", "psutil"}),
    ],
)
def test_commands_import_what_they_need_and_no_more(arguments, unwanted, tmp_path):
    StageCache(tmp_path / "there").put("ab" * 32, 1)
    code = (
        "import sys; from eeipu.__main__ import app\n"
        f"app({arguments.split()!r}, standalone_mode=False)\n"
        f"found = {unwanted | {'optuna', 'numpy', 'torch', 'sqlalchemy'}!r} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)


def test_the_demo_gets_the_options(run, monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(demo, "run_demo", lambda **options: seen.update(options))

    code, _, _ = run("demo", "--budget", "7", "--seed", "3", "--out", str(tmp_path / "there"))

    assert code == 0
    assert {name: seen[name] for name in ("budget", "seed", "out")} == {
        "budget": 7.0,
        "seed": 3,
        "out": tmp_path / "there",
    }


def test_a_wrong_budget_is_one_line_and_runs_nothing(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    code, output, errors = run("demo", "--budget", "-1")

    assert code == 1
    assert errors.count("\n") == 1
    assert errors.startswith("eeipu: error: ")
    assert "budget" in errors
    assert output == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    for name in ("demo", "digits"):
        monkeypatch.delitem(sys.modules, f"eeipu.benchmarks.{name}")

    code, output, errors = run("demo")

    assert code == 1
    assert output == ""
    assert errors.count("\n") == 1
    assert 'pip install "eeipu[demo]"' in errors


def test_an_unknown_command_is_refused(run):
    code, _, errors = run("dance")

    assert code == 2
    assert "dance" in errors


def test_a_place_for_the_picture_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "taken").write_text("")

    code, _, errors = run("demo", "--out", str(tmp_path / "taken"))

    assert code == 2
    assert "--out" in errors


def test_it_starts_without_torch():
    code = "import sys, eeipu.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_python_runs_the_package_as_a_command():
    command = [sys.executable, "-m", "eeipu", "--version"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True, text=True)

    assert done.stdout == f"eeipu {eeipu.__version__}\n"


def test_ctrl_c_in_the_demo_is_the_exit_code_130(run, monkeypatch):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupted)
    code, output, _ = run("demo")
    assert (code, output) == (130, "")
