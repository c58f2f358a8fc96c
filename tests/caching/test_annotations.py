"""Changing what an entry says about itself."""

from dataclasses import replace

import numpy as np
import pytest

from eeipu import StageCache
from eeipu.caching.annotations import annotate

VALUE = {"weights": np.arange(1000.0), "rows": ["a"]}


@pytest.fixture(params=["memory", "directory", "remote", "gzip", "large"])
def cache(request, tmp_path):
    match request.param:
        case "memory":
            return StageCache()
        case "remote":
            return StageCache(f"memory://{tmp_path}")
        case "gzip":
            return StageCache(tmp_path / "cache", compression="gzip")
        case _:
            return StageCache(tmp_path / "cache", max_bytes=10**8)


def noted(header):
    return replace(header, observed={**header.observed, "f": 0.5})


def check_is_whole(cache, key):
    found = cache.get(key)
    assert found["rows"] == ["a"]
    np.testing.assert_array_equal(found["weights"], VALUE["weights"])
    assert cache.verify() == []


def test_the_value_and_the_rest_of_the_header_stay(cache):
    cache.put("a", VALUE, cost=3.0, stage="fit", params={"x": 1}, observed={"g": None})
    before = cache.place.store.header("a")
    cache.get("a")  # into the memory tier
    annotate(cache.place, "a", noted)
    after = cache.place.store.header("a")
    assert after.observed == {"g": None, "f": 0.5}
    assert replace(after, observed=before.observed) == before
    check_is_whole(cache, "a")
    assert cache.stats().entries == 1


def test_a_header_that_grows_beyond_its_block_is_no_problem(cache):
    cache.put("a", VALUE)
    long = {f"number {i}": float(i) for i in range(1000)}
    annotate(cache.place, "a", lambda header: replace(header, observed={"f": long}))
    assert cache.place.store.header("a").observed == {"f": long}
    check_is_whole(cache, "a")


def test_an_entry_that_is_not_there_is_not_made(cache):
    with pytest.raises(KeyError):
        annotate(cache.place, "a", noted)

    cache.put("b", VALUE)

    def dropping(header):
        cache.discard(["b"])
        return noted(header)

    annotate(cache.place, "b", dropping)
    assert "b" not in cache


def test_a_change_that_fails_leaves_the_entry_as_it_was(cache):
    def failing(header):
        raise RuntimeError("no")

    cache.put("a", VALUE)
    with pytest.raises(RuntimeError):
        annotate(cache.place, "a", failing)
    check_is_whole(cache, "a")


def test_an_entry_written_before_notes_existed_can_be_read(tmp_path):
    """Its header has no `observed`."""
    cache = StageCache(tmp_path / "cache")
    cache.put("a", VALUE)
    header = cache.place.store.header("a")
    assert header.observed == {}
    fields = {name: value for name, value in vars(header).items() if name != "observed"}
    assert type(header)(**fields) == header
