"""Trainings that users write wrongly: refused, noticed when they run, or made right."""

import random
import warnings

import numpy as np
import pytest
import torch
from random_walks import advance, init, value
from torch import nn

from eeipu import Pipeline, StageCache, Tuner
from eeipu.algorithms.early_stopping import MedianStopping
from eeipu.errors import PipelineError, TrainingError
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.running.worker import LastStates


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((init, advance, None), "evaluate must be a function, but got None"),
        ((init(1.0), advance, value), "init must be a function"),
        ((init, lambda state, start, stop: state, value), "advance gets the state, start, stop"),
        ((init, advance, lambda: 0.0), "evaluate gets the state by position"),
        ((init, advance, value, lambda a, b: a), "save gets the state by position"),
    ],
)
def test_functions_that_do_not_take_what_they_get_are_refused(functions, message):
    with pytest.raises(PipelineError, match=message):
        iterative(Training(*functions), {"lr": 0.1}, steps=4, version="1")


def test_what_is_no_training_is_refused():
    with pytest.raises(PipelineError, match=r"needs a Training\(\.\.\.\)"):
        iterative((init, advance, value), {"lr": 0.1}, steps=4, version="1")


@pytest.mark.parametrize("steps", [0, 2.5, "9", True, None])
def test_steps_are_whole(steps):
    with pytest.raises(PipelineError, match=r"at least 1 step, got .*; steps are whole"):
        iterative(Training(init, advance, value), {"lr": 0.1}, steps=steps, version="1")


def test_steps_of_other_types_become_whole_numbers():
    for steps in (np.int64(4), 4.0):
        stage = iterative(Training(init, advance, value), {"lr": 0.1}, steps=steps, version="1")
        assert type(stage.steps) is int


def tuned(training, trials=3):
    """The study of a grid of such a training, and the pipeline."""
    train = iterative(training, {"lr": [0.1, 0.3, 0.2]}, 4, "train", "1")
    pipeline = Pipeline([train])
    tuner = Tuner(
        pipeline,
        budget=None,
        method="grid",
        early_stopping=MedianStopping(1, 1),
        cache=StageCache(),
        seed=0,
    )
    return tuner.run(1.0, max_trials=trials, progress=False), pipeline


def test_a_training_that_forgets_to_return_its_state_ends_the_search_with_the_remedy():
    def forgetful(state, start, stop, hyper):
        advance(state, start, stop, hyper)

    study, _ = tuned(Training(init, forgetful, value))
    assert len(study.trials) == 1
    assert "let it return the state" in study.trials[0].user_attrs["error"]


def test_a_checkpoint_that_cannot_be_gone_on_from_ends_the_search_as_a_failed_trial(monkeypatch):
    def load(saved):
        raise TrainingError("the loader is another one")

    monkeypatch.setattr(LastStates, "take", lambda states, key: None)
    study, _ = tuned(Training(init, advance, value, load=load))
    assert [trial.state.name for trial in study.trials] == ["FAIL"]
    assert "another one" in study.trials[0].user_attrs["error"]


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (np.random.rand, "np.random"),
        (random.random, "random"),
        (lambda: float(torch.rand(())), "torch.rand"),
    ],
)
def test_draws_from_generators_of_the_process_are_noticed(draw, name):
    def drawing(state, start, stop, hyper):
        state["w"] += sum(hyper["lr"](step) * draw() for step in range(start, stop))
        return state

    with pytest.warns(RuntimeWarning, match=f"'train' draws from {name}, .*uses_process_state"):
        tuned(Training(init, drawing, value), trials=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned(Training(init, drawing, value, uses_process_state=True), trials=1)


def test_an_evaluation_that_draws_from_the_state_changes_no_value():
    def drawing(state):
        return state["w"] + 0.0 * state["rng"].random()

    study, pipeline = tuned(Training(init, advance, drawing))
    complete = [t for t in study.trials if t.value is not None and 4 in t.intermediate_values]
    assert complete
    assert [t.value for t in complete] == [pipeline.run(t.params, 1.0).value for t in complete]


class Loop:
    """A loop by hand that sets its model to evaluation, and never back."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def begun(data):
    return Loop()


def trained(loop, start, stop, hyper):
    for step in range(start, stop):
        x = torch.linspace(-1, 1, 8).reshape(4, 2) + step
        loop.model(x).square().sum().backward()
        with torch.no_grad():
            for parameter in loop.model.parameters():
                parameter -= hyper["lr"](step) * parameter.grad
                parameter.grad = None
    return loop


def evaluated(loop):
    loop.model.eval()
    with torch.no_grad():
        return float(loop.model(torch.ones(3, 2)).sum())


def loaded(saved):
    loop = begun(None)
    loop.model.load_state_dict(saved)
    return loop


def test_the_mode_of_a_model_is_put_back_after_its_evaluation():
    training = Training(
        begun, trained, evaluated, lambda loop: loop.model.state_dict(), loaded, True
    )
    study, pipeline = tuned(training)
    complete = [t for t in study.trials if 4 in t.intermediate_values]
    assert complete
    assert [t.value for t in complete] == [pipeline.run(t.params, 1.0).value for t in complete]
