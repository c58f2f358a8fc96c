"""Whose a directory is: a cache removes files, so it goes nowhere but to its own."""

import os
import stat
from pathlib import Path

import pytest

from eeipu import ConfigurationError, StageCache
from eeipu.caching.cache_directory import MARKER, CacheDirectory
from eeipu.caching.permissions import Modes


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


def test_a_file_that_is_gone_needs_no_mode(tmp_path):
    CacheDirectory(tmp_path).modes.set_mode(str(tmp_path / "gone"))


@pytest.fixture
def umask():
    """A user whose files are nobody else's."""
    former = os.umask(0o077)
    yield
    os.umask(former)


def test_nobody_sees_anything_in_a_shared_cache_before_it_has_its_mode(
    tmp_path, monkeypatch, umask
):
    root = tmp_path / "cache"
    seen = set()

    def look(*_, **__):
        if root.exists():
            found = [root, *root.rglob("[!.]*")]
            seen.update((stat.S_IMODE(each.stat().st_mode), each.is_dir()) for each in found)
        return real(*_, **__)

    real = os.chmod
    monkeypatch.setattr(os, "chmod", look)
    for key in "ab":
        StageCache(root, shared=True, max_bytes=1e6).put(key, 1)
        assert StageCache(root, shared=True).get(key) == 1
    assert seen - {(0o600, False)} == {(0o2770, True), (0o660, False)}
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_that_a_killed_process_left_to_itself_is_opened_to_the_others(tmp_path, umask):
    StageCache(tmp_path / "cache", shared=True, max_bytes=1e6).put("a", 1)
    locks = tmp_path / "cache" / "locks"
    locks.chmod(0o2700)
    StageCache(tmp_path / "cache", shared=True, max_bytes=1e6).put("b", 1)
    assert stat.S_IMODE(locks.stat().st_mode) == 0o2770


def test_a_folder_that_another_made_meanwhile_is_as_good(tmp_path, monkeypatch):
    path = tmp_path / "folder"

    def late(*args):
        (path / "inside").mkdir(parents=True)
        return real(*args)

    real = os.rename
    monkeypatch.setattr(os, "rename", late)
    Modes(0o2770).mkdir(path)
    assert sorted(tmp_path.rglob("*")) == [path, path / "inside"]


def test_a_folder_that_cannot_be_made_leaves_nothing_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError, match="read only"):
        Modes(0o2770).mkdir(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_can_be_shared(tmp_path, monkeypatch, umask):
    monkeypatch.setattr(os, "link", refuse)
    StageCache(tmp_path / "cache", shared=True).put("a", 1)
    assert StageCache(tmp_path / "cache", shared=True).get("a") == 1
    assert stat.S_IMODE((tmp_path / "cache" / MARKER).stat().st_mode) == 0o660


def test_a_marker_that_is_being_made_is_nothing_strange(tmp_path):
    tmp_path.chmod(0o2770)
    (tmp_path / f".{MARKER}.0123").touch()
    StageCache(tmp_path, shared=True).put("a", 1)
    assert StageCache(tmp_path, shared=True).get("a") == 1
