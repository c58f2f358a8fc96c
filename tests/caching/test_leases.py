"""Leases: one holder at a time, and none that is dead."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
import uuid
from dataclasses import replace

import fsspec
import pytest

from eeipu.caching.leases import lease as leases
from eeipu.caching.leases.lease import BeatingLeases, FileLeases, LocalLeases, has_locks, wait_for
from eeipu.caching.leases.processes import ProcessIdentity

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
        return LocalLeases()
    if request.param == "files":
        return FileLeases(tmp_path)
    fs = fsspec.filesystem("memory" if request.param == "beating" else "file")
    return BeatingLeases(fs, f"{tmp_path}/{uuid.uuid4().hex}")


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
        return BeatingLeases(fsspec.filesystem("file"), str(tmp_path))

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


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_no_holder(tmp_path):
    ours = FileLeases(tmp_path)
    lease = ours.acquire("locks/a")
    ready, tell = os.pipe()

    def outlive():
        lease.release()  # it is not the child's
        os.write(tell, b"x")
        time.sleep(60)

    child = fork.Process(target=outlive)
    child.start()
    os.read(ready, 1)
    other = FileLeases(tmp_path)
    assert other.acquire("locks/a") is None
    lease.forget()  # as the kernel does when the holder is killed
    assert other.acquire("locks/a") is not None
    child.kill()
    child.join()


def test_a_long_wait_is_told(monkeypatch):
    ours, clock = LocalLeases(), Clock()
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


def test_no_file_is_left_behind(tmp_path):
    with wait_for(FileLeases(tmp_path), "locks/a"):
        assert (tmp_path / "locks" / "a").exists()
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_lock_on_a_file_that_lost_its_name_is_no_lease(tmp_path, monkeypatch):
    ours, lock = FileLeases(tmp_path), fcntl.flock

    def lose_and_lock(descriptor, operation):
        (tmp_path / "locks" / "a").unlink()
        monkeypatch.undo()
        return lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lose_and_lock)
    assert ours.acquire("locks/a") is None
    assert ours.acquire("locks/a") is not None


def test_a_lease_that_cannot_be_written_is_given_back(tmp_path, monkeypatch):
    ours = FileLeases(tmp_path)

    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="disk full"):
            ours.acquire("uses/1", b"x")
    assert ours.acquire("uses/1", b"x") is not None


def test_a_lease_given_back_while_it_is_listed_is_not_living(tmp_path):
    assert leases._said(tmp_path / "gone", True) is None


def test_file_systems_without_locks_are_known(tmp_path, monkeypatch):
    assert has_locks(tmp_path)
    for number, known in [(errno.ENOLCK, False), (errno.ENOSYS, False), (errno.EACCES, True)]:

        def refuse(*args, number=number):
            raise OSError(number, "no")

        monkeypatch.setattr(fcntl, "flock", refuse)
        assert has_locks(tmp_path) == known


# --- leases that are kept alive by rewriting them ---------------------------------------------


@pytest.fixture
def place():
    return fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"


def elsewhere(place, name="locks/a", beats=0):
    """Write what a holder on another host writes."""
    fs, root = place
    said = {"token": "t", "process": "elsewhere:1:0.0", "content": "x"}
    fs.pipe_file(f"{root}/{name}", json.dumps({**said, "beats": beats}).encode())


def test_a_holder_on_another_host_is_dead_when_it_has_been_silent_for_long(place):
    clock = Clock()
    ours = BeatingLeases(*place, expiry_s=60.0, clock=clock)
    elsewhere(place)
    assert ours.acquire("locks/a") is None  # the first look
    clock.now_s = 59.0
    assert ours.acquire("locks/a") is None
    elsewhere(place, beats=1)
    clock.now_s = 61.0
    assert ours.acquire("locks/a") is None  # it lives
    clock.now_s = 122.0
    assert ours.acquire("locks/a") is not None


def test_what_a_silent_holder_said_counts_no_more(place):
    clock = Clock()
    ours = BeatingLeases(*place, clock=clock)
    elsewhere(place, "uses/1")
    assert ours.living("uses") == [b"x"]
    clock.now_s = 1e3
    assert ours.living("uses") == []
    assert place[0].exists(f"{place[1]}/uses/1")
    assert ours.living("uses", clean=True) == []
    assert not place[0].exists(f"{place[1]}/uses/1")


def test_half_a_lease_is_nobodys_when_it_stays_half(place):
    fs, root = place
    clock = Clock()
    fs.pipe_file(f"{root}/locks/a", b"{")
    ours = BeatingLeases(*place, clock=clock)
    assert ours.acquire("locks/a") is None
    clock.now_s = 1e3
    assert ours.acquire("locks/a") is not None


def test_a_holder_shows_that_it_lives(place):
    fs, root = place
    lease = BeatingLeases(*place, beat_s=0.01).acquire("locks/a")
    first = fs.cat_file(f"{root}/locks/a")
    for _ in range(200):
        time.sleep(0.01)
        if fs.cat_file(f"{root}/locks/a") != first:
            break
    assert fs.cat_file(f"{root}/locks/a") != first
    lease.release()
    time.sleep(0.05)
    assert not fs.exists(f"{root}/locks/a")


def test_who_was_taken_for_dead_leaves_the_new_holder_alone(place):
    fs, root = place
    lease = BeatingLeases(*place, beat_s=0.01).acquire("locks/a")
    elsewhere(place)
    theirs = fs.cat_file(f"{root}/locks/a")
    time.sleep(0.1)
    assert fs.cat_file(f"{root}/locks/a") == theirs
    lease.release()
    assert fs.cat_file(f"{root}/locks/a") == theirs


def test_who_releases_before_a_beat_leaves_the_new_holder_alone(place):
    lease = BeatingLeases(*place).acquire("locks/a")
    elsewhere(place)
    lease.release()
    assert place[0].exists(f"{place[1]}/locks/a")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_beats_for_itself_alone(tmp_path):
    ours = BeatingLeases(fsspec.filesystem("file"), str(tmp_path), beat_s=0.01)
    lease = ours.acquire("locks/a")

    def work():
        lease.release()  # it is not the child's
        ours.acquire("locks/b")
        first = (tmp_path / "locks" / "b").read_bytes()
        for _ in range(300):
            time.sleep(0.01)
            if (tmp_path / "locks" / "b").read_bytes() not in (first, b""):
                os._exit(0)
        os._exit(1)

    child = fork.Process(target=work)
    child.start()
    child.join(10)
    assert child.exitcode == 0
    assert (tmp_path / "locks" / "a").exists()
    lease.release()


def test_another_may_be_faster_in_taking_a_dead_holders_place(place, monkeypatch):
    clock = Clock()
    ours = BeatingLeases(*place, clock=clock)
    elsewhere(place)
    ours.acquire("locks/a")
    clock.now_s = 1e3
    remove = ours._remove

    def remove_and_be_slow(path):
        remove(path)
        elsewhere(place, beats=5)

    monkeypatch.setattr(ours, "_remove", remove_and_be_slow)
    assert ours.acquire("locks/a") is None


def test_a_name_whose_holder_on_this_host_has_ended_is_free_at_once(place):
    fs, root = place
    dead = replace(ProcessIdentity.here(), pid=2**22 + 1)
    said = {"token": "t", "process": str(dead), "content": "x"}
    fs.pipe_file(f"{root}/locks/a", json.dumps(said).encode())
    assert BeatingLeases(*place).acquire("locks/a") is not None
