"""Pins of studies: how long they last, and what is damaged."""

import uuid

import pytest

from eeipu import StageCache
from eeipu.caching.leases.claims import PIN_LIFETIME_S


@pytest.fixture(params=["memory", "directory", "fsspec"])
def location(request, tmp_path):
    places = {"directory": tmp_path / "cache", "fsspec": f"memory:///{uuid.uuid4().hex}"}
    return places.get(request.param)


def test_pins_of_a_study_that_is_not_run_again_come_to_an_end(location):
    now = [1e9]
    cache = StageCache(location, now=lambda: now[0])
    cache.put("a", "a")
    cache.holders.pin("study", ["a"])
    now[0] += PIN_LIFETIME_S - 1
    cache.gc()
    cache.retain([])
    assert "a" in cache
    now[0] += 2
    cache.gc()
    cache.retain([])
    assert "a" not in cache


def test_gc_removes_pins_that_were_never_finished(tmp_path):
    cache = StageCache(tmp_path)
    cache.holders.pin("study", ["a"])
    (tmp_path / "pins" / ("ab" * 16)).write_text("{")
    assert cache.gc() == 1
    assert cache.holders.kept() == {"a"}


def test_damaged_notes_stop_nobody(tmp_path):
    cache = StageCache(tmp_path)
    cache.holders.pin("study", ["a"])
    (tmp_path / "pins" / "other.json").write_text("{")
    with cache.holders.using(["b"]):
        (use,) = (tmp_path / "uses").iterdir()
        assert cache.holders.kept() == {"a", "b"}
        use.write_text("[")
        assert cache.holders.kept() == {"a"}


def test_pins_outlive_their_process_only_if_they_should(tmp_path):
    StageCache(tmp_path).holders.pin("study", ["a"])
    cache = StageCache(tmp_path)
    assert cache.holders.kept() == {"a"}
    cache.holders.pin("passing", ["b"], lasting=False)
    assert StageCache(tmp_path).holders.kept() == {"a", "b"}
