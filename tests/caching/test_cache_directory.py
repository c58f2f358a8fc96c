"""Whose a directory is: a cache removes files, so it goes nowhere but to its own."""

import os
from pathlib import Path

import pytest

from eeipu import ConfigurationError, StageCache
from eeipu.caching.cache_directory import MARKER, CacheDirectory


@pytest.mark.parametrize("name", ["partial/thesis", "quarantine/thesis", "thesis.txt"])
def test_a_directory_that_holds_something_else_is_refused_and_left_alone(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match=r"not empty, and not a stage cache.*choose a new"):
        StageCache(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_new_and_an_empty_directory_become_a_caches(tmp_path):
    for root in (tmp_path / "new" / "cache", tmp_path / "empty"):
        if root.name == "empty":
            root.mkdir()
        StageCache(root).put("key", 1)
        assert (root / MARKER).is_file()
        assert StageCache(root).get("key") == 1


def test_a_marker_that_a_killed_process_left_half_made_is_completed(tmp_path):
    CacheDirectory(tmp_path)
    whole = (tmp_path / MARKER).read_bytes()
    (tmp_path / MARKER).write_bytes(b"")
    (tmp_path / "entries").mkdir()
    CacheDirectory(tmp_path)
    assert (tmp_path / MARKER).read_bytes() == whole


def test_a_cache_of_another_format_is_refused(tmp_path):
    (tmp_path / MARKER).write_bytes(b"A stage-output cache of eeipu, format 2\n")
    with pytest.raises(ConfigurationError, match=r"another format.*format 2"):
        StageCache(tmp_path)


def test_a_process_that_is_faster_in_making_the_cache_is_no_stranger(tmp_path, monkeypatch):
    def list_late(path):
        monkeypatch.undo()
        StageCache(tmp_path).put("key", 1)
        return path.iterdir()

    monkeypatch.setattr(Path, "iterdir", list_late)
    assert StageCache(tmp_path).get("key") == 1


def refuse(*args):
    raise PermissionError("read only")


def test_an_empty_directory_that_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot be used.*read only"):
        StageCache(tmp_path)


def test_a_marker_that_cannot_be_completed_any_more_is_one(tmp_path, monkeypatch):
    (tmp_path / MARKER).touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        CacheDirectory(tmp_path)
    assert (tmp_path / MARKER).read_bytes() == b""


def test_a_marker_that_is_being_made_is_nothing_strange(tmp_path):
    tmp_path.chmod(0o2770)
    (tmp_path / f".{MARKER}.0123").touch()
    StageCache(tmp_path, shared=True).put("a", 1)
    assert StageCache(tmp_path, shared=True).get("a") == 1
