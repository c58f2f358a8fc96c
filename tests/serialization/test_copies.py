"""Copies of values in this process's memory."""

import threading

import numpy as np
import pytest

from eeipu.serialization import copies, transport
from eeipu.serialization.copies import segments_with_room


def test_segments_make_a_copy_that_may_be_changed():
    value = {"rows": np.zeros(100_000), "name": "a"}
    parts = segments_with_room(value)
    copy = transport.loads_apart(parts)
    copy["rows"][0] = 1.0
    assert (value["rows"][0], copy["name"]) == (0.0, "a")


def test_there_are_none_where_a_copy_takes_too_much(monkeypatch):
    monkeypatch.setattr(copies, "COPY_SHARE", 0.0)
    assert segments_with_room(np.zeros(1)) is None


def test_what_cannot_be_pickled_raises_its_own_error():
    with pytest.raises(TypeError, match="lock"):
        segments_with_room(threading.Lock())
