"""Leases: one holder at a time, and none that is dead."""

import multiprocessing
import os
import signal
import threading
import time
import uuid

import fsspec
import pytest

from eeipu.caching.leases.file_locks import FileLeases
from eeipu.caching.leases.heartbeats import HeartbeatLeases
from eeipu.caching.leases.lease import wait_for
from eeipu.caching.leases.memory import MemoryLeases

fork = multiprocessing.get_context("fork")


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture(params=["memory", "files", "beating", "beating on files"])
def held(request, tmp_path):
    """Leases of each kind."""
    if request.param == "memory":
        return MemoryLeases()
    if request.param == "files":
        return FileLeases(tmp_path)
    fs = fsspec.filesystem("memory" if request.param == "beating" else "file")
    return HeartbeatLeases(fs, f"{tmp_path}/{uuid.uuid4().hex}")


def test_a_name_has_one_holder_at_a_time(held):
    lease = held.acquire("locks/a")
    assert held.acquire("locks/a") is None
    assert held.acquire("locks/b") is not None
    lease.release()
    assert held.acquire("locks/a") is not None


def test_what_living_holders_say_can_be_read(held):
    one, other = held.acquire("uses/1", b'["a"]'), held.acquire("uses/2", b'["b"]')
    held.acquire("locks/a", b"x")
    assert sorted(held.living("uses")) == [b'["a"]', b'["b"]']
    one.release()
    assert held.living("uses") == [b'["b"]']
    other.release()
    assert held.living("uses") == []


def test_nobody_is_in_a_folder_that_is_not_there(held):
    assert held.living("uses") == []


def test_threads_take_turns(held):
    inside, most = [], []

    def work():
        for _ in range(10):
            with wait_for(held, "locks/a"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 30


def test_a_lease_is_given_back_when_something_is_raised(held):
    with pytest.raises(RuntimeError), wait_for(held, "locks/a"):
        raise RuntimeError
    assert held.acquire("locks/a") is not None


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["files", "beating"])
def test_a_killed_holder_is_noticed(tmp_path, kind):
    def leases_here():
        if kind == "files":
            return FileLeases(tmp_path)
        return HeartbeatLeases(fsspec.filesystem("file"), str(tmp_path))

    ready, tell = os.pipe()

    def hold():
        mine = leases_here()
        mine.acquire("locks/a")
        mine.acquire("uses/1", b"x")
        os.write(tell, b"x")
        time.sleep(60)

    child = fork.Process(target=hold)
    child.start()
    os.read(ready, 1)
    ours = leases_here()
    assert ours.acquire("locks/a") is None
    assert ours.living("uses") == [b"x"]
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert ours.acquire("locks/a") is not None
    assert ours.living("uses") == []
    assert (tmp_path / "uses" / "1").exists()  # who only looks changes nothing
    assert ours.living("uses", clean=True) == []
    assert not (tmp_path / "uses" / "1").exists()


def test_a_long_wait_is_told(monkeypatch):
    ours, clock = MemoryLeases(), Clock()
    lease = ours.acquire("locks/a")
    sleeps = []

    def sleep(seconds):
        sleeps.append(seconds)
        clock.now_s += 40.0
        if len(sleeps) == 4:
            lease.release()

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.warns(RuntimeWarning, match="'locks/a' after 60 s") as told:  # noqa: SIM117
        with wait_for(ours, "locks/a", clock):
            pass
    assert len(told) == 1
