"""What all tests share."""

import gc
import signal

import pytest
from hypothesis import settings

# A slow or busy machine must not fail a law.
settings.register_profile("eeipu", deadline=None)
settings.load_profile("eeipu")

# Collecting makes a million objects that stay. Looking for garbage among them took a fifth of its
# time, and half a second for each full look during the tests.
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
