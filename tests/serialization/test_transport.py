"""Values on their way between processes."""

import numpy as np
import pytest
import torch

from eeipu.serialization import transport


def test_what_a_script_defines_travels_with_its_code():
    offset = 2
    loaded = transport.loads(transport.dumps(lambda x: x + offset))
    assert loaded(1) == 3


@pytest.mark.parametrize(
    "value", [None, (1, "a"), np.arange(10), np.arange(10_000.0).reshape(100, 100)[:, ::2]]
)
def test_segments_are_the_value(value):
    np.testing.assert_equal(transport.loads_apart(transport.segments(value)), value)


def test_large_arrays_are_not_copied_into_segments():
    array = np.arange(10_000.0)
    first, buffer = transport.segments({"array": array, "small": np.arange(3)})
    assert len(first) < 1000
    assert np.shares_memory(np.frombuffer(buffer.raw()), array)


def test_what_was_loaded_can_be_written_to():
    array = np.arange(10_000.0)
    array.flags.writeable = False
    for loaded in (
        transport.loads_apart(transport.segments([array.copy()])),
        transport.loads(transport.dumps([array.copy()])),
    ):
        loaded[0] += 1
        assert loaded[0][0] == 1.0


def test_tensors_travel_as_they_are_kept():
    tensor = torch.arange(10_000.0, requires_grad=True)
    for loaded in (
        transport.loads_apart(transport.segments(tensor)),
        transport.loads(transport.dumps(tensor)),
    ):
        assert torch.equal(loaded, tensor)
        assert loaded.requires_grad
    first, _ = transport.segments(tensor)
    assert (
        b"eeipu.serialization.tensors" in first
    )  # which puts those of a GPU where the loader computes
