"""Listings follow what other processes do, and cost nothing where nothing changed."""

import os
import time

from eeipu import StageCache

KEY = "0123456789abcdef"


def entry_of(root, key=KEY):
    (path,) = root.glob(f"entries/*/{key}.stage")
    return path


def test_sizes_follow_what_other_processes_do(tmp_path):
    ours, other = StageCache(tmp_path), StageCache(tmp_path)
    for step in range(30):
        other.put(f"key {step}", step)
        assert ours.stats().entries == step + 1
    time.sleep(0.06)  # until what was listed counts as settled
    assert ours.stats().entries == 30
    other.discard(["key 3"])
    assert "key 3" not in set(ours)
    assert ours.stats().entries == 29


def test_a_folder_is_listed_again_only_if_it_changed(tmp_path, monkeypatch):
    cache = StageCache(tmp_path)
    cache.put(KEY, 1)
    time.sleep(0.06)
    cache.stats()
    monkeypatch.setattr("eeipu.caching.directory_listing._files", None)
    assert cache.stats().entries == 1


def test_a_folder_that_goes_while_it_is_listed_is_empty(tmp_path, monkeypatch):
    cache = StageCache(tmp_path)
    cache.put(KEY, 1)
    monkeypatch.setattr(os, "listdir", lambda path: ["00", entry_of(tmp_path).parent.name])
    assert list(cache) == [KEY]
