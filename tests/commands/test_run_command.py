"""`eeipu run`, as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from eeipu import __main__ as command_line

SCRIPT = """
import os
from pathlib import Path
from eeipu import Float, Pipeline, stage

@stage(space={"x": Float(0.0, 1.0)})
def prep(data, *, x):
    note("prep")
    return len(data.read_text()) + x if isinstance(data, Path) else data + x

@stage(space={"y": Float(0.0, 1.0)})
def fit(prepared, *, y):
    if os.environ.get("FAILS"):
        raise RuntimeError("boom")
    return prepared - y

def note(what):
    with open("notes", "a") as file:
        file.write(what + "\\n")

def number():
    return 40

pipeline = Pipeline([prep, fit], name="mine")
others = [prep, fit]

def made():
    return others

if __name__ == "__main__":
    note("main")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tuned_script.py").write_text(SCRIPT)
    yield tmp_path
    sys.modules.pop("tuned_script", None)


@pytest.fixture
def run(folder, monkeypatch, capfd):
    """Run `eeipu run` on some arguments in a folder with a script: exit code, output, errors."""

    def run(*arguments):
        sys.modules.pop("tuned_script", None)
        monkeypatch.setattr(sys, "argv", ["eeipu", "run", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, *capfd.readouterr()

    return run


def test_it_tunes_the_pipeline_of_a_script_and_goes_on(run, folder):
    usual = ("tuned_script.py:pipeline", "--input", "1", "--method", "random", "--seed", "0")

    code, output, errors = run(*usual, "-n", 2)
    assert code == 0
    assert "mine (maximize value)" in output
    assert "prep.x" in output
    assert "trial 1: value" in errors
    assert "eeipu report tune.db" in errors
    assert (folder / "tune.db").exists()
    assert (folder / "eeipu-cache").is_dir()

    code, output, errors = run(*usual, "-n", 1, "--json", "--quiet")
    (said,) = map(json.loads, output.splitlines())
    assert code == 0
    assert said["trials"] == {"complete": 3}
    assert said["best"]["params"].keys() == {"prep.x", "fit.y"}
    assert "goes on: 2 complete" in errors
    assert "trial 2" not in errors


@pytest.mark.parametrize(
    ("target", "study"),
    [
        ("tuned_script.py", "mine"),
        ("tuned_script", "mine"),
        ("tuned_script:others", "prep -> fit"),
        ("tuned_script.py:made", "prep -> fit"),
    ],
)
def test_pipelines_are_found_by_their_names(run, target, study):
    code, output, _ = run(target, "-i", "1", "-n", 1, "--json", "-q", "--method", "random")

    assert code == 0
    assert json.loads(output)["study"] == study


@pytest.mark.parametrize(
    ("given", "first"),
    [("text.txt", 5.0), ("7", 7.0), (":number", 40.0), ("7.5", 7.5)],
)
def test_inputs_are_files_json_or_names_of_the_script(run, folder, given, first):
    (folder / "text.txt").write_text("12345")

    code, output, _ = run(
        "tuned_script.py", "-i", given, "-n", 1, "--json", "-q", "--method", "random"
    )

    best = json.loads(output)["best"]
    assert code == 0
    assert best["value"] == pytest.approx(
        first + best["params"]["prep.x"] - best["params"]["fit.y"]
    )


def test_the_content_of_a_file_counts(run, folder):
    usual = ("tuned_script.py", "-i", "text.txt", "-q", "--method", "random", "--seed", "0")
    for study, text in (("a", "12345"), ("b", "12345"), ("c", "123")):
        (folder / "text.txt").write_text(text)
        assert run(*usual, "-n", 1, "--study", study)[0] == 0

    assert (folder / "notes").read_text() == "prep\nprep\n"  # the second one was reused


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gone.py:pipeline", "-n", 1], 1, "there is no script 'gone.py'"),
        (["no.such.module:p", "-n", 1], 1, "there is no module 'no.such.module'"),
        (["tuned_script.py:pipelin", "-n", 1], 1, "it has the pipelines ['pipeline']"),
        (["tuned_script.py:SCRIPT", "-n", 1], 1, "has nothing named 'SCRIPT'"),
        (["tuned_script.py:os", "-n", 1], 1, "no pipeline; name a Pipeline"),
        (["tuned_script.py", "-n", 1], 1, "give each with --input"),
        (["tuned_script.py", "-n", 1, "-i", "data.cvs"], 1, "there is no such file"),
        (["tuned_script.py", "-n", 1, "-i", ":data"], 1, "has nothing named 'data'"),
        (["tuned_script.py", "-i", "1"], 2, "nothing ends the run"),
        (["tuned_script.py", "-i", "1", "-n", 1, "--method", "eipu"], 1, "no method 'eipu'"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(run, arguments, code, words):
    ended, output, errors = run(*arguments)

    assert (ended, output) == (code, "")
    assert words in " ".join(errors.replace("│", " ").split())
    assert "Traceback" not in errors


def test_a_script_that_fails_shows_its_own_traceback(run, folder):
    (folder / "failing_script.py").write_text("def f():\n    raise ValueError('boom')\n\nf()\n")

    code, _, errors = run("failing_script.py:p", "-n", 1)

    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n  File")
    assert "failing_script.py" in errors.splitlines()[1]
    assert errors.endswith("ValueError: boom\neeipu: error: failing_script.py cannot be imported\n")


def test_a_function_that_fails_shows_its_traceback(run):
    code, _, errors = run("tuned_script.py:note", "-n", 1)

    assert code == 1
    assert "missing 1 required positional argument: 'what'" in errors
    assert "tuned_script.py:note cannot be called without arguments" in errors


def test_a_library_that_a_script_lacks_is_the_scripts_own_error(run, folder):
    (folder / "lacking_script.py").write_text("import surely_not_there\n")

    code, _, errors = run("lacking_script.py:p", "-n", 1)

    assert code == 1
    assert "No module named 'surely_not_there'" in errors
    assert "lacking_script.py cannot be imported" in errors


def test_a_script_with_the_name_of_a_library_is_refused(run, folder):
    (folder / "json.py").write_text("")

    assert "rename the script" in run("json.py:p", "-n", 1)[2]


def test_the_exit_code_is_1_without_a_value(run, monkeypatch):
    monkeypatch.setenv("FAILS", "yes")

    code, output, errors = run("tuned_script.py", "-i", "1", "-n", 2, "--method", "random")

    assert code == 1
    assert "last failure, trial 1: RuntimeError: boom" in output
    assert "no trial has a value" in errors


def test_a_dry_run_shows_the_pipeline_and_runs_nothing(run, folder):
    code, output, _ = run("tuned_script.py", "--dry-run")

    assert code == 0
    assert "x: 0 to 1" in output
    assert "one --input each: data" in output
    rows = [
        json.loads(line)
        for line in run("tuned_script.py", "--dry-run", "--json")[1].split("\n")[:2]
    ]
    assert [row["gets"] for row in rows] == [["inputs"], ["prep"]]
    assert not (folder / "tune.db").exists()


def test_the_cache_is_that_of_the_script_run_by_python(run, folder):
    usual = ("tuned_script.py", "-i", "1", "-n", 1, "-q", "--method", "random", "--seed", "0")
    assert run(*usual)[0] == 0
    own = """
from eeipu import StageCache, Tuner
Tuner(pipeline, method="random", seed=0, cache=StageCache("eeipu-cache")).run(1, max_trials=1)
"""
    (folder / "tuned_script.py").write_text(SCRIPT.partition("if __name__")[0] + own)

    subprocess.run([sys.executable, "tuned_script.py"], check=True, timeout=120, cwd=folder)

    assert (folder / "notes").read_text() == "prep\n"


def test_worker_processes_find_the_script(run):
    code, output, errors = run(
        "tuned_script.py", "-i", "1", "-n", 2, "-j", 2, "--json", "--method", "random"
    )

    assert code == 0, errors
    assert json.loads(output)["trials"] == {"complete": 2}


def test_ctrl_c_ends_it_with_130_and_loses_nothing(folder):
    slow = SCRIPT.replace("    return prepared - y", "    time.sleep(0.3)\n    return 1.0")
    (folder / "tuned_script.py").write_text("import time\n" + slow)
    command = [sys.executable, "-m", "eeipu", "run", "tuned_script.py", "-i", "1", "-n", "500"]
    process = subprocess.Popen(
        [*command, "--method", "random"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not (folder / "notes").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=100)

    assert process.returncode == 130
    assert "mine (maximize value)" in output
    assert "go on" in errors
