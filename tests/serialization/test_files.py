"""Files among outputs come back as private copies of what they were."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from keeping import kept

from eeipu import Float, Pipeline, StageCache, stage
from eeipu.errors import CacheFormatError
from eeipu.serialization import files
from eeipu.serialization.pickles import deserialize, serialize
from eeipu.serialization.transport import dumps, loads


@pytest.mark.parametrize("size_bytes", [0, 3, 10**5])
def test_a_file_comes_back_as_it_was(tmp_path, size_bytes):
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * size_bytes)
    path.chmod(0o750)
    kind, (first, *others) = serialize({"model": path})
    path.write_bytes(b"another")
    loaded = deserialize(kind, [first, *others])["model"]
    assert loaded != path
    assert (type(loaded), loaded.name) == (type(path), path.name)
    assert loaded.read_bytes() == b"x" * size_bytes
    assert loaded.stat().st_mode & 0o777 == 0o750


def test_a_folder_comes_back_with_all_that_is_below_it(tmp_path):
    (tmp_path / "out" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "x").write_text("1")
    (tmp_path / "out" / "empty").mkdir()
    loaded = kept(tmp_path / "out")
    below = sorted(each.relative_to(loaded).as_posix() for each in loaded.rglob("*"))
    assert below == ["deep", "deep/er", "deep/x", "empty"]
    assert (loaded / "deep" / "x").read_text() == "1"


def test_links_in_a_folder_lead_to_what_they_led_to(tmp_path):
    """As a training that links its latest checkpoint."""
    for folder in ("out/step_1", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "out" / "step_1" / "x").write_text("1")
    (tmp_path / "elsewhere" / "deep" / "y").write_text("2")
    (tmp_path / "out" / "latest").symlink_to("step_1")
    (tmp_path / "out" / "step_1" / "absolute").symlink_to(tmp_path / "out" / "step_1")
    (tmp_path / "out" / "step_1" / "up").symlink_to(tmp_path)
    (tmp_path / "out" / "away").symlink_to(tmp_path / "elsewhere")
    loaded = kept(tmp_path / "out")
    (tmp_path / "out" / "step_1" / "x").write_text("another")
    assert (loaded / "latest" / "absolute" / "x").read_text() == "1"
    assert (loaded / "away" / "deep" / "y").read_text() == "2"
    (loaded / "latest" / "x").write_text("3")
    assert (loaded / "step_1" / "x").read_text() == "3"


class OwnPath(type(Path())):
    """A path of the user's own class, as libraries for remote files have them."""


class OddPath(type(Path())):
    def __new__(cls, *, name):
        return super().__new__(cls, name)

    def __init__(self, *, name): ...


def test_paths_of_a_class_of_ones_own_have_their_files_too(tmp_path):
    for name in ("x", "folder/x"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    file, folder = kept([OwnPath(tmp_path / "x"), OwnPath(tmp_path / "folder")])
    (tmp_path / "x").write_text("another")
    assert (type(file), type(folder)) == (OwnPath, OwnPath)
    assert (file.read_text(), (folder / "x").read_text()) == ("1", "1")
    with pytest.raises(CacheFormatError, match=r"class OddPath.*return pathlib\.Path"):
        serialize(OddPath(name=os.fspath(tmp_path / "x")))


def test_each_copy_is_private(tmp_path):
    path = tmp_path / "x"
    path.write_text("1")
    one, other = kept(path), kept(path)
    one.write_text("2")
    assert (other.read_text(), path.read_text()) == ("1", "1")


def test_a_path_to_nothing_stays_a_path(tmp_path):
    for path in (tmp_path / "nothing", Path("x" * 5000), Path("/dev/null")):
        assert kept(path) == path


def test_the_folder_in_which_the_program_runs_stays_a_path(tmp_path, monkeypatch):
    (tmp_path / "project" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    for path in (Path(), Path(".."), tmp_path / "project", Path("/")):
        assert kept(path) == path
    assert kept(Path("out")) != Path("out")


def test_files_that_are_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_BYTES", 2)
    (tmp_path / "x").write_text("123")
    for path in (tmp_path, tmp_path / "x"):
        with pytest.raises(CacheFormatError, match="memoize=False"):
            serialize(path)


def test_a_copy_is_sent_with_its_bytes_and_the_files_of_the_user_are_not(tmp_path):
    path = tmp_path / "x"
    path.write_text("1")
    assert loads(dumps(path)) == path
    copy = kept(path)
    sent = loads(dumps(copy))
    assert sent != copy
    assert sent.read_text() == "1"


@stage(space={"x": Float(0.0, 10.0)}, version="1")
def writes(folder, *, x):
    path = Path(folder, "model.bin")
    path.write_text(str(x))
    return {"model": path}


@stage(version="1")
def reads(files):
    return float(files["model"].read_text())


@pytest.mark.parametrize("location", [None, "cache"])
def test_a_stage_gets_the_file_of_its_own_configuration(tmp_path, location):
    cache = StageCache(location and tmp_path / location)
    pipeline = Pipeline([writes, reads])
    values = [1.0, 2.0]
    runs = [pipeline.run({"writes.x": x}, str(tmp_path), cache=cache) for x in values]
    cache.discard([run.stage_runs[-1].key for run in runs])
    (tmp_path / "model.bin").unlink()
    again = [pipeline.run({"writes.x": x}, str(tmp_path), cache=cache) for x in values]
    assert [run.value for run in again] == values
    assert all(run.stage_runs[0].memoized for run in again)


@dataclass
class Trained:
    model: Path


@pytest.mark.parametrize("box", [dict, Trained, SimpleNamespace])
def test_a_fresh_output_is_not_overwritten_by_the_next(tmp_path, box):
    @stage(space={"x": Float(0.0, 10.0)}, version="1")
    def trains(folder, *, x):
        return box(**writes.function(folder, x=x))

    cache, pipeline = StageCache(), Pipeline([trains])
    runs = [pipeline.run({"trains.x": x}, str(tmp_path), cache=cache) for x in (1.0, 2.0)]
    found = runs[0].stage_runs[0].output
    assert (found["model"] if box is dict else found.model).read_text() == "1.0"


def test_copies_go_with_their_process_and_those_of_killed_ones_with_the_next(tmp_path):
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from eeipu.serialization.pickles import deserialize, serialize

        Path("x").write_text("1")
        copy = deserialize(*serialize(Path("x")))
        assert copy.read_text() == "1"
        print(copy.parent.parent, flush=True)
        if sys.argv[1] == "fork" and os.fork() == 0:
            sys.exit()
        if sys.argv[1] == "killed":
            os._exit(1)
        assert copy.exists()
    """)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def folder(how):
        command = [sys.executable, "-c", program, how]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert "Error" not in done.stderr
        return Path(done.stdout.strip())

    killed = folder("killed")
    assert killed.is_relative_to(tmp_path)
    assert killed.exists()
    assert not folder("fork").exists()
    assert not killed.exists()
