"""Copies of small entries in memory."""

import os
import uuid

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from eeipu import CacheMiss, StageCache

KEY = "0123456789abcdef"


def test_a_hit_from_memory_reads_no_file(tmp_path, monkeypatch):
    cache = StageCache(tmp_path)
    cache.put(KEY, [1, np.arange(1000)])
    monkeypatch.setattr(os, "read", None)
    value = cache.get(KEY)
    value.append(2)
    value[1][:] = 0
    again = cache.get(KEY)
    assert again[0] == 1
    assert len(again) == 2
    assert again[1][-1] == 999


def test_what_another_process_replaced_or_dropped_is_not_taken_from_memory(tmp_path):
    cache, other = StageCache(tmp_path), StageCache(tmp_path)
    cache.put(KEY, "old")
    other.put(KEY, "new")
    assert cache.get(KEY) == "new"
    other.clear()
    assert KEY not in cache
    with pytest.raises(CacheMiss):
        cache.get(KEY)


def test_the_memory_tier_keeps_to_its_bound(tmp_path, monkeypatch):
    cache = StageCache(tmp_path, memory_bytes=3000)
    for key in "abc":
        cache.put(key, key * 1000)
    assert [key in cache._tier._held for key in "abc"] == [False, True, True]
    cache.get("b")
    cache.put("d", "d" * 1000)
    assert [key in cache._tier._held for key in "abcd"] == [False, True, False, True]
    cache.put("large", bytes(3000))
    assert "large" not in cache._tier._held
    assert cache.get("a") == "a" * 1000


def test_a_value_in_the_memory_tier_takes_no_request(monkeypatch):
    cache = StageCache(f"memory:///{uuid.uuid4().hex}")
    cache.put("a", [1])
    monkeypatch.setattr(MemoryFileSystem, "open", None)
    cache.get("a").append(2)
    assert cache.get("a") == [1]
