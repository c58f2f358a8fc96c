"""Arrays count by their elements, wherever these lie."""

import numpy as np
import pytest

from eeipu.fingerprints.values import digest

X = np.arange(600.0).reshape(20, 30)
PADDED = np.dtype([("a", "i1"), ("b", "f8")], align=True)


@pytest.mark.parametrize(
    "view", [X[::2], X[:, ::3], X[::-1], X[3:7, 5:6], X[4], X[..., None], X[:0]], ids=np.shape
)
def test_a_view_counts_like_its_copy(view):
    assert digest(view) == digest(view.copy())


def test_a_mapped_file_counts_like_what_is_in_it(tmp_path):
    for name, array in {"c": X, "f": np.asfortranarray(X)}.items():
        np.save(tmp_path / name, array)
        mapped = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        assert digest(mapped) == digest(array)
        assert digest(mapped[2:5]) == digest(array[2:5].copy(order="K"))


def test_the_order_of_the_axes_counts():
    # A stage that reads an array in the order of its memory sees the difference.
    assert digest(X) != digest(np.asfortranarray(X))
    assert digest(X[:1]) == digest(np.asfortranarray(X[:1]))


def test_the_bytes_between_fields_do_not_count():
    one, other = np.zeros(3, PADDED), np.zeros(3, PADDED)
    other.view("u1")[1] = 7
    changed = np.zeros(3, PADDED)
    changed["b"][2] = 1.0
    assert digest(one) == digest(other) != digest(changed)


def test_a_hard_mask_is_not_a_soft_one():
    soft = np.ma.array([1, 2], mask=[True, False])
    hard = soft.copy()
    hard.harden_mask()
    assert digest(soft) != digest(hard)
    before = digest(soft)
    repr(soft)
    assert soft.fill_value == 999999
    assert digest(soft) == before


KINDS = [
    np.zeros(2),
    np.zeros((2, 1)),
    np.zeros((0, 2)),
    np.zeros((2, 0)),
    np.zeros(2, "f4"),
    np.zeros(2, ">f8"),
    np.zeros(2, "m8[s]"),
    np.zeros(2, "M8[s]"),
    np.zeros(2, "M8[ns]"),
    np.zeros(2, object),
    np.zeros(2).view(np.recarray),
    np.ma.zeros(2),
    np.array(0.0),
    np.float64(0.0),
    np.array(["a", "b"]),
    np.array(["a", "b"], object),
    np.array(["a", "b"], np.dtypes.StringDType()),
    np.zeros(2, PADDED),
    [0.0, 0.0],
]


def test_every_kind_of_array_is_another():
    assert len(set(map(digest, KINDS))) == len(KINDS)
    assert list(map(digest, KINDS)) == [digest(each.copy()) for each in KINDS]


@pytest.mark.parametrize("missing", [None, float("nan"), "", 0])
def test_objects_in_an_array_count_by_content(missing):
    arrays = [np.array(["a", missing, *more], object) for more in ([], [[1]], [(1,)])]
    assert len(set(map(digest, arrays))) == 3
    assert digest(arrays[1]) == digest(arrays[1].copy())
    assert digest(arrays[0]) != digest(np.array([missing, "a"], object))


def test_the_masked_element_alone_has_a_digest():
    assert digest([np.ma.masked]) == digest([np.ma.masked]) != digest([np.nan])
