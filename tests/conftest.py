"""What all tests share."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# A slow or busy machine must not fail a law.
settings.register_profile("eeipu", deadline=None)
settings.load_profile("eeipu")

# Files of tests lie in memory where there is room. A disk takes 1 to 30 ms for each transaction of
# SQLite, of which a trial makes eight.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# Collecting makes very many objects that stay: looking for garbage among them finds none.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """The longest tests first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: not (item.get_closest_marker("notebook") or is_slow(item)))


def is_slow(item):
    return item.get_closest_marker("slow") is not None


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own answer to Ctrl-C: what runs in a shell's background has it ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
