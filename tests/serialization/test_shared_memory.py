"""Arrays and tensors that share memory still do when they come back."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from keeping import kept

from eeipu.errors import CacheFormatError
from eeipu.serialization import shared_memory, tensors
from eeipu.serialization.pickles import deserialize, serialize
from eeipu.serialization.transport import dumps, loads, loads_apart, segments

WAYS = [kept, lambda value: loads(dumps(value)), lambda value: loads_apart(segments(value))]
both_ways = pytest.mark.parametrize("come_back", WAYS, ids=["kept", "sent", "sent in segments"])


def tied():
    """A model whose layers have different parameters in the same memory."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    model[1].weight = torch.nn.Parameter(model[0].weight.data)
    return model


def trained(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 40)).pow(2).mean()
        loss.backward()
        optimizer.step()
    return loss.item()


@both_ways
def test_tied_weights_are_trained_together(come_back):
    model = tied()
    loaded = come_back(model)
    assert trained(loaded) == trained(model)


@both_ways
def test_views_of_an_array_come_back_as_views(come_back):
    array = np.arange(6000.0).reshape(60, 100)
    views = [array, array[::2, 1:], array.T, array[::-1], array[3:][:, 5]]
    loaded = come_back(views)
    for one, other in zip(loaded, views, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.strides == other.strides
    loaded[0][:] = 7.0
    assert all((view == 7.0).all() for view in loaded)


@both_ways
def test_an_array_in_a_bytearray_stays_in_it(come_back):
    memory = bytearray(range(200))
    arrays = [np.frombuffer(memory, np.uint8), np.frombuffer(memoryview(memory), "<i2")[::-1]]
    loaded, first, second = come_back([memory, *arrays])
    loaded[:2] = b"\x01\x01"
    assert (first[0], second[-1]) == (1, 257)
    np.testing.assert_array_equal(second[:-1], arrays[1][:-1])


@both_ways
def test_a_small_part_of_a_bytearray_comes_back_alone(come_back):
    part = np.frombuffer(bytearray(100_000), np.uint8, 10)
    assert come_back([part])[0].tolist() == [0] * 10
    assert len(dumps([part])) < 1000


@both_ways
def test_a_tensor_and_the_array_that_it_was_made_from_stay_together(come_back):
    array = np.arange(1000.0)
    loaded, tensor = come_back((array, torch.from_numpy(array)))
    loaded[3] = -1.0
    assert tensor[3] == -1.0


@both_ways
def test_parts_that_do_not_overlap_come_back_without_the_rest(come_back):
    array = np.arange(10**6)
    loaded = come_back([array[:10], array[-10:]])
    assert not np.shares_memory(*loaded)
    assert sum(memoryview(each).nbytes for each in serialize([array[:10], array[-10:]])[1]) < 10**4


def test_a_view_that_cannot_be_written_to_still_cannot():
    array = np.zeros(10)
    view = array[5:]
    view.flags.writeable = False
    loaded, loaded_view = kept([array, view])
    assert loaded.flags.writeable
    assert not loaded_view.flags.writeable


def test_a_broadcast_array_is_kept_as_small_as_it_is():
    array = np.broadcast_to(np.arange(3.0), (10**6, 3))
    kind, (first, *others) = serialize(array)
    assert len(first) + sum(map(len, others)) < 5000
    np.testing.assert_array_equal(deserialize(kind, [first, *others]), array)


@pytest.mark.parametrize(
    "table",
    [pd.DataFrame({"a": np.arange(3000.0)}), pd.DataFrame({"a": [1] * 3000}, dtype="Int64")],
)
def test_tables_do_not_write_into_each_other(table):
    # pandas counts who shares an array, which a pickle does not say.
    loaded, part = kept([table, table.iloc[:100]])
    loaded.iloc[0, 0] = 99
    assert part.iloc[0, 0] != 99


def test_a_sparse_matrix_and_its_transpose_share_their_data():
    matrix = scipy.sparse.random(50, 50, density=0.5, format="csr", rng=0)
    loaded, transposed = kept((matrix, matrix.T))
    loaded.data[0] = 42.0
    assert transposed.data[0] == 42.0


LAYOUTS = [
    torch.arange(384.0).reshape(2, 3, 8, 8).contiguous(memory_format=torch.channels_last),
    torch.arange(128.0).reshape(2, 1, 8, 8).contiguous(memory_format=torch.channels_last),
    torch.arange(24.0).reshape(2, 3, 4).permute(1, 0, 2),
    torch.arange(12.0).reshape(3, 4).T,
    torch.arange(3.0).expand(4, 3),
]


@pytest.mark.parametrize("tensor", LAYOUTS, ids=lambda t: str(t.stride()))
def test_the_layout_of_a_tensor_comes_back(tensor):
    loaded = kept(tensor)
    assert torch.equal(loaded, tensor)
    assert loaded.stride() == tensor.stride()


def test_a_view_with_gaps_keeps_the_order_of_its_axes():
    tensor = torch.arange(384.0).reshape(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    loaded = kept(tensor[:, :, ::2])
    assert torch.equal(loaded, tensor[:, :, ::2])
    assert loaded.is_contiguous(memory_format=torch.channels_last)
    array = np.arange(48.0).reshape(4, 3, 4).transpose(1, 0, 2)[:, ::2]
    assert kept(array).tobytes("A") == array.tobytes("A")
    np.testing.assert_array_equal(kept(array), array)
    assert kept(array).copy(order="K").strides == array.copy(order="K").strides


def test_a_gradient_comes_back():
    parameter = torch.nn.Parameter(torch.ones(3))
    (2 * parameter).sum().backward()
    assert torch.equal(kept(parameter).grad, parameter.grad)


def test_a_conjugate_view_stays_one():
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    loaded, conjugate = kept((tensor, tensor.conj()))
    loaded[0] = 5j
    assert conjugate[0] == -5j


def test_a_tensor_with_a_history_of_gradients_is_refused():
    with pytest.raises(CacheFormatError, match="detach"):
        serialize([2 * torch.ones(3, requires_grad=True)])


def test_an_optimizer_trains_the_model_that_comes_back_with_it():
    model = torch.nn.Linear(8, 8)
    loaded, optimizer = kept((model, torch.optim.Adam(model.parameters())))
    assert optimizer.param_groups[0]["params"][0] is loaded.weight


def test_a_tensor_that_lies_at_an_odd_place_is_kept_apart():
    numbers = np.arange(41, dtype="i1")
    array, tensor = kept((numbers[1:], torch.from_numpy(numbers[:40]).view(torch.float32)))
    assert array.tolist() == list(range(1, 41))
    assert tensor.numpy().tobytes() == bytes(range(40))


def test_the_memory_of_an_accelerator_is_copied_once(monkeypatch):
    # This machine may have none: the same code runs on a tensor in main memory.
    moved = []
    monkeypatch.setattr(tensors, "_accelerator", lambda torch: moved.append(1) or "cpu")
    tensor = torch.arange(10.0)
    start = tensor.data_ptr()
    spans = [
        shared_memory._Span("cuda:0", start + 8, start + 24, tensor[2:6]),
        shared_memory._Span("cuda:0", start + 16, start + 40, tensor[4:]),
    ]
    region = shared_memory._Region(spans)
    assert region.memory.view("f4").tolist() == list(range(2, 10))
    one, other = kept([region.base, region.base])
    assert one is other
    assert torch.equal(one.view(torch.float32), tensor[2:])
    assert moved == [1]
