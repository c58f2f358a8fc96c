"""Formats that cannot run code."""

import pickle
import sys
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from keeping import kept

from eeipu import CacheFormatError, CacheMiss, MissingExtraError, StageCache
from eeipu.serialization.pickles import deserialize, serialize

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
    loaded = kept(value, trusted=False)
    assert loaded == value
    assert pickle.dumps(type(loaded)) == pickle.dumps(type(value))


def test_parts_of_every_kind_come_back_in_one_value():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    value = {"arrays": (np.arange(3), np.float32(1.5)), "tensor": torch.ones(2), "table": table}
    loaded = kept(value, trusted=False)
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
