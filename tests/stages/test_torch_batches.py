"""Batches and loaders of a torch training: nested inputs, closures, and what is refused."""

import itertools
import pickle
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from eeipu.errors import PipelineError
from eeipu.stages.running.programming_errors import is_programming_error
from eeipu.stages.schedules import Constant
from eeipu.stages.torch_training.batches import moved, rows_of
from eeipu.stages.torch_training.loop import torch_loop

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
cross_entropy = nn.functional.cross_entropy


class Point(NamedTuple):
    """A tuple with names."""

    x: Any
    y: Any


class Rows(Dataset):
    """Rows of some form."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return self.form(X[index], Y[index])


class Named(nn.Linear):
    """A model that gets a dict."""

    def forward(self, batch):
        return super().forward(batch["x"])


class Two(nn.Linear):
    """A model that gets two tensors."""

    def forward(self, batch):
        first, second = batch
        return super().forward(first + second)


def kind_of(form=lambda x, y: (x, y), model=lambda: nn.Linear(4, 2), loaders=None, **more):
    def both():
        return DataLoader(Rows(form), 8, shuffle=True), DataLoader(Rows(form), 8)

    optimizer = more.pop("optimizer", lambda parameters: torch.optim.SGD(parameters, 0.1))
    loss = more.pop("loss", cross_entropy)
    return torch_loop(model, optimizer, loss, loaders or both, **more)


def value_of(kind, steps=2):
    return kind.evaluate(kind.advance(kind.init(), 0, steps, {"lr": Constant(0.1)}))


@pytest.mark.parametrize(
    ("form", "model"),
    [
        (lambda x, y: ({"x": x, "name": "row"}, y), lambda: Named(4, 2)),
        (lambda x, y: ((x, torch.zeros(4)), y), lambda: Two(4, 2)),
    ],
)
def test_inputs_may_be_nested(form, model):
    assert value_of(kind_of(form, model)) == value_of(kind_of())


def test_targets_may_be_nested_and_rows_are_those_of_their_first_tensor():
    kind = kind_of(lambda x, y: (x, {"y": y}), loss=lambda o, t: cross_entropy(o, t["y"]))
    assert value_of(kind) == {"loss": value_of(kind_of())["loss"]}
    assert rows_of(([], {"a": torch.zeros(3, 2)})) == 3
    assert rows_of(torch.tensor(1.0)) == 1
    with pytest.raises(PipelineError, match="must have a tensor"):
        rows_of({"name": "row"})


def test_validation_data_may_be_an_iterator_as_it_is_made_for_each_evaluation():
    def two_batches():
        return [(X, Y)], itertools.islice(DataLoader(TensorDataset(X, Y), 8), 2)

    kind = kind_of(loaders=two_batches)
    state = kind.advance(kind.init(), 0, 1, {"lr": Constant(0.1)})
    assert kind.evaluate(state) == kind.evaluate(state)


def test_what_is_no_tensor_stays_as_it_is():
    given = {"a": [torch.ones(1), "text"], "b": (1, None)}
    assert moved(given, "meta")["a"][0].device.type == "meta"
    assert moved(given, "cpu") == given
    assert moved(Point(torch.ones(1), 2), "meta").x.device.type == "meta"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"form": lambda x, y: {"x": x, "labels": y}}, r"a dict with \['x', 'labels'\]"),
        ({"form": lambda x, y: (x, y, y)}, "a list of 3"),
        ({"form": lambda x, y: x[:2]}, "gave Tensor"),
        ({"loss": lambda o, t: cross_entropy(o, t, reduction="none")}, r"shape \(8,\)"),
        ({"loss": lambda o, t: None}, "returned None"),
        ({"model": lambda: None}, "make_model must return a torch.nn.Module"),
        ({"optimizer": lambda p: [torch.optim.SGD(p, 0.1)] * 2}, "one torch optimiser"),
        ({"loaders": lambda: DataLoader(TensorDataset(X, Y), 8)}, "return training, validation"),
        ({"loaders": lambda: (iter([(X, Y)]), [(X, Y)])}, "used up after the first"),
    ],
)
def test_what_cannot_be_trained_is_refused_as_an_error_of_programming(parts, message):
    with pytest.raises(PipelineError, match=message) as caught:
        value_of(kind_of(**parts))
    assert is_programming_error(caught.value)


def test_labels_of_several_classes_at_once_have_no_accuracy():
    kind = kind_of(
        lambda x, y: (x, (x[:2] > 0).long()),
        loss=lambda o, t: nn.functional.mse_loss(o, t.float()),
    )
    assert value_of(kind).keys() == {"loss"}


def test_an_optimiser_that_needs_a_closure_gets_it_and_goes_on_bit_for_bit():
    def optimizer(parameters):
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)

    kind = kind_of(optimizer=optimizer, model=lambda: nn.Sequential(nn.Linear(4, 2), nn.Dropout()))
    schedules = {"lr": Constant(0.1)}
    whole = kind.evaluate(kind.advance(kind.init(), 0, 3, schedules))
    state = kind.init()
    for step in range(3):
        state = kind.advance(state, step, step + 1, schedules)
        state = kind.load(pickle.loads(pickle.dumps(kind.save(state))))
    assert kind.evaluate(state) == whole
