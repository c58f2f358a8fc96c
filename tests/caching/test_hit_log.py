"""Hits and load times, counted over all processes."""

import pytest

from eeipu import StageCache
from eeipu.caching.cache_directory import MARKER
from eeipu.caching.inventory import inventory

KEY = "0123456789abcdef"


def entry_of(root, key=KEY):
    (path,) = root.glob(f"entries/*/{key}.stage")
    return path


def test_hits_and_load_times_are_counted_over_all_processes(tmp_path):
    StageCache(tmp_path).put(KEY, 1, cost=10.0)
    for _ in range(3):
        StageCache(tmp_path).get(KEY)
    (entry,) = inventory(StageCache(tmp_path).place)
    assert entry.hits == 3
    assert 0.0 < entry.load_s < 10.0
    assert entry.saved == pytest.approx(3 * (10.0 - entry.load_s))


def test_half_a_hit_is_none(tmp_path):
    cache = StageCache(tmp_path)
    cache.put(KEY, 1)
    cache.get(KEY)
    (hits,) = tmp_path.glob("hits/*/*")
    with hits.open("ab") as file:
        file.write(b"abc")
    assert inventory(cache.place)[0].hits == 1
    hits.write_bytes(b"abc")
    assert (inventory(cache.place)[0].hits, inventory(cache.place)[0].load_s) == (0, None)


def test_gc_removes_the_hits_of_entries_that_have_gone(tmp_path):
    cache = StageCache(tmp_path)
    cache.put(KEY, 1)
    cache.get(KEY)
    entry_of(tmp_path).unlink()
    assert cache.gc() == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [MARKER]
