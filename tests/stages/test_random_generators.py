"""Wherever what is random hides: training goes on bit for bit, or its checkpoint is refused."""

import functools
import itertools
import pickle
import random
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from eeipu.errors import ConfigurationError, TrainingError
from eeipu.stages.schedules import Constant
from eeipu.stages.torch_training.loop import torch_loop

ROWS = 32
X = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def tensors():
    return TensorDataset(X, Y)


def shuffled(rows, **options):
    return DataLoader(rows, 8, shuffle=True, **options)


def linear():
    return nn.Linear(4, 2)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def kind_of(train=lambda: shuffled(tensors()), model=linear, step="epoch", optimizer=sgd, **more):
    loss = more.get("loss", nn.functional.cross_entropy)

    def loaders():
        return train(), DataLoader(tensors(), ROWS)

    return torch_loop(model, optimizer, loss, loaders, step=step)


STOPS = {"epoch": (1, 3), "batch": (1, 6, 8, 10)}  # 4 batches an epoch


def whole_and_resumed(step, **parts):
    """The weights without and with checkpoints, each training made anew."""
    schedules = {"lr": Constant(0.05)}
    last = STOPS[step][-1]
    kind = kind_of(step=step, **parts)
    whole = kind.advance(kind.init(), 0, last, schedules)
    state, start = kind_of(step=step, **parts).init(), 0
    for stop in STOPS[step]:
        kind = kind_of(step=step, **parts)
        state = kind.advance(state, start, stop, schedules)
        kind.evaluate(state)
        state, start = kind.load(pickle.loads(pickle.dumps(kind.save(state)))), stop
    return [dict(each.model.named_parameters()) for each in (whole, state)]


def check_resumes(step, **parts):
    whole, resumed = whole_and_resumed(step, **parts)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


class Mapped(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return self.transform(X[index]), Y[index]


# --- generators -----------------------------------------------------------------------------


class Collate:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, rows):
        x, y = default_collate(rows)
        return x + self.rng.normal(), y


def in_a_closure():
    rng = np.random.default_rng(0)
    return shuffled(Mapped(lambda x: x + rng.normal()))


RNG = np.random.default_rng(0)


def add_global(x):
    return x + RNG.normal()


class AddGlobal:
    def __call__(self, x):
        return add_global(x)


MODULE = types.ModuleType("mine")
MODULE.rng = random.Random(0)


def add_of_module(x):
    return x + MODULE.rng.random()


class OfClass:
    rng = np.random.RandomState(0)

    @classmethod
    def add(cls, x):
        return x + cls.rng.rand()


class Slotted:
    __slots__ = ("rng", "unset")

    def __init__(self):
        self.rng = random.Random(0)

    def add(self, x):
        return x + self.rng.random()


def add(rng, x):
    return x + rng.normal()


def add_default(x, rng=random.Random(0)):  # noqa: B008 - that it lasts is the point
    return x + rng.random()


class Drawing(IterableDataset):
    """Rows in an order that it draws, and no state besides."""

    def __init__(self):
        self.rng = torch.Generator().manual_seed(0)

    def __iter__(self):
        for row in torch.randperm(ROWS, generator=self.rng):
            yield X[row], Y[row]


class Pure(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


class Stateful(Dataset):
    """Counts, and says so."""

    def __init__(self):
        self.count = 0

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        self.count += 1
        return X[index] * (1 + self.count % 7), Y[index]

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, saved):
        self.count = saved["count"]


class Resumable:
    """A loader that goes on in mid-epoch by itself, and then has a whole epoch again."""

    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        order = np.random.default_rng(self.epoch).permutation(ROWS)
        return ((X[rows], Y[rows]) for rows in np.split(order, 4))

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, saved):
        self.epoch = saved["epoch"]


RESUMED = {
    "collate": lambda: shuffled(tensors(), collate_fn=Collate()),
    "closure": in_a_closure,
    "global": lambda: shuffled(Mapped(add_global)),
    "global of a class's method": lambda: shuffled(Mapped(AddGlobal())),
    "global of a module": lambda: shuffled(Mapped(add_of_module)),
    "class": lambda: shuffled(Mapped(OfClass.add)),
    "slot": lambda: shuffled(Mapped(Slotted().add)),
    "partial": lambda: shuffled(Mapped(functools.partial(add, np.random.default_rng(0)))),
    "default": lambda: shuffled(Mapped(add_default)),
    "iterable": lambda: DataLoader(Drawing(), 8),
    "iterable without state": lambda: DataLoader(Pure(), 8),
    "state_dict of a data set": lambda: shuffled(Stateful()),
    "loader with a state_dict": Resumable,
    "list of batches": lambda: list(DataLoader(tensors(), 8)),
}


