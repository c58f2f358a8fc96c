"""The stage-output cache, in memory and in directories."""

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import stat
import threading
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeipu.cache import IN_MEMORY, CacheStats, StageCache
from eeipu.errors import CacheAccessError, CacheMiss, ConfigurationError, MissingExtraError
from eeipu.serialization import entry_format

KEY = "0123456789abcdef"


@pytest.fixture(params=["memory", "directory", "fsspec"])
def location(request, tmp_path):
    """Each kind of place that a cache can be in."""
    if request.param == "memory":
        yield None
    elif request.param == "directory":
        yield tmp_path / "new" / "cache"
    else:
        root = f"/{uuid.uuid4().hex}"
        yield f"memory:/{root}"
        fs = fsspec.filesystem("memory")
        if fs.exists(root):
            fs.rm(root, recursive=True)


@pytest.fixture
def cache(location):
    return StageCache(location)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


def entry_of(directory, key=KEY):
    """The file that holds a key."""
    (path,) = [
        path for path in directory.rglob("*") if path.is_file() and path.name.startswith(key)
    ]
    return path


def fill(cache, *keys, size_bytes=1000):
    """Put values of one size under keys, the first one the least recently used."""
    for age, key in enumerate(keys):
        cache.put(key, bytes(size_bytes))
        if cache.location is not None:
            # Clocks of file systems are too coarse to tell these apart.
            os.utime(entry_of(Path(cache.location), key), (1e9 + age, 1e9 + age))


def fill_plain(cache, *keys):
    for key in keys:
        cache.put(key, key)


def size_of_one(size_bytes=1000):
    cache = StageCache()
    cache.put("x", bytes(size_bytes))
    return cache.stats().size_bytes


# --- keeping values -------------------------------------------------------------------------

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(trees)
def test_a_round_trip_is_identity(value):
    cache = StageCache()
    cache.put(KEY, value)
    loaded = cache.get(KEY)
    assert loaded == value
    assert repr(loaded) == repr(value)  # tells True from 1, and 1 from 1.0


def test_values_survive_in_every_kind_of_place(cache):
    value = {"weights": np.arange(4.0).reshape(2, 2), "names": ("a", None)}
    cache.put(KEY, value)
    loaded = cache.get(KEY)
    assert loaded["names"] == value["names"]
    np.testing.assert_array_equal(loaded["weights"], value["weights"])


def test_tensors_survive(cache):
    cache.put(KEY, torch.arange(3.0))
    assert torch.equal(cache.get(KEY), torch.arange(3.0))


def test_a_key_that_was_never_put_is_a_miss(cache):
    assert KEY not in cache
    with pytest.raises(CacheMiss, match=KEY):
        cache.get(KEY)


def test_the_last_value_under_a_key_counts(cache):
    cache.put(KEY, "old")
    cache.put(KEY, "new")
    assert cache.get(KEY) == "new"
    assert list(cache) == [KEY]


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "/abs", "a b", "naïve", "*", "%2F", "?"])
def test_any_string_is_a_key(cache, key):
    cache.put(key, "value")
    cache.put("other", "other value")
    assert (key in cache, cache.get(key), sorted(cache)) == (True, "value", sorted([key, "other"]))
    cache.retain([key])
    assert list(cache) == [key]


@given(st.text(max_size=8), st.text(max_size=8))
def test_no_two_keys_share_a_file(one, other):
    cache = StageCache("memory:///no-two-keys")
    cache.put(one, 1)
    cache.put(other, 2)
    assert cache.get(one) == (1 if one != other else 2)
    cache.clear()


def test_get_returns_a_fresh_copy_every_time(cache):
    value = [1, 2]
    cache.put(KEY, value)
    value.append(3)
    cache.get(KEY).append(4)
    assert cache.get(KEY) == [1, 2]


def test_two_caches_at_one_location_share_values(directory):
    StageCache(directory).put(KEY, "value")
    assert StageCache(str(directory)).get(KEY) == "value"


