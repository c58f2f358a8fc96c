"""Plain data is made of Python's own types, through and through."""

import collections

import numpy as np
import pytest

from eeipu.fingerprints.contents import plain
from eeipu.fingerprints.contents.plain import is_plain
from eeipu.fingerprints.values import digest


@pytest.mark.parametrize("value", [1, "a", [], [{"a": (1, 2.0, None)}, [b"x", True, 1j]]], ids=repr)
def test_plain_data(value):
    assert is_plain(value)


@pytest.mark.parametrize(
    "inner",
    [np.float64(1.0), np.zeros(2), bytearray(b"a"), {1}, collections.Counter("a"), len, int],
    ids=repr,
)
def test_everything_else_is_not_plain(inner):
    # NumPy's numbers and arrays are written like bytes by what writes plain data in one go.
    assert not is_plain([{"a": (1, inner)}])
    assert not is_plain(inner)


def test_a_container_that_contains_itself_is_not_plain():
    circle = []
    circle.append(circle)
    assert not is_plain(circle)


def test_what_occurs_again_and_again_is_not_plain(monkeypatch):
    monkeypatch.setattr(plain, "_MOST_PARTS", 1000)
    tower = [1]
    for _ in range(20):
        tower = [tower, tower]
    assert not is_plain(tower)


def test_plain_data_has_one_digest_alone_and_among_other_data():
    many = [str(i) for i in range(3000)]
    assert digest([many, np.zeros(1)]) == digest([list(many), np.zeros(1)])
    assert digest({"a": many}) == digest({"a": list(many)}) != digest({"a": many[1:]})