@pytest.mark.parametrize("step", STOPS)
@pytest.mark.parametrize("where", RESUMED)
def test_training_goes_on_bit_for_bit_wherever_its_generators_are(where, step):
    check_resumes(step, train=RESUMED[where])


class NoisyModel(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.rng = torch.Generator().manual_seed(0)

    def forward(self, x):
        noise = torch.randn(2, generator=self.rng) if self.training else 0
        return super().forward(x) + noise


class CountingModel(nn.Linear):
    """A model that counts, in a buffer or an attribute."""

    def __init__(self, is_buffer):
        super().__init__(4, 2)
        self.count = 0
        if is_buffer:
            del self.count
            self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        if self.training:
            self.count += 1
        return super().forward(x) * (1 + 0.1 * int(self.count) % 5)


class NoisySGD(torch.optim.SGD):
    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.rng = torch.Generator().manual_seed(0)

    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            for each in self.param_groups[0]["params"]:
                each += 0.01 * torch.randn(each.shape, generator=self.rng)


class Wrapping(torch.optim.SGD):
    """Steps of another optimiser and a schedule, which only their own dicts know."""

    def __init__(self, parameters):
        parameters = list(parameters)
        super().__init__(parameters, lr=0.1)
        self.inner = torch.optim.Adam(parameters, lr=0.1)
        self.decay = torch.optim.lr_scheduler.StepLR(self.inner, 2)

    def step(self, closure=None):
        self.inner.step()
        self.decay.step()


class NoisyLoss:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, outputs, targets):
        return nn.functional.cross_entropy(outputs + self.rng.normal() * outputs, targets)


OTHERS = {
    "model": {"model": NoisyModel},
    "buffer": {"model": lambda: CountingModel(True)},
    "optimizer": {"optimizer": NoisySGD},
    "wrapped optimizer": {"optimizer": Wrapping},
    "loss": {"loss": NoisyLoss()},
}


@pytest.mark.parametrize("step", STOPS)
@pytest.mark.parametrize("where", OTHERS)
def test_what_models_optimisers_and_losses_draw_goes_on_bit_for_bit(where, step):
    check_resumes(step, **OTHERS[where])


def test_training_puts_the_users_generators_back():
    before = RNG.bit_generator.state
    kind = kind_of(RESUMED["global"])
    state = kind.advance(kind.init(), 0, 1, {})
    kind.evaluate(state)
    kind.load(kind.save(state))
    assert RNG.bit_generator.state == before


def test_loaders_that_draw_from_a_generator_of_others_are_made_the_same_again():
    def split():
        return shuffled(torch.utils.data.Subset(Mapped(add_global), RNG.permutation(ROWS)[:16]))

    check_resumes("epoch", train=split)


def test_a_checkpoint_before_the_first_step_goes_on_as_well():
    kind = kind_of(RESUMED["collate"])
    whole = kind.advance(kind.init(), 0, 1, {})
    state = kind.advance(kind.load(kind.save(kind.init())), 0, 1, {})
    assert torch.equal(whole.model.weight, state.model.weight)


# --- what is refused ------------------------------------------------------------------------


class Counting(Dataset):
    def __init__(self, count):
        self.count, self.nan = count, float("nan")

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        self.grow()
        return X[index], Y[index]

    def grow(self):
        self.count += 1


class Growing(Counting):
    def grow(self):
        self.count.append(0)


class Replacing(Counting):
    def grow(self):
        self.count = self.count + 1


class Lazy(Counting):
    def grow(self):
        self.rng = random.Random(0)


class Turns(IterableDataset):
    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        return zip(X, Y, strict=True)


class Endless(Counting):
    def grow(self):
        next(self.count)


TALLY = {"rows": 0}


def tally(x):
    TALLY["rows"] += 1
    return x


def in_a_cell():
    count = 0

    def transform(x):
        nonlocal count
        count += 1
        return x

    return shuffled(Mapped(transform))


class OwnLoader:
    def __init__(self):
        self.rng = torch.Generator().manual_seed(1)

    def __iter__(self):
        for rows in torch.randperm(ROWS, generator=self.rng).split(8):
            yield X[rows], Y[rows]


class Wrapper:
    def __init__(self):
        self.loader = shuffled(tensors(), generator=torch.Generator().manual_seed(3))

    def __iter__(self):
        return iter(self.loader)


