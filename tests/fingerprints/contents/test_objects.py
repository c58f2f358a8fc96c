"""Cached properties and shared objects: what counts is what makes a difference."""

import copy
import functools
import pickle
import random
import threading

import networkx as nx
import numpy as np
import pydantic
import pytest
import torch

from eeipu.fingerprints.code import content_digest
from eeipu.fingerprints.values import digest


class Sample:
    def __init__(self, data):
        self.data = data
        self.computed = 0

    @functools.cached_property
    def total(self):
        return sum(self.data)

    @functools.cached_property
    def drawn(self):
        return random.random()


class Empty:
    @functools.cached_property
    def name(self):
        return "empty"


@pytest.mark.parametrize("make", [Empty, lambda: Sample([1, 2])])
def test_a_cached_property_does_not_count(make):
    used, new = make(), make()
    assert used.name if isinstance(used, Empty) else used.total
    assert digest(used) == digest(new) == digest(used)


def test_a_cached_property_counts_where_it_is_not_what_the_object_gives():
    new, was_set, stale, drawn = Sample([1, 2]), Sample([1, 2]), Sample([1]), Sample([1, 2])
    was_set.total = 99
    assert stale.total == 1
    stale.data.append(2)
    assert drawn.drawn < 1.0
    assert len({digest(each) for each in (new, was_set, stale, drawn)}) == 4


def test_a_cached_property_is_computed_once_for_all_looks():
    calls = []

    class Slow:
        @functools.cached_property
        def value(self):
            calls.append(1)
            return len("slow")

    def by_name(value):
        return (value.__qualname__,) if isinstance(value, type) else None

    slow, new = Slow(), Slow()
    assert slow.value == 4
    found = {digest(slow, by_name) for _ in range(5)}
    assert found == {digest(new, by_name)}
    assert len(calls) == 2


class Settings(pydantic.BaseModel):
    sizes: list[int]

    @functools.cached_property
    def total(self):
        return sum(self.sizes)


def test_a_cached_property_of_a_pydantic_model_does_not_count():
    used, new = Settings(sizes=[1, 2]), Settings(sizes=[1, 2])
    assert used.total == 3
    assert digest(used) == digest(new) != digest(Settings(sizes=[1, 3]))
    used.__dict__["total"] = 4
    assert digest(used) != digest(new)


def test_views_that_a_graph_remembers_do_not_count():
    graph = nx.karate_club_graph()
    before = digest(graph)
    assert (len(graph.nodes), len(graph.edges), len(graph.adj)) == (34, 78, 34)
    assert dict(graph.degree)[0] == 16
    assert digest(graph) == before
    graph.add_edge(0, 33)
    assert digest(graph) != before


# --- what is changed by being used ------------------------------------------------------------


def layers(tie):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4, bias=False) for _ in range(2)))
    weight = model[0].weight
    model[1].weight = {
        "one parameter": lambda: weight,
        "one memory": lambda: torch.nn.Parameter(weight.data),
        "a copy": lambda: torch.nn.Parameter(weight.data.clone()),
    }[tie]()
    return model


def test_whether_weights_are_tied_counts():
    tied, in_one_memory, apart = map(layers, ("one parameter", "one memory", "a copy"))
    assert digest(tied) == digest(in_one_memory) != digest(apart)
    assert digest(tied) == digest(copy.deepcopy(tied)) == digest(pickle.loads(pickle.dumps(tied)))
    assert digest(apart) == digest(copy.deepcopy(apart))
    layer = torch.nn.Linear(2, 2)
    twice = [torch.nn.Sequential(layer, other) for other in (layer, copy.deepcopy(layer))]
    assert digest(twice[0]) != digest(twice[1])


def test_which_part_of_a_memory_a_weight_is_counts():
    def halves(*starts):
        memory = torch.zeros(6)
        return torch.nn.ParameterList(torch.nn.Parameter(memory[s : s + 3]) for s in starts)

    assert len({digest(halves(*starts)) for starts in [(0, 3), (0, 0), (0, 1)]}) == 3
    assert digest(halves(0, 1)) == digest(halves(0, 1))


def test_tensors_of_data_may_share_their_memory():
    tensor = torch.ones(3)
    assert digest([tensor, tensor]) == digest([tensor, tensor.clone()])


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState, random.Random])
def test_whether_two_draw_from_one_generator_counts(make):
    generator = make(0)
    assert digest([generator, generator]) != digest([generator, make(0)])
    assert digest([generator, make(0)]) == digest([make(0), make(0)])
    assert digest(generator) != digest(make(1))


def test_the_state_of_the_shared_generators_does_not_count():
    for shared in (random.random.__self__, np.random.rand.__self__):
        before = digest(shared)
        shared.seed(7)
        assert digest(shared) == before


def test_whether_a_tensor_has_a_history_counts():
    leaf = torch.ones(2, requires_grad=True)
    assert len({digest(each) for each in (leaf, 1 * leaf, leaf.detach())}) == 3


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support:UserWarning")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_tensors_count_by_content(layout):
    def make(scale):
        return getattr(scale * torch.eye(3), layout)()

    assert digest(make(1)) == digest(make(1)) != digest(make(2))
    assert digest(make(1)) != digest(torch.eye(3))


def test_a_computed_property_beside_a_lock_does_not_count():
    class Locked:
        def __init__(self):
            self.lock, self.rows = threading.Lock(), [1, 2]

        @functools.cached_property
        def total(self):
            return sum(self.rows)

    new, used = Locked(), Locked()
    assert used.total == 3
    assert content_digest(new) == content_digest(used)
    used.total = 4
    assert content_digest(new) != content_digest(used)
