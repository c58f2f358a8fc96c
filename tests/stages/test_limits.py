"""Limits of a stage call: it is watched until it ends, and no longer."""

import subprocess
import sys
import time

import pytest

from eeipu.stages.running.limits import ended_after

HANGS = """
import subprocess, sys, threading
from eeipu.stages.running import limits

def wait():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20); print('over')"])
    with limits.ended_after(0.05):
        child.wait()

def wait_in_a_thread():
    threading.Thread(target=wait).start()

def keep_other_threads_out():
    limits.GRACE_S = 0.05
    with limits.ended_after(0.05):
        sum(range(10**12))

globals()[sys.argv[1]]()
"""


def test_a_call_that_ends_in_time_is_not_watched_any_more():
    with ended_after(0.05):
        pass
    time.sleep(0.1)


@pytest.mark.parametrize("hang", ["wait", "wait_in_a_thread", "keep_other_threads_out"])
def test_a_call_that_hangs_ends_the_process_and_those_that_it_has_started(hang):
    command = [sys.executable, "-c", HANGS, hang]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"in {hang.removesuffix('_in_a_thread')}" in done.stderr
    assert done.stdout == ""