REFUSED = {
    "count": (lambda: shuffled(Counting(0)), "'loader.dataset.count'"),
    "list": (lambda: shuffled(Growing([])), "'loader.dataset.count'"),
    "array": (lambda: shuffled(Counting(np.zeros(3))), "'loader.dataset.count'"),
    "tensor": (lambda: shuffled(Counting(torch.zeros(3))), "'loader.dataset.count'"),
    "large array": (lambda: shuffled(Replacing(np.zeros(5000))), "'loader.dataset.count'"),
    "large tensor": (lambda: shuffled(Counting(torch.zeros(5000))), "'loader.dataset.count'"),
    "iterator": (lambda: shuffled(Endless(itertools.count())), "'loader.dataset.count'"),
    "generator made late": (lambda: shuffled(Lazy(0)), "'loader.dataset.rng'"),
    "iterable": (lambda: DataLoader(Turns(), 8), "'loader.dataset.epoch'"),
    "global": (lambda: shuffled(Mapped(tally)), "TALLY.rows'"),
    "closure": (in_a_cell, r"'loader.dataset.transform.count'"),
    "own loader": (OwnLoader, "the loader OwnLoader is not a torch.utils.data.DataLoader"),
    "wrapper": (Wrapper, "the loader Wrapper is not a torch.utils.data.DataLoader"),
}


@pytest.mark.parametrize("step", STOPS)
@pytest.mark.parametrize("where", REFUSED)
def test_state_that_no_checkpoint_has_is_refused_by_its_name(where, step):
    train, message = REFUSED[where]
    kind = kind_of(train, step=step)
    state = kind.advance(kind.init(), 0, STOPS[step][-1], {})
    with pytest.raises(ConfigurationError, match=message):
        kind.save(state)


@pytest.mark.parametrize("step", STOPS)
def test_a_model_that_counts_in_an_attribute_is_refused(step):
    kind = kind_of(model=lambda: CountingModel(False), step=step)
    state = kind.advance(kind.init(), 0, 1, {})
    with pytest.raises(ConfigurationError, match=r"'model\.count'.*get_extra_state"):
        kind.save(state)


def test_a_count_is_refused_also_after_the_loader_was_made_anew():
    def loaders(*, batch_size):
        return DataLoader(Counting(0), batch_size), DataLoader(tensors(), ROWS)

    kind = torch_loop(linear, sgd, nn.functional.cross_entropy, loaders)
    state = kind.advance(kind.init(), 0, 1, {"batch_size": Constant(8)})
    state = kind.advance(state, 1, 2, {"batch_size": Constant(16)})
    with pytest.raises(ConfigurationError, match=r"loader\.dataset\.count"):
        kind.save(state)


def test_a_checkpoint_of_a_generator_that_is_not_there_is_refused():
    kind = kind_of(RESUMED["collate"])
    saved = kind.save(kind.advance(kind.init(), 0, 1, {}))
    with pytest.raises(ConfigurationError, match=r"'loader\.collate_fn\.rng', which is not there"):
        kind_of().load(saved)


def test_trainings_that_share_a_cached_data_set_do_not_change_each_other():
    @functools.cache
    def rows():
        rng = np.random.default_rng(0)
        return Mapped(lambda x: x + rng.normal())

    def loaders():
        return shuffled(rows()), DataLoader(rows(), ROWS)

    kind = torch_loop(linear, sgd, nn.functional.cross_entropy, loaders)
    kind.evaluate(kind.init())
    values = [kind.evaluate(kind.advance(kind.init(), 0, 2, {})) for _ in range(2)]
    assert values[0] == values[1]
    assert values[0] != kind.evaluate(kind.init())


# --- state beside the model's own -----------------------------------------------------------


class Shuffling(IterableDataset):
    """A stream that is mixed in a buffer, with draws from a generator of the process."""

    def __init__(self, draw):
        self.draw = draw

    def __iter__(self):
        buffer = []
        for row in zip(X, Y, strict=True):
            buffer.append(row)
            if len(buffer) > 8:
                yield buffer.pop(self.draw(len(buffer)))
        yield from buffer


class Dropping(nn.Linear):
    """A model that draws from the same generators while it trains."""

    def forward(self, x):
        if self.training and np.random.rand() + random.random() < 1:  # noqa: NPY002
            x = nn.functional.dropout(x)
        return super().forward(x)


@pytest.mark.parametrize(
    "draw",
    [
        lambda most: int(torch.randint(most, ())),
        lambda most: int(np.random.randint(most)),  # noqa: NPY002
        random.randrange,
    ],
)
def test_an_order_that_is_drawn_batch_by_batch_goes_on_where_the_model_draws_too(draw):
    train = lambda: DataLoader(Shuffling(draw), 8)  # noqa: E731
    check_resumes("batch", train=train, model=lambda: Dropping(4, 2))


class Once(IterableDataset):
    """Gives other numbers of draws when it is gone through again, which cannot be seen."""

    turns = [0] * 101  # so many are not looked at one by one

    def __iter__(self):
        self.turns[0] += 1
        for row in zip(X, Y, strict=True):
            torch.rand(self.turns[0])
            yield row


