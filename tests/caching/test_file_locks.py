"""Leases as locked files."""

import errno
import fcntl
import multiprocessing
import os
import time

import pytest

from eeipu.caching.leases import file_locks
from eeipu.caching.leases.file_locks import FileLeases, has_locks
from eeipu.caching.leases.lease import wait_for

fork = multiprocessing.get_context("fork")


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
    assert file_locks._living_content(tmp_path / "gone", True) is None


def test_file_systems_without_locks_are_known(tmp_path, monkeypatch):
    assert has_locks(tmp_path)
    for number, known in [(errno.ENOLCK, False), (errno.ENOSYS, False), (errno.EACCES, True)]:

        def refuse(*args, number=number):
            raise OSError(number, "no")

        monkeypatch.setattr(fcntl, "flock", refuse)
        assert has_locks(tmp_path) == known
