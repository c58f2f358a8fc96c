"""Which process is meant, and whether it still runs."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from eeipu.caching.leases.processes import ProcessIdentity


def test_this_process_is_alive():
    here = ProcessIdentity.here()
    assert (here.pid, here.is_alive()) == (os.getpid(), True)


def test_a_process_that_has_ended_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    assert identity.is_alive()
    process.communicate(b"\n", timeout=60)
    assert identity.is_alive() is False


def test_a_process_whose_parent_has_not_asked_for_its_end_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    process.stdin.close()
    deadline = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert identity.is_alive() is False
    process.wait()


def test_a_number_that_was_given_to_another_process_is_not_the_first_one():
    here = ProcessIdentity.here()
    assert replace(here, created_s=here.created_s - 100.0).is_alive() is False


def test_a_clock_that_is_set_by_a_little_ends_no_process():
    here = ProcessIdentity.here()
    written = ProcessIdentity.parse(str(replace(here, created_s=here.created_s - 0.004)))
    for moved_s in (-1.0, 0.5, 1.0):
        assert replace(written, created_s=written.created_s + moved_s).is_alive()


def test_a_number_that_nobody_has_is_dead():
    assert replace(ProcessIdentity.here(), pid=2**22 + 1).is_alive() is False
    with pytest.raises(psutil.NoSuchProcess):
        ProcessIdentity.of(2**22 + 1)


def test_a_process_on_another_host_cannot_be_seen():
    assert replace(ProcessIdentity.here(), host="elsewhere").is_alive() is None


def test_a_child_has_an_identity_of_its_own():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(ProcessIdentity.here()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert ProcessIdentity.parse(os.read(reading, 1000).decode()).pid == child
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("host", ["node-1", "a:b"])
def test_an_identity_is_read_as_it_was_written(host):
    identity = ProcessIdentity(host, 123, 1700000000.25)
    assert str(identity) == f"{host}:123:1700000000.25"
    assert ProcessIdentity.parse(str(identity)) == identity


@pytest.mark.parametrize("text", ["", "host", "host:12", "host:pid:1.0", "host:12:now"])
def test_text_that_names_no_process_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        ProcessIdentity.parse(text)
