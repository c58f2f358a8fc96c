"""The adapter for PyTorch: resumed training equals uninterrupted training, bit for bit."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from eeipu import StageCache
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.study_run import StudyRun
from eeipu.errors import ConfigurationError
from eeipu.executors.futures_pool import FuturesPool
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import iterative, stage_path
from eeipu.stages.running.worker import Job
from eeipu.stages.schedules import Constant, Exponential, MultiStep, Piecewise
from eeipu.stages.torch_training.loop import torch_loop

STEPS = 9


class Noisy(Dataset):
    """Data with an augmentation that draws from all three global generators."""

    def __init__(self, data, noise):
        self.data, self.noise = data, noise

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        x, y = self.data[index]
        shift = torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002
        return x + self.noise * shift, y


def model():
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3)
    )


def loaders(inputs, *, batch_size=8, noise=0.1, own_generator=False):
    x, y = inputs
    train, test = random_split(TensorDataset(x, y), [40, 8])
    generator = torch.Generator().manual_seed(7) if own_generator else None
    train = DataLoader(Noisy(train, noise), batch_size, shuffle=True, generator=generator)
    return train, DataLoader(test, 4)


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 4, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


SCHEDULES = {
    "lr": Exponential(0.1, 0.9),
    "weight_decay": Constant(0.01),
    "batch_size": Piecewise([8, 10], [4]),
    "noise": Constant(0.1),
}


def training(step, optimizer=adam):
    return torch_loop(model, optimizer, nn.functional.cross_entropy, loaders, step=step)


def state_after(kind, stops, schedules=SCHEDULES):
    """Train to each of these steps in turn, with a new process's memory after each."""
    state = kind.init(data())
    start = 0
    for stop in stops:
        state = kind.advance(state, start, stop, schedules)
        kind.evaluate(state)
        saved = pickle.dumps(kind.save(state))
        torch.manual_seed(stop + 99)
        state, start = kind.load(pickle.loads(saved), data()), stop
    return state


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


# --- bit for bit ----------------------------------------------------------------------------


@settings(max_examples=10)
@given(
    st.sampled_from(["epoch", "batch"]),
    st.booleans(),
    st.sets(st.integers(1, STEPS - 1), max_size=3).map(sorted),
)
def test_resumed_training_equals_uninterrupted_training(step, own_generator, stops):
    kind = training(step)
    schedules = SCHEDULES | {"own_generator": Constant(own_generator)}
    whole = kind.advance(kind.init(data()), 0, STEPS, schedules)
    resumed = state_after(kind, [*stops, STEPS], schedules)
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert kind.evaluate(whole) == kind.evaluate(resumed)
    moments = [s.optimizer.state_dict()["state"] for s in (whole, resumed)]
    assert all(same(moments[0][key], moments[1][key]) for key in moments[0])
    assert torch.equal(whole.rng["torch"], resumed.rng["torch"])


def test_resuming_in_the_last_batch_of_an_epoch_and_just_after_it():
    kind = training("batch")
    schedules = {"lr": Constant(0.1)}  # 40 rows in batches of 8: epochs of 5 steps
    whole = kind.advance(kind.init(data()), 0, 11, schedules)
    for stops in ([4, 11], [5, 11], [6, 11], [10, 11]):
        resumed = state_after(kind, stops, schedules)
        assert same(whole.model.state_dict(), resumed.model.state_dict())


def seeded():
    return torch.Generator().manual_seed(1)


class Turning(Sampler):
    """Begins one row later in every epoch; says so where `is_saved`."""

    def __init__(self, rows, is_saved):
        self.rows, self.turn = rows, 0
        if is_saved:
            self.state_dict = lambda: {"turn": self.turn}
            self.load_state_dict = lambda saved: setattr(self, "turn", saved["turn"])

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        self.turn += 1
        return ((row + self.turn) % len(self) for row in range(len(self)))


class Shuffled(Sampler):
    """Draws from a generator of its own."""

    def __init__(self, rows):
        self.rows, self.rng = rows, random.Random(0)

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rng.sample(range(len(self)), len(self)))


SAMPLERS = {
    "random": lambda rows: {
        "sampler": RandomSampler(rows, generator=seeded()),
        "batch_size": 8,
    },
    "weighted": lambda rows: {
        "sampler": WeightedRandomSampler(torch.ones(48), 48, generator=seeded()),
        "batch_size": 8,
    },
    "batches": lambda rows: {
        "batch_sampler": BatchSampler(RandomSampler(rows, generator=seeded()), 8, False)
    },
    "own": lambda rows: {"sampler": Turning(rows, True), "batch_size": 8},
    "shuffled": lambda rows: {"sampler": Shuffled(rows), "batch_size": 8},
}


