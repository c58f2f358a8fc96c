"""What all tests share."""

import signal

import pytest
from hypothesis import settings

# A slow or busy machine must not fail a law.
settings.register_profile("eeipu", deadline=None)
settings.load_profile("eeipu")


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own answer to Ctrl-C: what runs in a shell's background has it ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