def test_two_caches_in_memory_share_nothing():
    StageCache().put(KEY, "value")
    assert KEY not in StageCache()


def test_a_value_put_by_another_is_seen_at_once(directory):
    mine, other = StageCache(directory), StageCache(directory)
    assert KEY not in mine
    other.put(KEY, 1)
    assert KEY in mine


def test_what_a_file_system_remembers_of_a_listing_is_not_trusted(monkeypatch):
    cache, forgotten = StageCache("memory:///listings"), []
    file_system = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(file_system, "invalidate_cache", lambda self: forgotten.append(True))
    assert KEY not in cache
    assert len(forgotten) == 1
    assert list(cache) == []
    assert len(forgotten) == 2


def test_the_directory_of_a_new_cache_exists(tmp_path):
    for location in (tmp_path / "a" / "b", f"memory:///{uuid.uuid4().hex}/b"):
        StageCache(location)
        fs, root = fsspec.url_to_fs(str(location))
        assert fs.isdir(root)


def test_a_cache_can_lie_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = StageCache("cache/")
    monkeypatch.chdir("/")
    cache.put(KEY, 1)
    assert entry_of(tmp_path / "cache")


def test_others_cannot_write_to_a_new_directory(directory):
    StageCache(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_cache_survives_the_loss_of_its_directory(directory):
    cache = StageCache(directory)
    shutil.rmtree(directory)
    assert KEY not in cache
    cache.put(KEY, 1)
    assert cache.get(KEY) == 1
    assert StageCache(directory).get(KEY) == 1


# --- costs ----------------------------------------------------------------------------------


def test_the_cost_is_kept_beside_the_value(cache):
    cache.put(KEY, "value", cost=2.5)
    assert cache.cost(KEY) == 2.5


def test_an_unknown_cost_is_none(cache):
    cache.put(KEY, "value")
    assert cache.cost(KEY) is None
    assert cache.cost("other") is None


def test_the_cost_is_read_without_the_value(directory):
    cache = StageCache(directory)
    cache.put(KEY, bytes(10**6), cost=2.5)
    path = entry_of(directory)
    path.write_bytes(path.read_bytes()[:1000])
    assert cache.cost(KEY) == 2.5


@pytest.mark.parametrize("header", [b"", b"{", b"[1]", b"{}", b"\xff"])
def test_the_cost_of_a_damaged_entry_is_none(directory, header):
    cache = StageCache(directory)
    cache.put(KEY, "value", cost=2.5)
    path = entry_of(directory)
    path.write_bytes(header + b"\n" + path.read_bytes().partition(b"\n")[2])
    assert cache.cost(KEY) is None


# --- dropping values ------------------------------------------------------------------------


def test_discard_drops_what_it_names(cache):
    fill_plain(cache, "a", "b", "c")
    cache.discard(["a", "c", "not there"])
    assert list(cache) == ["b"]


def test_retain_keeps_what_it_names(cache):
    fill_plain(cache, "a", "b", "c")
    cache.retain(["a", "c", "not there"])
    assert sorted(cache) == ["a", "c"]


def test_clear_drops_everything(cache):
    fill_plain(cache, "a", "b")
    cache.clear()
    assert (list(cache), cache.stats().size_bytes) == ([], 0)


def test_other_files_in_the_directory_are_left_alone(directory):
    cache = StageCache(directory)
    cache.put(KEY, 1)
    cache.get(KEY)
    names = [
        *("README.txt", "thesis/draft", "partial/thesis", "quarantine/thesis.txt", "hits/thesis"),
        *("hits/ab/thesis", "entries/thesis", "locks/thesis", "uses/thesis", "pins/thesis"),
    ]
    for path in map(directory.joinpath, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    cache.clear()
    cache.gc()
    StageCache(directory).put(KEY, 1)
    assert [name for name in names if not (directory / name).exists()] == []


# --- statistics -----------------------------------------------------------------------------


def test_stats_count_entries_bytes_hits_and_misses(cache):
    cache.put("a", bytes(1000))
    cache.put("b", bytes(1000))
    cache.get("a")
    for key in ("c", "d"):
        with pytest.raises(CacheMiss):
            cache.get(key)
    assert cache.stats() == CacheStats(2, 2 * size_of_one(), hits=1, misses=2)


def test_asking_whether_a_key_is_there_is_no_hit(cache):
    cache.put(KEY, 1)
    assert KEY in cache
    assert (cache.stats().hits, cache.stats().misses) == (0, 0)


# --- bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [0, -1, math.nan, "1GB"])
def test_a_bound_must_be_positive(max_bytes):
    with pytest.raises(ConfigurationError, match=f"max_bytes.*{max_bytes}"):
        StageCache(max_bytes=max_bytes)


@pytest.fixture(params=["memory", "directory"])
def bounded(request, tmp_path):
    """A cache with room for three values of 1,000 bytes."""
    location = None if request.param == "memory" else tmp_path / "cache"
    return StageCache(location, max_bytes=3 * size_of_one())


def test_the_least_recently_written_entry_goes_first(bounded):
    fill(bounded, "a", "b", "c")
    bounded.put("d", bytes(1000))
    assert sorted(bounded) == ["b", "c", "d"]


def test_reading_an_entry_is_using_it(bounded):
    fill(bounded, "a", "b", "c")
    bounded.get("a")
    bounded.put("d", bytes(1000))
    assert sorted(bounded) == ["a", "c", "d"]


def test_looking_at_the_cost_of_an_entry_is_no_use_of_it(bounded):
    fill(bounded, "a", "b", "c")
    bounded.cost("a")
    bounded.put("d", bytes(1000))
    assert sorted(bounded) == ["b", "c", "d"]


def test_replacing_an_entry_is_using_it():
    cache = StageCache(max_bytes=3 * size_of_one())
    fill(cache, "a", "b", "c")
    cache.put("a", bytes(1000))
    cache.put("d", bytes(1000))
    assert sorted(cache) == ["a", "c", "d"]


def test_as_many_entries_go_as_need_be(bounded):
    fill(bounded, "a", "b", "c")
    bounded.put("d", bytes(2000))
    assert sorted(bounded) == ["c", "d"]


def test_replacing_an_entry_pushes_out_no_other(bounded):
    fill(bounded, "a", "b", "c")
    bounded.put("c", bytes(1000))
    assert sorted(bounded) == ["a", "b", "c"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3000)), max_size=20))
