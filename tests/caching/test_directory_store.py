"""Caches in directories: whose they are, what is mapped, and what many processes do to them."""

import multiprocessing
import os
import pickle
import random
import stat
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from eeipu import CacheFormatError, CacheMiss, ConfigurationError, StageCache
from eeipu.caching.directory_store import DirectoryStore
from eeipu.serialization.entry_format import Header

KEY = "0123456789abcdef"

fork = multiprocessing.get_context("fork")


def entry_of(root, key=KEY):
    (path,) = root.glob(f"entries/*/{key}.stage")
    return path


# --- trust ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_can_write_to_is_refused_unless_asked_for(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"{mode:04o}.*shared=True"):
        StageCache(tmp_path)
    shared = StageCache(tmp_path, shared=True)
    shared.put(KEY, 1)
    assert shared.get(KEY) == 1


def test_a_directory_that_others_can_read_is_no_danger(tmp_path):
    tmp_path.chmod(0o755)
    StageCache(tmp_path)


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    StageCache(tmp_path).put(KEY, 1)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(ConfigurationError, match=f"belongs to the user {mine}, not to {mine + 1}"):
        StageCache(tmp_path)
    assert StageCache(tmp_path, shared=True).get(KEY) == 1


@pytest.mark.parametrize("whose", ["mode", "owner"])
def test_an_entry_that_others_can_write_is_refused(tmp_path, monkeypatch, whose):
    cache = StageCache(tmp_path, memory_bytes=1)
    cache.put(KEY, 1)
    if whose == "mode":
        entry_of(tmp_path).chmod(0o664)
    else:
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with (
        pytest.warns(RuntimeWarning, match=r"another user's.*chmod it to 0600"),
        pytest.raises(CacheMiss),
    ):
        cache.get(KEY)
    monkeypatch.undo()
    entry_of(tmp_path).chmod(0o600)
    assert cache.get(KEY) == 1  # it was left where it is


def test_nobody_else_can_read_or_write_what_is_new(tmp_path):
    cache = StageCache(tmp_path / "cache")
    cache.put(KEY, 1)
    cache.get(KEY)
    cache.holders.pin("study", [KEY])
    made = [
        tmp_path / "cache",
        *(tmp_path / "cache").rglob("entries/**"),
        entry_of(tmp_path / "cache"),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700, 0o600}


@contextmanager
def umask(mask):
    former = os.umask(mask)
    try:
        yield
    finally:
        os.umask(former)


def everything_in(root):
    """Use every part of a cache, and what was made then, with its mode."""
    cache = StageCache(root, shared=True)
    with cache.holders.claim(KEY), cache.holders.using([KEY]):
        cache.put(KEY, 1)
        cache.get(KEY)
        cache.put("damaged", 1)
        entry_of(root, "damaged").write_bytes(b"")
        with pytest.warns(RuntimeWarning, match="quarantine"), pytest.raises(CacheMiss):
            cache.get("damaged")
        cache.holders.pin("study", [KEY])
        pending = cache.place.store.prepare(Header("other", "pickle", ()), [b"value"])
        modes = {
            str(path.relative_to(root)): (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
            for path in (root, *root.rglob("*"))
        }
        pending.discard()
    return modes


@pytest.mark.parametrize("has_locks", [True, False])
@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize("found", [None, 0o2770, 0o1777, 0o755])
def test_what_is_in_a_shared_directory_follows_its_mode(
    tmp_path, monkeypatch, found, mask, has_locks
):
    monkeypatch.setattr("eeipu.caching.locations.has_locks", lambda root: has_locks)
    root = tmp_path / "cache"
    if found is not None:
        root.mkdir()
        root.chmod(found)
    with umask(mask):
        modes = everything_in(root)
    assert modes.pop(".") == (True, 0o2770 if found is None else found)
    folder = {None: 0o2770, 0o1777: 0o777}.get(found, found)
    assert set(modes.values()) == {(True, folder), (False, folder & 0o666)}
    kinds = {name.partition("/")[0] for name in modes}
    assert kinds == {
        *("eeipu-cache", "entries", "hits", "locks", "partial", "pins", "quarantine", "uses"),
    }


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_what_is_in_a_private_directory_is_its_users_alone(tmp_path, mask):
    with umask(mask):
        cache = StageCache(tmp_path / "cache")
        with cache.holders.claim(KEY), cache.holders.using([KEY]):
            cache.put(KEY, 1)
            cache.get(KEY)
            cache.holders.pin("study", [KEY])
            made = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
            modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in made}
    assert modes == {(True, 0o700), (False, 0o600)}


# --- mapping ----------------------------------------------------------------------------------


def test_a_mapped_value_may_be_changed_and_the_file_is_not(tmp_path):
    array = np.arange(50_000.0)
    StageCache(tmp_path).put(KEY, {"x": array})
    before = entry_of(tmp_path).read_bytes()
    mapped = StageCache(tmp_path, mmap=True)
    loaded = mapped.get(KEY)["x"]
    loaded += 1.0
    np.testing.assert_array_equal(loaded, array + 1.0)
    np.testing.assert_array_equal(mapped.get(KEY)["x"], array)
    assert entry_of(tmp_path).read_bytes() == before


def test_a_mapped_value_outlives_its_entry(tmp_path):
    cache = StageCache(tmp_path, mmap=True)
    cache.put(KEY, np.arange(50_000.0))
    loaded = cache.get(KEY)
    cache.clear()
    assert loaded.sum() == np.arange(50_000.0).sum()


