"""Entries in memory."""

import pytest

from eeipu.caching.memory_store import MemoryStore
from eeipu.caching.stores import Use
from eeipu.serialization.entry_format import Header


@pytest.fixture
def store():
    store = MemoryStore(now=lambda: 5.0)
    store.prepare(Header("a", "pickle", ()), [b"value"]).commit()
    return store


def test_nothing_is_seen_before_it_is_committed(store):
    pending = store.prepare(Header("b", "pickle", ()), [b"value"])
    assert not store.contains("b")
    pending.discard()
    assert not store.contains("b")
    pending.commit()
    assert store.contains("b")


def test_loads_are_counted_and_timed(store):
    assert store.hits.load_s("a") is None
    store.hits.add("a", 1.0)
    store.hits.add("a", 3.0)
    assert store.hits.load_s("a") == 2.0
    assert store.uses() == {"a": Use(store.header("a").file_bytes, 5.0, hits=2)}


def test_what_was_dropped_meanwhile_is_not_counted(store):
    store.delete("a")
    store.hits.add("a", 1.0)
    assert store.uses() == {}
    assert store.hits.load_s("a") is None


def test_a_replaced_entry_has_not_been_loaded(store):
    store.hits.add("a", 1.0)
    signature = store.signature("a")
    store.prepare(Header("a", "pickle", ()), [b"other"]).commit()
    assert store.hits.load_s("a") is None
    assert store.signature("a") != signature


def test_memory_leaves_nothing_behind(store):
    store.quarantine("a")
    assert store.sizes() == {}
    assert store.clean(thoroughly=True) == store.clean() == 0
    store.tidy()