def test_a_bound_is_never_exceeded(puts):
    cache = StageCache(max_bytes=4000)
    for key, size_bytes in puts:
        cache.put(key, bytes(size_bytes))
        assert cache.stats().size_bytes <= 4000
        assert key in cache


def test_a_value_larger_than_the_cache_is_not_kept(bounded):
    fill(bounded, "a")
    with pytest.warns(RuntimeWarning, match="larger than the whole cache") as caught:
        bounded.put("b", bytes(10_000))
    assert caught[0].filename == __file__
    assert list(bounded) == ["a"]


def test_a_value_exactly_as_large_as_the_cache_is_kept():
    cache = StageCache(max_bytes=size_of_one())
    fill(cache, "a", "b")
    assert list(cache) == ["b"]


def test_any_positive_bound_will_do():
    assert StageCache(max_bytes=0.5).max_bytes == 0.5


def test_the_default_cache_takes_a_quarter_of_the_free_memory(monkeypatch):
    class Memory:
        available = 8000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    cache = IN_MEMORY.open()
    assert (cache.location, cache.max_bytes) == (None, 2000)


def test_reprs_say_what_to_type():
    assert repr(IN_MEMORY) == "IN_MEMORY"
    assert repr(StageCache("memory://x", max_bytes=5)) == "StageCache('memory://x', max_bytes=5)"


