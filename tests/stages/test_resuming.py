"""The check that users can make of their own loops."""

import random

import numpy as np
import pytest
from digit_training import data, make_loaders, make_model, make_optimizer
from random_walks import advance, init, value
from torch.nn import functional

from eeipu import (
    Categorical,
    ConfigurationError,
    Float,
    Training,
    TrainingError,
    check_resuming,
    iterative,
    torch_training,
)

SPACE = {"lr": Float(0.1, 0.5)}


def unseeded(data):
    return {"w": data, "rng": np.random.default_rng()}


def seeded_by_call(state, start, stop, hyper):
    state["rng"] = np.random.default_rng(0)  # as a booster does in each call
    return advance(state, start, stop, hyper)


def drawing(state):
    state["rng"].random()
    return state["w"]


def forgetful(saved):
    return init(saved["w"])


def forgetting_its_scale(state):
    return {"w": state["w"], "rng": state["rng"]}


def scaled(state):
    return state["w"] * state.get("scale", 1.0)


def with_scale(data):
    return {**init(data), "scale": 2.0}


def of_process(data):
    random.seed(0)
    return {"w": data}


def advanced_by_process(state, start, stop, hyper):
    state["w"] += sum(hyper["lr"](step) * random.random() for step in range(start, stop))
    return state


def checked(*functions, **options):
    stage = iterative(Training(*functions, **options), SPACE, steps=9, name="train", version="1")
    check_resuming(stage, 1.0)


@pytest.mark.parametrize(
    ("functions", "why"),
    [
        ((unseeded, advance, value), "beside its inputs"),
        ((init, seeded_by_call, value), "where it is cut"),
        ((init, advance, drawing), "whether it was evaluated"),
        ((init, advance, value, dict, forgetful), "save and load lose"),
        ((of_process, advanced_by_process, value), "save and load lose"),
    ],
)
def test_what_a_training_depends_on_is_said(functions, why):
    with pytest.raises(TrainingError, match=f"'train' gives after 4 steps depends on .*{why}"):
        checked(*functions)


def test_a_training_that_goes_on_as_if_it_had_never_stopped_passes():
    checked(init, advance, value)
    checked(init, advance, lambda state: np.full(3, state["w"]))


def test_only_the_evaluation_may_need_what_is_lost():
    stage = iterative(
        Training(with_scale, advance, scaled, forgetting_its_scale, dict),
        SPACE,
        steps=1,
        name="train",
        version="1",
    )
    with pytest.raises(TrainingError, match="save and load lose"):
        check_resuming(stage, 1.0)


def test_a_check_of_no_steps_is_refused():
    stage = iterative(Training(init, advance, value), SPACE, steps=9, name="train", version="1")
    with pytest.raises(ConfigurationError, match="got steps=0"):
        check_resuming(stage, 1.0, steps=0)


def test_what_it_gives_may_be_long_and_without_equality():
    def shown(state):
        return np.full(99, state["rng"].random())

    with pytest.raises(TrainingError, match=r"whether it was evaluated.*\.\.\. became"):
        checked(init, advance, shown)


def test_a_torch_training_passes_and_gets_its_inputs():
    stage = torch_training(
        make_model,
        make_optimizer,
        functional.cross_entropy,
        make_loaders,
        space={"lr": 0.1, "batch_size": Categorical([8, 16])},
        steps=2,
    )
    check_resuming(stage, data, params={"batch_size": 8})
