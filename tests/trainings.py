"""A pipeline that trains in steps between two plain stages, and notes every call in a folder."""

import os
import time
from collections import Counter
from pathlib import Path

import optuna

from eeipu import Categorical, Float, Pipeline, stage
from eeipu.stages.iterative import Training, iterative

STEPS = 27


@stage(space={"dims": Categorical([1, 2])}, version="1")
def prep(notes, *, dims):
    note(notes, f"prep {dims}")
    return [notes, 0.0, 0, dims]


def init(prepared):
    return list(prepared)


def advance(state, start, stop, hyper_parameters):
    """Add up the rates; some of them mean trouble."""
    notes, total, steps, dims = state
    assert steps == start, "a state is trained from where it is"
    for step in range(start, stop):
        lr = hyper_parameters["lr"](step)
        note(notes, f"step {dims} {lr}")
        if lr == "fails":
            raise ValueError("diverged")
        if lr == "prunes":
            raise optuna.TrialPruned("no good")
        if lr == "misspelt":
            undefined_name  # noqa: B018, F821
        if lr == "kills":
            os._exit(1)
        if lr == "naps":
            time.sleep(0.05)
            lr = 0.5
        total += lr
    return [notes, total, stop, dims]


def evaluate(state):
    return {"sum": state[1], "steps": state[2], "notes": state[0]}


TRAINING = Training(init, advance, evaluate)


def train(space=None, steps=STEPS, **options):
    space = {"lr": Float(0.0, 1.0)} if space is None else space
    return iterative(TRAINING, space, steps, name="train", version="1", **options)


@stage(space={"bonus": Categorical([0.0, 0.25])}, version="1")
def score(metrics, *, bonus):
    note(metrics["notes"], "score")
    return metrics["sum"] / metrics["steps"] + bonus


def pipeline(space=None, steps=STEPS, **options):
    return Pipeline([prep, train(space, steps, **options), score])


def note(notes, what):
    with (Path(notes) / str(os.getpid())).open("a") as file:
        file.write(f"{what}\n")


def noted(notes):
    """What was called, and how often."""
    lines = [line for file in Path(notes).iterdir() for line in file.read_text().splitlines()]
    return Counter(lines)


def steps_run(notes):
    return sum(count for line, count in noted(notes).items() if line.startswith("step"))