@pytest.mark.parametrize("step", ["epoch", "batch"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_resumed_training_equals_uninterrupted_training_with_any_sampler(step, sampler):
    def sampled(inputs):
        rows = TensorDataset(*inputs)
        return DataLoader(rows, **SAMPLERS[sampler](rows)), DataLoader(rows, 8)

    kind = torch_loop(model, adam, nn.functional.cross_entropy, sampled, step=step)
    whole = kind.advance(kind.init(data()), 0, 15, {})
    resumed = state_after(kind, [4, 10, 15], {})
    assert same(whole.model.state_dict(), resumed.model.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda rows: {"persistent_workers": True, "num_workers": 1}, "persistent_workers=False"),
        (lambda rows: {"sampler": Turning(rows, False)}, "changes 'loader.sampler.turn'"),
    ],
)
def test_loaders_whose_state_no_checkpoint_has_are_refused(options, message):
    def refused(inputs):
        rows = TensorDataset(*inputs)
        return DataLoader(rows, 8, **options(rows)), DataLoader(rows, 8)

    kind = torch_loop(model, adam, nn.functional.cross_entropy, refused)
    with pytest.raises(ConfigurationError, match=message):
        kind.save(kind.advance(kind.init(data()), 0, 1, {}))


class Noting(Dataset):
    """Data that notes which rows are read."""

    def __init__(self, data):
        self.data, self.read = data, []

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.read.append(index)
        return self.data[index]

    def state_dict(self):
        return {}  # what was read does not matter to training

    def load_state_dict(self, saved):
        pass


def test_an_epoch_sees_every_row_once_also_after_a_checkpoint():
    rows = Noting(TensorDataset(*data()))

    def noted(inputs):
        return DataLoader(rows, 8, shuffle=True), DataLoader(rows, 8)

    kind = torch_loop(model, adam, nn.functional.cross_entropy, noted, step="batch")
    state = kind.advance(kind.init(data()), 0, 2, {"lr": Constant(0.1)})
    before, saved = list(rows.read), kind.save(state)
    state = kind.load(saved, data())
    rows.read.clear()
    kind.advance(state, 2, 6, {"lr": Constant(0.1)})
    assert sorted(before + rows.read) == list(range(48))


# --- what else it promises ------------------------------------------------------------------


class Augmented(torch.utils.data.Dataset):
    """Data with random generators of its own, of all kinds, here and there."""

    def __init__(self, rows):
        self.rows, self.torch = rows, torch.Generator().manual_seed(1)
        self.transforms = [np.random.default_rng(2), {"old": np.random.RandomState(3)}]
        self.nested = Noting(rows)
        self.nested.python = random.Random(4)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        x, y = self.rows[index]
        new, old = self.transforms[0], self.transforms[1]["old"]
        shift = new.random() + old.rand() + self.nested.python.random()
        return x + 0.1 * (shift + torch.rand((), generator=self.torch)), y


@pytest.mark.parametrize("is_input", [True, False])
@pytest.mark.parametrize("step", ["epoch", "batch"])
def test_generators_of_the_data_go_on_where_they_were(step, is_input):
    """Also where the data set is the stage's input, and evaluation draws from it too."""

    def loaders(rows):
        mine = rows if is_input else Augmented(TensorDataset(*rows))
        return DataLoader(torch.utils.data.Subset(mine, range(40)), 8, shuffle=True), DataLoader(
            mine, 8
        )

    def inputs():
        return Augmented(TensorDataset(*data())) if is_input else data()

    kind = torch_loop(model, adam, nn.functional.cross_entropy, loaders, step=step)
    schedules = {"lr": Constant(0.1)}
    whole = kind.advance(kind.init(inputs()), 0, 8, schedules)
    state = kind.init(inputs())
    for start, stop in ((0, 3), (3, 5), (5, 8)):
        state = kind.advance(state, start, stop, schedules)
        kind.evaluate(state)
        state = kind.load(pickle.loads(pickle.dumps(kind.save(state))), inputs())
    assert same(whole.model.state_dict(), state.model.state_dict())