# --- damage ---------------------------------------------------------------------------------


def damaged(content, position):
    """Each way in which bytes go bad."""
    flipped = bytearray(content)
    flipped[position % len(content)] ^= 1 << position % 8
    return {
        "truncated": content[: position % len(content)],
        "flipped": bytes(flipped),
        "empty": b"",
        "other": b"\x00" * len(content),
        "extended": content + b"\x00",
        "not a dict": b"[1]\n" + content.partition(b"\n")[2],
    }


@pytest.mark.parametrize("kind", damaged(b"x", 0))
def test_a_damaged_entry_is_a_miss_with_a_warning(directory, kind):
    cache = StageCache(directory)
    cache.put(KEY, list(range(100)))
    path = entry_of(directory)
    content = path.read_bytes()
    path.write_bytes(damaged(content, len(content) - 7)[kind])
    assert cache.verify() == [KEY]
    with (
        pytest.warns(RuntimeWarning, match=f"{KEY} is damaged.*dropped") as caught,
        pytest.raises(CacheMiss, match="damaged"),
    ):
        cache.get(KEY)
    assert caught[0].filename == __file__
    assert KEY not in cache
    assert cache.stats() == CacheStats(entries=0, size_bytes=0, hits=0, misses=1)


@given(st.integers(0, 10**6), st.sampled_from(["truncated", "flipped", "extended"]))
def test_damage_anywhere_never_gives_a_wrong_value(position, kind):
    fs, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    cache = StageCache(f"memory:/{root}")
    cache.put(KEY, [1.5, "text", None], cost=2.0)
    (path,) = fs.find(root)
    fs.pipe_file(path, damaged(fs.cat_file(path), position)[kind])
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            assert cache.get(KEY) == [1.5, "text", None]
        except CacheMiss:
            assert KEY not in cache
    fs.rm(root, recursive=True)


def test_sound_entries_verify(cache):
    fill_plain(cache, "a", "b")
    assert cache.verify() == []


def test_an_entry_that_goes_while_it_is_verified_is_not_damaged(directory, monkeypatch):
    cache = StageCache(directory)
    cache.put(KEY, 1)
    monkeypatch.setattr(type(cache), "__iter__", lambda self: iter([KEY, "gone"]))
    assert cache.verify() == []


