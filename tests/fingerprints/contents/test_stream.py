"""Plain data and objects: order and type count, sharing does not, circles end."""

import collections
import copy
import datetime
import enum
import pickle
import time
import types
import zoneinfo

import numpy as np
import pytest

from eeipu.fingerprints.contents import stream
from eeipu.fingerprints.values import digest

F4 = np.dtype("f4")
ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = datetime.datetime(2024, 1, 1, 12, tzinfo=ZONE)


class Level(enum.IntEnum):
    ONE = 1


DIFFERENT = {
    "data types": [[F4, None], [None, F4], [F4], [F4, F4], (F4, None), "f4", np.float32],
    "layouts": [
        np.dtype("i1,f4"),
        np.dtype("i1,f4", align=True),
        np.dtype("f4", metadata={"unit": "m"}),
        np.dtype(">f4"),
        F4,
    ],
    "items": [{"a": F4, "b": 1}, {"a": 1, "b": F4}, {"b": F4, "a": 1}, [("a", F4), ("b", 1)]],
    "numbers": [1, 1.0, True, "1", b"1", bytearray(b"1"), 1 + 0j, np.int64(1), np.True_, Level.ONE],
    "empty": [None, (), [], {}, set(), frozenset(), "", b""],
    "collections": [
        {"a": 1, "b": 2},
        collections.OrderedDict(a=1, b=2),
        collections.Counter(a=1, b=2),
        collections.defaultdict(int, a=1, b=2),
        collections.defaultdict(float, a=1, b=2),
        types.SimpleNamespace(a=1, b=2),
        types.SimpleNamespace(b=2, a=1),
    ],
    "queues": [collections.deque([1]), collections.deque([1], maxlen=2), [1]],
    "times": [NOON, NOON.replace(tzinfo=None), NOON.replace(fold=1), NOON.date(), NOON.timetz()],
    "sets": [{1, 2}, {1.0, 2}, {"1", "2"}, frozenset({1, 2}), {1, 2, None}],
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_order_and_type_count(values):
    assert len({digest(value) for value in values}) == len(values)
    assert list(map(digest, copy.deepcopy(values))) == list(map(digest, values))


def test_it_does_not_matter_whether_equal_objects_are_one():
    for value in ([1], (1, 2), {"a": [1]}, {1}, NOON, np.arange(3), types.SimpleNamespace(a=1)):
        assert digest([value, value]) == digest([value, copy.deepcopy(value)])
        assert digest([value, value]) == digest(pickle.loads(pickle.dumps([value, value])))


def ring(count, value=0):
    """Objects that refer to their neighbours in a circle."""
    nodes = [types.SimpleNamespace(number=i, value=value) for i in range(count)]
    for i, node in enumerate(nodes):
        node.after, node.before = nodes[(i + 1) % count], nodes[i - 1]
    return nodes


def test_circles_of_objects_count_by_their_structure():
    assert digest(ring(5)) == digest(ring(5)) == digest(copy.deepcopy(ring(5)))
    changed = ring(5)
    changed[3].value = 1
    values = [ring(1), ring(4), ring(5), ring(5, 1), changed, ring(5)[0], ring(5)[1]]
    assert len(set(map(digest, values))) == len(values)


def test_containers_that_contain_themselves_count_by_their_structure():
    def circle(*inner):
        values = [*inner]
        values.append(values)
        return values

    nested = [1, [1]]
    nested[1].append(nested)
    assert digest(circle(1)) == digest(circle(1))
    values = [circle(1), circle(2), circle(), nested, {"a": circle(1)}, [1, [1]]]
    assert len(set(map(digest, values))) == len(values)
    through_object = circle(types.SimpleNamespace())
    through_object[0].back = through_object
    assert digest(through_object) == digest(copy.deepcopy(through_object))


class Node:
    def __init__(self, number, parent=None):
        self.number, self.parent, self.children = number, parent, []


def test_a_list_of_all_nodes_of_a_tree_is_looked_at_once():
    calls = collections.Counter()

    def stand_in(value):
        calls[type(value)] += 1

    nodes = [Node(0)]
    for i in range(1, 300):
        nodes.append(Node(i, nodes[(i - 1) // 4]))
        nodes[-1].parent.children.append(nodes[-1])
    digest(nodes, stand_in)
    assert calls[Node] == 300


def test_containers_within_each_other_end(monkeypatch):
    monkeypatch.setattr(stream, "_LARGEST_STREAM_BYTES", 10**4)
    one, other = [1], [2]
    for _ in range(60):
        one, other = [one, one], [other, other]
    began = time.process_time()
    assert digest(one) != digest(other)
    assert time.process_time() - began < 60


def test_a_large_container_is_looked_at_once_however_often_it_occurs():
    calls = collections.Counter()

    def stand_in(value):
        calls[type(value)] += 1

    large = [types.SimpleNamespace(i=i) for i in range(stream._MANY_ITEMS)]
    digest([large] * 50, stand_in)
    assert calls[types.SimpleNamespace] == len(large)
    assert digest([large, large]) == digest([large, list(large)])
