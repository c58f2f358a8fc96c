"""A pipeline that trains in steps, whose state says what was done to it, for worker processes."""

import os
import time
from pathlib import Path

from eeipu import Categorical, Float, Pipeline, stage
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.schedules import MultiStep
from eeipu.stages.searchable_schedules import ScheduleChoice, Searchable

LR = ScheduleChoice(flat=Float(0.1, 1.0), drop=Searchable(MultiStep, Float(0.1, 1.0), [2], 0.5))


@stage(space={"dims": Categorical([8, 9])}, version="1")
def prep(data, *, dims):
    return [("prep", data, dims)]


def init(prepared):
    return list(prepared)


def advance(state, start, stop, hyper_parameters):
    """Append every step with its hyper-parameters; some rates mean trouble."""
    for step in range(start, stop):
        lr = hyper_parameters["lr"](step)
        if lr == "fails":
            raise ValueError("diverged")
        if lr == "kills":
            os._exit(1)
        if lr == "naps":
            time.sleep(0.1)
        if lr == "dies" and not Path(hyper_parameters["marker"](step)).exists():
            Path(hyper_parameters["marker"](step)).touch()
            os._exit(1)
        state = [*state, (step, lr)]
    return state


def evaluate(state):
    return {
        "sum": sum(lr for _, lr, *_ in state[1:] if isinstance(lr, float)),
        "length": len(state),
    }


TRAINING = Training(init, advance, evaluate)


def train(space=None, **options):
    return iterative(
        TRAINING, {"lr": LR} if space is None else space, steps=4, name="train", **options
    )


def pipeline(space=None):
    return Pipeline([prep, train(space, version="1")], objective="sum")