def test_a_loader_that_does_not_do_again_what_it_did_is_refused():
    kind = kind_of(lambda: DataLoader(Once(), 8), step="batch")
    saved = kind.save(kind.advance(kind.init(), 0, 2, {}))
    with pytest.raises(TrainingError, match="did not do again what it did"):
        kind.load(saved)


class Averaging(nn.Module):
    """A model with a moving average of itself that is no submodule."""

    def __init__(self):
        super().__init__()
        self.net = linear()
        self.average = [linear()]

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.average[0].weight.lerp_(self.net.weight, 0.1)
        return self.net(x) + self.average[0](x).detach()


norm = nn.BatchNorm1d(2)


def normed(outputs, targets):
    return nn.functional.cross_entropy(norm(outputs), targets)


class Easing(nn.Module):
    """A model whose dropout changes while it trains."""

    def __init__(self):
        super().__init__()
        self.net, self.drop = linear(), nn.Dropout(0.1)

    def forward(self, x):
        y = self.net(self.drop(x))
        if self.training:
            self.drop.p += 0.05  # for the next batch
        return y


drop = nn.Dropout(0.1)


def dropped(outputs, targets):
    drop.p = 0.5
    return nn.functional.cross_entropy(drop(outputs), targets)


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"model": Averaging}, r"'model\.average\.0\._parameters\.weight'"),
        ({"loss": normed}, r"'loss\.norm\._buffers\.running_mean'"),
        ({"loss": dropped}, r"'loss\.drop\.p'"),
    ],
)
def test_state_of_modules_that_no_checkpoint_has_is_refused(parts, path):
    kind = kind_of(**parts)
    state = kind.advance(kind.init(), 0, 1, {})
    with pytest.raises(TrainingError, match=path):
        kind.save(state)


class Thawing(nn.Module):
    """A model whose first layer is trained from some batch on, and that freezes its norm then."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.net = nn.Linear(4, 4), nn.BatchNorm1d(4), linear()
        self.first.requires_grad_(False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        if self.training:
            self.seen += 1
            if self.seen == 3:
                self.first.requires_grad_(True)
                self.norm.eval()
        return self.net(self.norm(self.first(x)))


class Accumulating(torch.optim.SGD):
    """An optimiser that takes a step after every second batch."""

    def zero_grad(self, set_to_none=True):
        if self.param_groups[0].get("count", 0) % 2 == 0:
            super().zero_grad(set_to_none)

    def step(self, closure=None):
        group = self.param_groups[0]
        group["count"] = group.get("count", 0) + 1
        return super().step(closure) if group["count"] % 2 == 0 else None


def summing(parameters):
    """An optimiser of torch's that never forgets a gradient."""
    optimizer = torch.optim.SGD(parameters, 0.01)
    optimizer.zero_grad = lambda set_to_none=True: None
    return optimizer


@pytest.mark.parametrize("step", STOPS)
@pytest.mark.parametrize(
    "parts",
    [
        {"model": Thawing},
        {"model": Easing},
        {"optimizer": lambda parameters: Accumulating(parameters, 0.1)},
        {"optimizer": summing},
    ],
)
def test_what_is_thawed_eased_and_accumulated_goes_on_bit_for_bit(parts, step):
    check_resumes(step, **parts)


# --- other mistakes -------------------------------------------------------------------------


def in_groups(rates):
    def optimizer(parameters):
        groups = [{"params": [p], "lr": r} for p, r in zip(parameters, rates, strict=True)]
        return torch.optim.SGD(groups, lr=0.1)

    return optimizer


def test_a_schedule_of_what_parameter_groups_differ_in_is_refused():
    kind = kind_of(optimizer=in_groups([0.0, 0.1]))
    with pytest.raises(ConfigurationError, match=r"differ in 'lr' \(\[0\.0, 0\.1\]\)"):
        kind.advance(kind.init(), 0, 1, {"lr": Constant(0.1)})


def test_what_parameter_groups_differ_in_stays_where_it_has_no_schedule():
    kind = kind_of(optimizer=in_groups([0.0, 0.1]))
    state = kind.advance(kind.init(), 0, 1, {"momentum": Constant(0.9)})
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.0, 0.1]


@pytest.mark.parametrize("step", STOPS)
def test_a_training_loader_without_batches_is_refused(step):
    kind = kind_of(lambda: DataLoader(tensors(), ROWS + 1, drop_last=True), step=step)
    with pytest.raises(ConfigurationError, match="the training loader has no batches"):
        kind.advance(kind.init(), 0, 1, {})


def test_a_validation_loader_without_batches_is_refused():
    kind = torch_loop(linear, sgd, nn.functional.cross_entropy, lambda: ([], []))
    with pytest.raises(ConfigurationError, match="the validation loader has no batches"):
        kind.evaluate(kind.init())
