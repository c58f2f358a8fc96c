"""The modes of files and folders, whatever the umask is."""

import os
import stat

import pytest

from eeipu import StageCache
from eeipu.caching.cache_directory import MARKER, CacheDirectory
from eeipu.caching.permissions import Modes


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


def refuse(*args):
    raise PermissionError("read only")


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
