"""Values as bytes: no copies of arrays, no devices, and formats that cannot run code."""

import pickle
import sys
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeipu import CacheFormatError, CacheMiss, MissingExtraError, StageCache
from eeipu.serialization import tensors
from eeipu.serialization.pickles import deserialize, serialize


def round_trip(value, **trust):
    kind, segments = serialize(value, **trust)
    return deserialize(kind, [segments[0], *map(bytearray, segments[1:])], **trust)


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
    loaded = round_trip(array, trusted=trusted)
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
    assert not round_trip(array).flags.writeable


def test_a_mapped_array_comes_back_without_its_file(tmp_path):
    mapped = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=(1000,))
    mapped[:] = 1.0
    loaded = round_trip(mapped)
    assert type(loaded) is np.ndarray
    assert loaded.sum() == 1000.0


def test_one_object_twice_comes_back_as_one():
    array = np.arange(10_000.0)
    one, other = round_trip([array, array])
    assert one is other


def test_tables_come_back_as_they_were():
    table = pd.DataFrame({"a": np.arange(5000.0), "b": ["x"] * 5000}).set_index("a")
    pd.testing.assert_frame_equal(round_trip(table), table)


TENSORS = [
    torch.arange(2000.0).reshape(20, 100),
    torch.arange(2000.0).reshape(20, 100).T,
    torch.arange(2000.0)[::2],
    torch.arange(3),
    torch.tensor(1.5),
    torch.empty(0, 3),
    torch.arange(3.0).bfloat16(),
    torch.tensor([1 + 2j]).conj(),
    torch.arange(2000) > 5,
]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("tensor", TENSORS, ids=lambda t: f"{t.dtype}{tuple(t.shape)}")
def test_tensors_come_back_as_they_were(tensor, trusted):
    loaded = round_trip(tensor, trusted=trusted)
    assert torch.equal(loaded, tensor)
    assert (loaded.dtype, loaded.device) == (tensor.dtype, tensor.device)


def test_parameters_and_what_hangs_on_a_tensor_come_back():
    parameter = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    parameter.note = "frozen"
    loaded = round_trip(parameter)
    assert type(loaded) is torch.nn.Parameter
    assert (loaded.requires_grad, loaded.note) == (False, "frozen")
    assert round_trip(torch.ones(3, requires_grad=True)).requires_grad
    assert not round_trip(torch.ones(3)).requires_grad


def test_a_model_comes_back_with_its_ties():
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    model[1].weight = model[0].weight
    loaded = round_trip(model)
    assert loaded[1].weight is loaded[0].weight
    assert torch.equal(loaded(torch.ones(40)), model(torch.ones(40)))


def test_without_torch_there_are_no_tensors(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert tensors.reduce_torch(1) is NotImplemented


def test_a_tensor_of_another_layout_is_left_to_torch():
    assert torch.equal(round_trip(torch.eye(3).to_sparse()).to_dense(), torch.eye(3))


class Elsewhere:
    """Stands for a tensor on a GPU, which this machine may not have."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        rebuild, (data, about) = tensors.reduce_torch(self.tensor)
        return rebuild, (data, {**about, "on_accelerator": True})


def test_a_tensor_from_a_gpu_comes_back_on_the_device_of_whoever_deserialize_it(monkeypatch):
    moved = []
    monkeypatch.setattr(tensors, "_accelerator", lambda torch: moved.append(1) or "cpu")
    assert torch.equal(round_trip(Elsewhere(torch.ones(3))), torch.ones(3))
    assert moved == [1]


def test_the_accelerator_is_the_one_that_is_there(monkeypatch):
    found = tensors._accelerator(torch)
    assert found.type in ("cpu", "cuda", "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert tensors._accelerator(torch) == torch.device("cuda", 1)


def test_a_device_comes_back_as_that_of_whoever_deserialize_it(monkeypatch):
    assert round_trip(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(tensors, "_accelerator", lambda torch: "here")
    assert round_trip(torch.device("cuda", 3)) == "here"


# --- formats that cannot run code -------------------------------------------------------------

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(), max_size=3)
        | st.binary()
    ),
    max_leaves=5,
)


@given(plain_values)
def test_plain_values_come_back_as_they_were(value):
    loaded = round_trip(value, trusted=False)
    assert loaded == value
    assert pickle.dumps(type(loaded)) == pickle.dumps(type(value))


def test_parts_of_every_kind_come_back_in_one_value():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    value = {"arrays": (np.arange(3), np.float32(1.5)), "tensor": torch.ones(2), "table": table}
    loaded = round_trip(value, trusted=False)
    np.testing.assert_array_equal(loaded["arrays"][0], np.arange(3))
    assert (type(loaded["arrays"][1]), loaded["arrays"][1]) == (np.float32, 1.5)
    assert torch.equal(loaded["tensor"], torch.ones(2))
    pd.testing.assert_frame_equal(loaded["table"], table)


class Own:
    pass


@pytest.mark.parametrize(
    "value",
    [
        Own(),
        [Own()],
        OrderedDict(a=1),
        np.array([Own()], dtype=object),
        torch.ones(2, requires_grad=True),
        torch.eye(2).to_sparse(),
        pd.DataFrame({"a": [Own()]}),
        pd.DataFrame({"a": [1]}, index=pd.Index([(1, 2)], tupleize_cols=False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_safe_format_is_refused(value):
    with pytest.raises(CacheFormatError):
        serialize(value, trusted=False)


def test_a_tensor_from_a_gpu_is_marked_in_its_safe_format(monkeypatch):
    monkeypatch.setattr(
        "eeipu.serialization.safe_formats.to_accelerator", lambda tensor: tensor + 1
    )
    _, segments = serialize(torch.ones(2), trusted=False)
    marked = [b'{"accelerator tensor": 0}', segments[1]]
    assert torch.equal(deserialize("safe", marked, trusted=False), torch.ones(2) + 1)


def test_an_unknown_form_is_refused():
    with pytest.raises(CacheFormatError, match="'exe'"):
        deserialize("safe", [b'{"exe": 0}', b""], trusted=False)


@pytest.mark.parametrize("name", ["safetensors.torch", "pyarrow"])
def test_a_library_that_is_not_installed_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    value = torch.ones(2) if "tensors" in name else pd.DataFrame({"a": [1]})
    with pytest.raises(MissingExtraError, match=r"eeipu\[safe\]"):
        serialize(value, trusted=False)


class Evil:
    def __reduce__(self):
        return pytest.fail, ("code of the entry ran",)


def test_an_untrusted_cache_runs_no_code_of_an_entry(tmp_path):
    StageCache(tmp_path).put("evil", Evil())
    cache = StageCache(tmp_path, trusted=False)
    with pytest.warns(RuntimeWarning, match="trusted=False"), pytest.raises(CacheMiss):
        cache.get("evil")
    assert "evil" in cache  # it may be sound, and somebody else's


def test_an_untrusted_cache_keeps_what_it_can_load(tmp_path):
    cache = StageCache(tmp_path, trusted=False)
    cache.put("good", {"x": np.arange(3)})
    np.testing.assert_array_equal(cache.get("good")["x"], np.arange(3))
    np.testing.assert_array_equal(StageCache(tmp_path).get("good")["x"], np.arange(3))
    with pytest.raises(CacheFormatError, match="Own"):
        cache.put("bad", Own())
