"""What goes first: what is cheapest to lose."""

import pytest

from eeipu import StageCache
from eeipu.caching import eviction
from eeipu.caching.eviction import cheapest_first
from eeipu.caching.stores import Use


def order(costs, now_s=100.0, **uses):
    return list(cheapest_first(uses, costs.get, now_s))


def test_of_two_alike_the_cheaper_goes_first():
    assert order({"a": 5.0, "b": 1.0}, a=Use(10, 0.0), b=Use(10, 0.0)) == ["b", "a"]


def test_of_two_alike_the_larger_goes_first():
    assert order({"a": 1.0, "b": 1.0}, a=Use(10, 0.0), b=Use(20, 0.0)) == ["b", "a"]


def test_of_two_alike_the_one_that_was_idle_for_longer_goes_first():
    assert order({}, a=Use(10, 90.0), b=Use(10, 0.0)) == ["b", "a"]


def test_seconds_bytes_and_age_weigh_against_each_other():
    uses = {"dear": Use(100, 0.0), "small": Use(1, 0.0), "new": Use(100, 99.0)}
    assert order({"dear": 50.0, "small": 1.0, "new": 1.0}, **uses) == ["dear", "small", "new"]


@pytest.mark.parametrize("now_s", [-1e9, 0.0])
def test_a_clock_that_was_set_back_makes_all_equally_new(now_s):
    uses = {"b": Use(10, 50.0), "a": Use(10, 60.0), "cheap": Use(10, 70.0)}
    assert order({"a": 2.0, "b": 2.0, "cheap": 1.0}, now_s, **uses) == ["cheap", "b", "a"]


def test_what_cost_much_stays(tmp_path):
    cache = StageCache(tmp_path, max_bytes=9000)
    cache.put("dear", bytes(2000), cost=3600.0)
    cache.put("cheap", bytes(2000), cost=0.1)
    cache.put("new", bytes(2000), cost=1.0)
    cache.put("newer", bytes(2000), cost=1.0)
    assert "dear" in cache
    assert "cheap" not in cache


def test_an_entry_that_cannot_be_weighed_goes_first(tmp_path):
    cache = StageCache(tmp_path, max_bytes=9000)
    for key in "abc":
        cache.put(key, bytes(2000), cost=5.0)
    for path in tmp_path.glob("entries/*/b.stage"):
        path.write_bytes(b"x" * 2600)
    other = StageCache(tmp_path, max_bytes=9000)
    other.put("d", bytes(2000), cost=5.0)
    assert sorted(other) == ["a", "c", "d"]


def test_where_there_are_many_room_is_made_for_more_than_one(monkeypatch):
    monkeypatch.setattr(eviction, "MANY_ENTRIES", 10)
    monkeypatch.setattr(eviction, "SPARE", 0.25)
    cache = StageCache()
    for i in range(20):
        cache.put(f"{i}", bytes(100))
    cache.max_bytes = cache.stats().size_bytes
    cache.put("new", bytes(100))
    assert cache.stats().entries == 20 - 6 + 1


def test_of_many_only_those_are_weighed_that_take_room(monkeypatch):
    monkeypatch.setattr(eviction, "MANY_ENTRIES", 5)
    uses = {f"{i}": Use(10 + i, 0.0) for i in range(20)}
    assert sorted(map(int, eviction._heaviest(uses, 0.0, 100.0))) == [15, 16, 17, 18, 19]
    assert len(eviction._heaviest(uses, 29.0 + 28.0 + 27.0 + 26.0 + 25.0 + 24.0, 100.0)) == 6
    assert len(eviction._heaviest(uses, 1e9, 100.0)) == 20
    assert eviction._heaviest(dict(list(uses.items())[:5]), 0.0, 100.0).keys() == set("01234")