class FailsToLoad:
    """Serialises well, and cannot be read back."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return fail, (self.error,)


def fail(error):
    raise error("on purpose")


@pytest.mark.parametrize("error", [ValueError, KeyError, OSError, EOFError])
def test_a_value_that_cannot_be_loaded_is_damaged(cache, error):
    cache.put(KEY, FailsToLoad(error))
    assert cache.verify() == []
    with pytest.warns(RuntimeWarning, match="on purpose"), pytest.raises(CacheMiss):
        cache.get(KEY)
    assert KEY not in cache


def test_a_value_that_cannot_be_serialised_leaves_nothing(cache):
    with pytest.raises(TypeError, match="lock"):
        cache.put(KEY, threading.Lock())
    assert KEY not in cache
    assert cache.stats().entries == 0


def test_a_value_that_cannot_be_serialised_leaves_the_old_one(cache):
    cache.put(KEY, "old")
    with pytest.raises(TypeError, match="lock"):
        cache.put(KEY, threading.Lock())
    assert cache.get(KEY) == "old"


def test_damage_that_cannot_be_removed_is_still_a_miss(directory, monkeypatch):
    cache = StageCache(directory)
    cache.put(KEY, 1)
    entry_of(directory).write_bytes(b"")

    def refuse(self, path):
        raise PermissionError(path)

    monkeypatch.setattr(type(fsspec.filesystem("file")), "rm_file", refuse)
    with pytest.warns(RuntimeWarning, match="damaged"), pytest.raises(CacheMiss):
        cache.get(KEY)


def failing(error):
    """Something to call that raises."""

    def fail(*args, **kwargs):
        raise error

    return fail


def test_an_entry_out_of_reach_is_a_miss_and_stays(directory, monkeypatch):
    cache = StageCache(directory, memory_bytes=1)
    cache.put(KEY, 1)
    with monkeypatch.context() as patch:
        error = OSError(errno.ENFILE, "too many open files")
        patch.setattr(os, "open", failing(error))
        assert cache.cost(KEY) is None
        with pytest.warns(RuntimeWarning, match="too many"), pytest.raises(CacheMiss):
            cache.get(KEY)
    assert cache.get(KEY) == 1


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "not yours"), OSError(errno.EIO, "bad sector")]
)
def test_an_entry_that_cannot_be_read_is_not_moved(directory, monkeypatch, error):
    cache = StageCache(directory, memory_bytes=1)
    cache.put(KEY, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(error))
        with (
            pytest.warns(RuntimeWarning, match=error.strerror),
            pytest.raises(CacheMiss),
        ):
            cache.get(KEY)
    assert cache.get(KEY) == 1


def test_an_entry_that_cannot_be_marked_as_used_is_still_a_hit(directory):
    cache = StageCache(directory)
    cache.put(KEY, 1)
    (directory / "hits").write_text("in the way")
    assert cache.get(KEY) == 1


def test_an_entry_that_goes_while_it_is_read_does_not_come_back_empty(directory, monkeypatch):
    cache = StageCache(directory, memory_bytes=1)
    cache.put(KEY, 1)
    path = entry_of(directory)

    def read_and_lose(*args):
        path.unlink()
        return entry_format.read_payload(*args)

    monkeypatch.setattr("eeipu.caching.directory_store.read_payload", read_and_lose)
    assert cache.get(KEY) == 1
    assert KEY not in cache
    assert list(cache) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_entry_and_no_litter(directory, monkeypatch, step):
    cache = StageCache(directory)
    cache.put(KEY, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing(OSError(errno.ENOSPC, "disk full")))
        with pytest.raises(OSError, match="disk full"):
            cache.put(KEY, "new")
    assert cache.get(KEY) == "old"
    assert list(directory.glob("partial/*")) == []


def test_a_write_that_never_began_leaves_its_own_error(directory, monkeypatch):
    cache = StageCache(directory)
    monkeypatch.setattr(
        "eeipu.caching.directory_store.write_entry", failing(PermissionError("read only"))
    )
    with pytest.raises(CacheAccessError, match="written to: read only; check") as caught:
        cache.put(KEY, 1)
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.parametrize("key", ["k" * 300, "ü" * 70, "\ud800", 3, None], ids=ascii)
def test_what_cannot_name_a_file_is_refused_as_a_key_and_is_never_there(cache, key):
    with pytest.raises(ConfigurationError, match=r"at most 240 bytes.*use a digest"):
        cache.put(key, 1)
    assert key not in cache
    with pytest.raises(CacheMiss, match="cannot be a key"):
        cache.get(key)
    assert cache.stats().entries == 0


@pytest.mark.parametrize(
    "key", ["k" * 240, "a\0b", "../a/b", "..", "", "a b:c*?", "%2F"], ids=ascii
)
def test_any_other_text_can_be_a_key(cache, key):
    cache.put(key, 1)
    assert list(cache) == [key]
    assert cache.get(key) == 1
    cache.clear()
    assert key not in cache


@pytest.mark.parametrize(
    "act",
    [
        StageCache.stats,
        StageCache.verify,
        StageCache.clear,
        StageCache.gc,
        list,
        lambda cache: cache.retain([]),
        lambda cache: cache.put(KEY, 1),
    ],
)
def test_a_location_that_fails_is_named_with_the_remedy(directory, monkeypatch, act):
    cache = StageCache(directory, max_bytes=1e6)
    for method in ("sizes", "uses"):
        monkeypatch.setattr(type(cache.place.store), method, failing(PermissionError("not yours")))
    with pytest.raises(CacheAccessError, match=r"cache'.* cannot be .*not yours; check"):
        act(cache)


# What a writer calls its file.
HALF = "0123456789abcdef" * 2


def test_a_half_written_entry_is_not_there_and_is_removed(directory):
    StageCache(directory).put(KEY, 1)
    partial = directory / "partial" / HALF
    partial.write_bytes(entry_of(directory).read_bytes()[:600])
    cache = StageCache(directory)
    assert list(cache) == [KEY]
    assert partial.exists()  # who only looks changes nothing
    cache.put("other", 1)
    assert not partial.exists()


def test_what_a_living_writer_writes_is_left_to_it(directory):
    cache = StageCache(directory)
    cache.put(KEY, 1)
    partial = directory / "partial" / HALF
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cache.gc()
        assert partial.exists()


# --- locations ------------------------------------------------------------------------------


def test_a_file_is_no_location(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("")
    with pytest.raises(ConfigurationError, match=r"file\.txt.*directory"):
        StageCache(path)


def test_an_unknown_protocol_is_named():
    with pytest.raises(ConfigurationError, match="nosuch://bucket"):
        StageCache("nosuch://bucket")


def test_a_file_system_that_is_not_installed_is_named():
    fsspec.register_implementation(
        "eeiputest", "eeiputest_missing.FileSystem", clobber=True, errtxt="Install eeiputest."
    )
    with pytest.raises(MissingExtraError, match=r"eeiputest://bucket.*Install eeiputest"):
        StageCache("eeiputest://bucket")


def test_the_age_of_an_entry_is_known_on_any_file_system(monkeypatch):
    cache = StageCache(f"memory://{uuid.uuid4().hex}")
    fill_plain(cache, "a", "b", "c", "d")
    file_system = type(fsspec.filesystem("memory"))
    find = file_system.find

    class Stamp:
        def timestamp(self):
            return 1.0

    stamps = {"a": {"mtime": 3.0}, "b": {"LastModified": Stamp()}, "c": {"created": 2}, "d": {}}

    def find_with_stamps(self, root, **kwargs):
        found = find(self, root, **kwargs)
        return {p: {"size": 1, **stamps[Path(p).name[0]]} for p in found}

    monkeypatch.setattr(file_system, "find", find_with_stamps)
    assert list(cache) == ["d", "b", "c", "a"]


def test_people_can_read_what_an_entry_is(directory):
    known = {"cost": 2.0, "stage": "train", "params": {"lr": 0.1}, "versions": {"numpy": "2.0"}}
    StageCache(directory).put(KEY, "value", **known)
    _, header, _ = entry_of(directory).read_bytes().split(b"\n", 2)
    described = json.loads(header)
    assert described.items() >= {"key": KEY, "kind": "pickle", **known}.items()


# --- threads --------------------------------------------------------------------------------


def test_threads_can_share_a_cache(location):
    cache, errors = StageCache(location), []

    def work(seed):
        try:
            for i in range(30):
                key = f"k{(seed + i) % 4}"
                cache.put(key, key * 100)
                with suppress(CacheMiss):  # another thread may have dropped it
                    assert cache.get(key) == key * 100
                list(cache)
                cache.discard([f"k{(seed + i + 2) % 4}"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.verify() == []


def test_a_value_whose_upkeep_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    cache = StageCache(tmp_path, max_bytes=1e6)

    @contextlib.contextmanager
    def upkeep():
        raise OSError("no lock")
        yield

    monkeypatch.setattr(cache.holders, "upkeep", upkeep)
    with pytest.raises(OSError, match="no lock"):
        cache.put("key", 1)
    assert [path for path in (tmp_path / "partial").rglob("*") if path.is_file()] == []
