"""Leases that are kept alive by rewriting them."""

import json
import multiprocessing
import os
import time
import uuid
from dataclasses import replace

import fsspec
import pytest

from eeipu.caching.leases.heartbeats import HeartbeatLeases
from eeipu.caching.leases.processes import ProcessIdentity

fork = multiprocessing.get_context("fork")


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


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
    ours = HeartbeatLeases(*place, expiry_s=60.0, clock=clock)
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
    ours = HeartbeatLeases(*place, clock=clock)
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
    ours = HeartbeatLeases(*place, clock=clock)
    assert ours.acquire("locks/a") is None
    clock.now_s = 1e3
    assert ours.acquire("locks/a") is not None


def test_a_holder_shows_that_it_lives(place):
    fs, root = place
    lease = HeartbeatLeases(*place, beat_s=0.01).acquire("locks/a")
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
    lease = HeartbeatLeases(*place, beat_s=0.01).acquire("locks/a")
    elsewhere(place)
    theirs = fs.cat_file(f"{root}/locks/a")
    time.sleep(0.1)
    assert fs.cat_file(f"{root}/locks/a") == theirs
    lease.release()
    assert fs.cat_file(f"{root}/locks/a") == theirs


def test_who_releases_before_a_beat_leaves_the_new_holder_alone(place):
    lease = HeartbeatLeases(*place).acquire("locks/a")
    elsewhere(place)
    lease.release()
    assert place[0].exists(f"{place[1]}/locks/a")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_beats_for_itself_alone(tmp_path):
    ours = HeartbeatLeases(fsspec.filesystem("file"), str(tmp_path), beat_s=0.01)
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
    ours = HeartbeatLeases(*place, clock=clock)
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
    assert HeartbeatLeases(*place).acquire("locks/a") is not None


def test_what_has_been_given_back_is_not_read():
    fs = fsspec.filesystem("memory")
    leases = HeartbeatLeases(fs, f"/{uuid.uuid4().hex}")
    assert leases._read("/not/there") is None
    assert not leases._is_dead("/not/there", None)