@pytest.mark.parametrize("kind", ["flip", "truncate", "extend"])
def test_damage_to_what_is_mapped_is_noticed(tmp_path, kind):
    cache = StageCache(tmp_path, mmap=True)
    cache.put(KEY, np.arange(50_000.0))
    content = bytearray(entry_of(tmp_path).read_bytes())
    if kind == "flip":
        content[-1000] ^= 1
    damaged = {"truncate": content[:-10], "extend": content + b"x"}.get(kind, content)
    entry_of(tmp_path).write_bytes(damaged)
    with pytest.warns(RuntimeWarning, match="damaged"), pytest.raises(CacheMiss):
        cache.get(KEY)


def test_small_and_packed_values_come_from_a_mapping_cache_too(tmp_path):
    cache = StageCache(tmp_path, mmap=True, compression="gzip")
    large = np.random.default_rng(0).random(50_000)
    for key, value in (("small", 1), ("large", large)):
        cache.put(key, value)
    assert cache.get("small") == 1
    np.testing.assert_array_equal(cache.get("large"), large)


# --- upkeep -----------------------------------------------------------------------------------


def test_gc_drops_what_was_not_used_for_long(tmp_path):
    now = [time.time()]
    cache = StageCache(tmp_path, now=lambda: now[0])
    for key in "ab":
        cache.put(key, key)
    cache.holders.pin("study", ["b"])
    assert cache.gc(max_idle_s=60.0) == 0
    now[0] += 1000.0
    assert cache.gc(max_idle_s=60.0) == 1
    assert list(cache) == ["b"]


def test_quarantine_is_emptied_by_gc_alone(tmp_path):
    cache = StageCache(tmp_path, max_bytes=6000)
    cache.put("a", bytes(3000))
    content = entry_of(tmp_path, "a").read_bytes()
    entry_of(tmp_path, "a").write_bytes(content[:-1])
    with pytest.warns(RuntimeWarning, match="quarantine"), pytest.raises(CacheMiss):
        cache.get("a")
    for key in "bcd":
        cache.put(key, bytes(3000))
    assert len(list(tmp_path.glob("quarantine/*"))) == 1
    cache.gc()
    assert list(tmp_path.glob("quarantine/*")) == []


def test_damage_that_cannot_be_moved_is_still_a_miss(tmp_path):
    cache = StageCache(tmp_path)
    cache.put(KEY, 1)
    entry_of(tmp_path).write_bytes(b"")
    (tmp_path / "quarantine").write_text("in the way")
    with pytest.warns(RuntimeWarning, match=r"is damaged"), pytest.raises(CacheMiss):
        cache.get(KEY)
    assert KEY in cache


def test_two_who_find_damage_at_once_put_it_aside_once(tmp_path):
    store = DirectoryStore(tmp_path)
    store.quarantine(KEY)
    assert list(tmp_path.glob("quarantine/*")) == []


def test_a_cache_that_can_only_be_read_can_be_read(tmp_path, monkeypatch):
    StageCache(tmp_path).put(KEY, 1)

    def refuse(self, **options):
        raise PermissionError("read only")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert StageCache(tmp_path).get(KEY) == 1


def test_a_folder_that_is_tidied_away_before_an_entry_is_in_it_is_made_again(tmp_path, monkeypatch):
    cache, replace, tidied = StageCache(tmp_path), os.replace, []

    def replace_late(source, target):
        if not tidied:
            tidied.append(source)
            StageCache(tmp_path).gc()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_late)
    cache.put(KEY, 1)
    assert tidied
    assert cache.get(KEY) == 1


def test_an_entry_whose_file_was_taken_away_is_not_put(tmp_path):
    pending = DirectoryStore(tmp_path).prepare(Header(KEY, "pickle", ()), [b"value"])
    (partial,) = (tmp_path / "partial").iterdir()
    partial.unlink()
    with pytest.raises(FileNotFoundError):
        pending.commit()


def test_folders_that_others_work_in_are_not_removed(tmp_path):
    cache = StageCache(tmp_path)
    cache.put(KEY, 1)
    with cache.holders.using([KEY]):
        pass
    cache.clear()
    cache.gc()
    assert {path.name for path in tmp_path.iterdir()} >= {"partial", "locks", "uses"}


def test_a_new_folder_is_synced_into_its_parent(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def noted(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    StageCache(tmp_path / "new" / "cache").put(KEY, 1)
    folder = entry_of(tmp_path / "new" / "cache").parent
    wanted = {folder, folder.parent, tmp_path / "new" / "cache", tmp_path / "new", tmp_path}
    assert set(map(str, wanted)) <= set(synced)


def test_what_need_not_survive_a_power_failure_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    cache = pickle.loads(pickle.dumps(StageCache(tmp_path / "cache", durable=False)))
    cache.put(KEY, 1)
    assert cache.get(KEY) == 1
    assert synced == []


# --- many processes ---------------------------------------------------------------------------


def put_many(root, seed, max_bytes):
    rng, cache = random.Random(seed), StageCache(root, max_bytes)
    for _ in range(15):
        key = f"{rng.randrange(20)}"
        cache.put(key, bytes(rng.randrange(1, 4000)))
        with cache.holders.upkeep():  # elsewhere an entry may come in place of one that was counted
            assert cache.stats().size_bytes <= max_bytes


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_together_keep_to_a_bound(tmp_path):
    children = [fork.Process(target=put_many, args=(tmp_path, seed, 12_000)) for seed in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert StageCache(tmp_path).verify() == []


def test_a_cache_can_be_handed_to_another_process(tmp_path):
    cache = StageCache(tmp_path, 10_000, compression="gzip", trusted=False)
    cache.put(KEY, 21)
    again = pickle.loads(pickle.dumps(cache))
    assert repr(again) == repr(cache)
    assert again.get(KEY) == 21
    with pytest.raises(CacheFormatError):
        again.put("other", object())


def test_a_cache_in_memory_stays_in_its_process():
    with pytest.raises(TypeError, match="location"):
        pickle.dumps(StageCache())
