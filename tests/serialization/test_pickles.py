"""Values as pickles: no copies of arrays."""

import numpy as np
import pandas as pd
import pytest
from keeping import kept

from eeipu.fingerprints.values import digest
from eeipu.serialization import transport
from eeipu.serialization.pickles import deserialize, serialize

ARRAYS = [
    np.arange(2000.0).reshape(20, 100),
    np.asfortranarray(np.arange(2000.0).reshape(20, 100)),
    np.arange(4000.0)[::2],
    np.arange(4000.0).reshape(50, 80)[:, ::2],
    np.zeros((0, 3)),
    np.array(1.5),
    np.arange(3),
    np.array([b"ab", b"c"]),
    np.array([("x", 1)], dtype=[("name", "U2"), ("count", "i4")]),
    np.arange(2000) > 5,
    np.arange(2000, dtype=">i8"),
    np.arange(2000).astype("datetime64[s]"),
]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back_as_they_were(array, trusted):
    loaded = kept(array, trusted=trusted)
    np.testing.assert_array_equal(loaded, array)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.flags.writeable


def test_a_large_array_is_handed_over_where_it_lies():
    array = np.arange(10_000.0)
    kind, (_, buffer) = serialize({"deep": [array]})
    assert kind == "pickle"
    assert np.shares_memory(np.frombuffer(buffer), array)
    memory = bytearray(buffer)
    loaded = deserialize(kind, [serialize({"deep": [array]})[1][0], memory])
    assert np.shares_memory(np.frombuffer(memory), loaded["deep"][0])


def test_an_array_that_cannot_be_changed_still_cannot():
    array = np.arange(10_000.0)
    array.flags.writeable = False
    assert not kept(array).flags.writeable


def test_a_mapped_array_comes_back_without_its_file(tmp_path):
    mapped = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=(1000,))
    mapped[:] = 1.0
    loaded = kept(mapped)
    assert type(loaded) is np.ndarray
    assert loaded.sum() == 1000.0


def test_one_object_twice_comes_back_as_one():
    array = np.arange(10_000.0)
    one, other = kept([array, array])
    assert one is other


def test_tables_come_back_as_they_were():
    table = pd.DataFrame({"a": np.arange(5000.0), "b": ["x"] * 5000}).set_index("a")
    pd.testing.assert_frame_equal(kept(table), table)


MASKED = [
    np.ma.array([1, 2], mask=[0, 1], hard_mask=True),
    np.ma.array([1, 2]),
    np.ma.array(np.arange(2000.0), mask=np.arange(2000) > 5, fill_value=7.0),
    np.ma.array(["a", None], mask=[1, 0], dtype=object),
    np.ma.array([(1, 2.0)], mask=[(1, 0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.ma.array(np.asfortranarray(np.ones((3, 4)))),
]


@pytest.mark.parametrize("array", MASKED, ids=lambda a: f"{a.dtype}")
@pytest.mark.parametrize("copied", [kept, lambda a: transport.loads(transport.dumps(a))])
def test_masked_arrays_come_back_as_they_were(array, copied):
    loaded = copied({"deep": array})["deep"]
    assert digest(loaded) == digest(array)
    assert loaded.hardmask == array.hardmask
    assert (loaded.mask is np.ma.nomask) == (array.mask is np.ma.nomask)
    loaded[0] = np.ma.masked
    assert np.all(loaded[:1].mask.tolist())
