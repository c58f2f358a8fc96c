"""Claims, uses and pins: nobody drops what somebody needs."""

import fcntl
import os
import threading
import uuid
from pathlib import Path

import pytest

from eeipu import Float, Pipeline, StageCache, Tuner, stage
from eeipu.stages.running.calls import stage_calls
from eeipu.stages.running.walks import run_path


@pytest.fixture(params=["memory", "directory", "fsspec"])
def location(request, tmp_path):
    places = {"directory": tmp_path / "cache", "fsspec": f"memory:///{uuid.uuid4().hex}"}
    return places.get(request.param)


@pytest.fixture
def cache(location):
    """A cache with two entries."""
    cache = StageCache(location)
    for key in "ab":
        cache.put(key, key)
    return cache


def again(cache):
    """The same cache in the hands of somebody else."""
    return cache if cache.location is None else StageCache(cache.location)


def test_what_is_used_is_dropped_by_nobody(cache):
    with cache.holders.using(["a"]):
        again(cache).retain([])
        assert list(cache) == ["a"]
        again(cache).clear()
        assert list(cache) == ["a"]
    again(cache).retain([])
    assert list(cache) == []


@pytest.mark.parametrize("lasting", [True, False])
def test_what_one_study_keeps_no_other_drops(cache, lasting):
    cache.holders.pin("one", ["a"], lasting=lasting)
    cache.holders.pin("other", ["b"], lasting=lasting)
    again(cache).retain([])
    assert sorted(cache) == ["a", "b"]
    cache.holders.pin("one", [], lasting=lasting)
    cache.holders.pin("one", [], lasting=lasting)
    again(cache).retain([])
    assert list(cache) == ["b"]


def test_clear_drops_what_studies_keep(cache):
    cache.holders.pin("one", ["a"])
    again(cache).clear()
    assert list(cache) == []


def test_a_claim_in_a_place_that_cannot_be_written_to_is_no_obstacle(cache, monkeypatch):
    def refuse(name, content=b""):
        raise PermissionError(name)

    monkeypatch.setattr(cache.holders._leases, "acquire", refuse)
    with (
        pytest.warns(RuntimeWarning, match="others may drop"),
        cache.holders.claim("a"),
        cache.holders.using(["a"]),
    ):
        assert cache.get("a") == "a"


def test_a_use_that_somebody_looks_at_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    cache, other = StageCache(tmp_path), StageCache(tmp_path)
    lock, looked = fcntl.flock, []

    def look_first(descriptor, operation):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.parent.name == "uses" and not looked:
            looked.append(os.open(path, os.O_RDWR))
            lock(looked[0], fcntl.LOCK_EX)
        return lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_first)
    with cache.holders.using(["a"]):
        os.close(looked[0])
        assert other.holders.kept() == {"a"}


def slow_stage(started, go_on, counts, fails=False):
    def work(data):
        counts.append(1)
        started.set()
        go_on.wait(10)
        if fails and len(counts) == 1:
            raise ValueError
        return [data]

    return stage(version="1")(work)


@pytest.mark.parametrize("fails", [False, True])
def test_two_who_need_the_same_node_run_it_once(location, fails):
    started, go_on, counts, runs = threading.Event(), threading.Event(), [], {}
    each = slow_stage(started, go_on, counts, fails)
    first = StageCache(location)

    def run(name, cache):
        (runs[name],) = run_path(stage_calls([each], [{}], "inputs"), (1,), cache)

    threads = [
        threading.Thread(target=run, args=(name, cache))
        for name, cache in (("one", first), ("other", again(first)))
    ]
    threads[0].start()
    started.wait(10)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive()  # it waits
    go_on.set()
    for thread in threads:
        thread.join(10)
    if fails:  # what failed for one is tried by the other
        assert (runs["one"].output, runs["other"].output) == (None, [1])
        assert len(counts) == 2
    else:
        assert runs["one"].output == runs["other"].output == [1]
        assert [run.memoized for run in (runs["one"], runs["other"])] == [False, True]
        assert len(counts) == 1


def test_a_running_trial_keeps_what_it_is_about_to_use(location):
    cache = StageCache(location, max_bytes=12_000)
    other = cache if location is None else StageCache(location, max_bytes=12_000)

    @stage(version="1")
    def first():
        return bytes(5000)

    @stage(version="1")
    def second(data):
        with pytest.warns(RuntimeWarning, match="no room"):
            other.put("large", bytes(11_000))
        return data

    run = list(run_path(stage_calls([first, second], [{}, {}], "inputs"), (), cache))
    assert [each.error for each in run] == [None, None]
    assert run[0].key in cache


def pipeline_of(offset):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def first(data, *, x):
        return data + x

    @stage(space={"y": Float(0.0, 1.0)}, version=str(offset))
    def second(data, *, y):
        return data - y

    return Pipeline([first, second])


def best_keys(study, top_q):
    trials = sorted(study.trials, key=lambda trial: -trial.value)[:top_q]
    return {key for trial in trials for key in trial.user_attrs["stage_keys"]}


@pytest.mark.parametrize("stored", [True, False])
def test_studies_that_share_a_directory_leave_each_other_their_best(tmp_path, stored):
    studies = []
    for offset in range(2):
        tuner = Tuner(
            pipeline_of(offset),
            budget=1e3,
            method="random",
            top_q=2,
            seed=offset,
            cache=StageCache(tmp_path / "cache"),
            storage=f"sqlite:///{tmp_path}/{offset}.db" if stored else None,
        )
        studies.append((tuner, tuner.run(1.0, max_trials=6, progress=False)))
    wanted = set().union(*(best_keys(study, 2) for _, study in studies))
    assert set(StageCache(tmp_path / "cache")) == wanted


def test_a_study_goes_on_where_nothing_can_be_dropped_any_more(tmp_path, monkeypatch):
    cache = StageCache(tmp_path / "cache")

    def refuse(*args, **kwargs):
        raise PermissionError("read only")

    monkeypatch.setattr(cache.holders, "pin", refuse)
    tuner = Tuner(pipeline_of(0), budget=1e3, method="random", cache=cache)
    with pytest.warns(RuntimeWarning, match="could not be dropped.*read only"):
        study = tuner.run(1.0, max_trials=3, progress=False)
    assert len(study.trials) == 3
