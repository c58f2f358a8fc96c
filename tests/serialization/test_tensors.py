"""Tensors travel without their device."""

import sys

import pytest
import torch
from keeping import kept

from eeipu.serialization import tensors

TENSORS = [
    torch.arange(2000.0).reshape(20, 100),
    torch.arange(2000.0).reshape(20, 100).T,
    torch.arange(2000.0)[::2],
    torch.arange(9.0).reshape(3, 3)[:1, ::3],  # one element, which keeps its stride
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
    loaded = kept(tensor, trusted=trusted)
    assert torch.equal(loaded, tensor)
    assert (loaded.dtype, loaded.device) == (tensor.dtype, tensor.device)


def test_parameters_and_what_hangs_on_a_tensor_come_back():
    parameter = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    parameter.note = "frozen"
    loaded = kept(parameter)
    assert type(loaded) is torch.nn.Parameter
    assert (loaded.requires_grad, loaded.note) == (False, "frozen")
    assert kept(torch.ones(3, requires_grad=True)).requires_grad
    assert not kept(torch.ones(3)).requires_grad


@pytest.mark.parametrize("trusted", [True, False])
def test_a_tensor_made_in_inference_mode_comes_back_as_one(trusted):
    with torch.inference_mode():
        whole = torch.arange(5000.0)
        views = whole[1:], whole[:9]
    if trusted:
        loaded, *others = kept([whole, *views])
        assert all(each.is_inference() for each in (loaded, *others))
        assert [each.data_ptr() - loaded.data_ptr() for each in others] == [4, 0]
    loaded = kept(whole, trusted=trusted)
    assert loaded.is_inference()
    assert torch.equal(loaded, whole)


def test_a_model_comes_back_with_its_ties():
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    model[1].weight = model[0].weight
    loaded = kept(model)
    assert loaded[1].weight is loaded[0].weight
    assert torch.equal(loaded(torch.ones(40)), model(torch.ones(40)))


def test_without_torch_there_are_no_tensors(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert tensors.reduce_torch(1) is NotImplemented


def test_a_tensor_of_another_layout_is_left_to_torch():
    assert torch.equal(kept(torch.eye(3).to_sparse()).to_dense(), torch.eye(3))


class Elsewhere:
    """Stands for a tensor on a GPU, which this machine may not have."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        rebuild, (data, about) = tensors.reduce_torch(self.tensor)
        return rebuild, (data, {**about, "on_accelerator": True})


def test_a_tensor_from_a_gpu_comes_back_on_the_device_of_whoever_loads_it(monkeypatch):
    moved = []
    monkeypatch.setattr(tensors, "_accelerator", lambda torch: moved.append(1) or "cpu")
    assert torch.equal(kept(Elsewhere(torch.ones(3))), torch.ones(3))
    assert moved == [1]


def test_the_accelerator_is_the_one_that_is_there(monkeypatch):
    found = tensors._accelerator(torch)
    assert found.type in ("cpu", "cuda", "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert tensors._accelerator(torch) == torch.device("cuda", 1)


def test_a_device_comes_back_as_that_of_whoever_loads_it(monkeypatch):
    assert kept(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(tensors, "_accelerator", lambda torch: "here")
    assert kept(torch.device("cuda", 3)) == "here"


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_come_back(layout):
    parts = [torch.ones(1), torch.zeros(2000)]
    loaded = kept({"deep": torch.nested.nested_tensor(parts, layout=layout)})["deep"]
    assert loaded.layout == layout
    for each, part in zip(loaded.unbind(), parts, strict=True):
        assert torch.equal(each, part)