class Averaged(torch.optim.SGD):
    """An optimiser that keeps a moving average of the weights."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1, momentum=0.9)
        self.average = [p.detach().clone() for p in self.param_groups[0]["params"]]

    def step(self, closure=None):
        super().step(closure)
        for mean, p in zip(self.average, self.param_groups[0]["params"], strict=True):
            mean.lerp_(p.detach(), 0.1)

    def state_dict(self):
        return super().state_dict() | {"average": [mean.clone() for mean in self.average]}

    def load_state_dict(self, state_dict):
        self.average = [mean.clone() for mean in state_dict["average"]]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "average"})


class Mixed(nn.Sequential):
    """A model in mixed precision."""

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


def test_mixed_precision_and_averaged_weights_go_on_where_they_were():
    def mixed():
        return Mixed(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    kind = torch_loop(mixed, Averaged, nn.functional.cross_entropy, loaders, step="batch")
    whole = kind.advance(kind.init(data()), 0, STEPS, SCHEDULES)
    resumed = state_after(kind, [3, 7, STEPS])
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    averages = zip(whole.optimizer.average, resumed.optimizer.average, strict=True)
    assert all(torch.equal(one, other) for one, other in averages)


def test_checkpoints_do_not_hold_the_data():
    kind, (rows, _) = training("batch"), data()
    state = kind.advance(kind.init(data()), 0, 1, {"lr": Constant(0.1)})
    assert rows.numpy().tobytes() in pickle.dumps(data())
    assert rows.numpy().tobytes() not in pickle.dumps(kind.save(state))


def test_training_leaves_the_generators_of_the_process_alone():
    kind = training("epoch")
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    state_after(kind, [1])
    torch.manual_seed(1)
    state = kind.advance(kind.init(data()), 0, 2, SCHEDULES)
    kind.evaluate(state)
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_evaluating_changes_nothing():
    kind = training("epoch")
    state = kind.advance(kind.init(data()), 0, 1, SCHEDULES)
    first = kind.evaluate(state)
    assert kind.evaluate(state) == first
    assert set(first) == {"loss", "accuracy"}
    assert 0.0 <= first["accuracy"] <= 1.0


def test_the_seed_makes_the_model():
    kinds = [
        torch_loop(model, adam, nn.functional.cross_entropy, loaders, seed=seed)
        for seed in (0, 0, 1)
    ]
    one, same_seed, other = (kind.init(data()).model.state_dict() for kind in kinds)
    assert same(one, same_seed)
    assert not same(one, other)


def test_hyper_parameters_of_the_optimiser_are_set_at_every_step():
    kind = training("batch", lambda parameters: torch.optim.SGD(parameters, 1.0, momentum=0.1))
    schedules = {"lr": Piecewise([0.5, 0.25], [2]), "momentum": Constant(0.9)}
    state = kind.advance(kind.init(data()), 0, 3, schedules)
    (group,) = state.optimizer.param_groups
    assert (group["lr"], group["momentum"]) == (0.25, 0.9)


@pytest.mark.parametrize("step", ["epoch", "batch"])
def test_a_change_of_what_loaders_take_begins_a_new_epoch(step):
    kind = training(step)
    state = kind.advance(kind.init(data()), 0, 4, SCHEDULES)
    assert state.loader.batch_size == 8
    state = kind.advance(state, 4, 5, SCHEDULES)
    assert state.loader.batch_size == 10
    assert state.position == (1 if step == "batch" else 0)


def test_regression_has_a_loss_and_no_accuracy():
    def numbers(inputs):
        x, y = inputs
        rows = TensorDataset(x, y.float().unsqueeze(-1))
        return DataLoader(rows, 8), DataLoader(rows, 8)

    kind = torch_loop(lambda: nn.Linear(4, 1), adam, nn.functional.mse_loss, numbers, step="epoch")
    state = kind.advance(kind.init(data()), 0, 20, {"lr": Constant(0.1)})
    assert kind.evaluate(state).keys() == {"loss"}
    assert kind.evaluate(state)["loss"] < kind.evaluate(kind.init(data()))["loss"]


def test_trials_merged_in_a_plan_score_what_they_score_alone():
    stage = iterative(training("epoch"), {"lr": 0.1}, steps=6, name="fit", version="1")
    configs = [{"fit.lr": MultiStep(0.1, [drop], gamma=0.5)} for drop in (2, 4)]
    cache = StageCache()
    plan = SearchPlan(cache=cache)
    study = StudyRun(
        "study",
        FullTraining(configs, 6),
        lambda config, step: stage_path([stage], config, "data", step),
        objective="loss",
    )
    with ThreadPoolExecutor(1) as executor:
        pool = FuturesPool(executor, 1, Job([stage], (data(),), cache))
        run_studies([study], Scheduler(plan), pool)
    kind = training("epoch")
    alone = [
        kind.evaluate(kind.advance(kind.init(data()), 0, 6, {"lr": config["fit.lr"]}))["loss"]
        for config in configs
    ]
    assert [study.values[trial, 6] for trial in range(2)] == alone
    assert plan.tree.merge_rate == 1.2
