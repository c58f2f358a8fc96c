"""Which errors are errors of programming, as the runs of stages tell them apart."""

import importlib
import math

import numpy as np
import pytest
import torch

from eeipu import Pipeline, StageCache, TransientError, stage


def of(function, objective=None):
    """The run of a pipeline of one stage."""
    return Pipeline([stage(function, version="1")], objective).run({}).stage_runs[0]


def unwrapped(function):
    """A decorator's wrapper that hides what the function takes."""
    return lambda *args, **keywords: function(*args, **keywords)


class Callable:
    """Its signature is not that of its call, as with some compiled functions."""

    __name__ = "callable"
    __signature__ = importlib.import_module("inspect").Signature()

    def __call__(self, data):
        return data


def raising(error):
    def train():
        raise error

    return train


@pytest.mark.parametrize(
    "function",
    [
        lambda: undefined,  # noqa: F821
        lambda: (1.0).accuracy,
        lambda: importlib.import_module("no_such_module"),
        lambda: eval("1 +"),
        lambda: object(1),
        lambda: raising(None)(1.0),
        unwrapped(lambda data: data),
        unwrapped(lambda *, x: x),
        Callable(),
    ],
    ids=[
        "name",
        "attribute",
        "import",
        "syntax",
        "a builtin's arguments",
        "too many",
        "missing",
        "missing keyword",
        "the call itself",
    ],
)
def test_every_configuration_meets_an_error_of_programming(function):
    run = of(function)
    assert run.error is not None
    assert run.is_bug


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad value"),
        RuntimeError("diverged"),
        KeyError("x"),
        MemoryError(),
        TypeError("unsupported operand"),
        TypeError("f() is for numbers"),
        TransientError("lost"),
        SystemExit(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_may_depend_on_the_configuration(error):
    run = of(raising(error))
    assert run.error is not None
    assert not run.is_bug


@pytest.mark.parametrize(
    ("output", "objective"),
    [
        (None, None),
        ((0.5, {"f1": 0.5}), None),
        ([0.5], None),
        ("0.5", None),
        (torch.tensor([0.5]), None),
        (np.array([[0.5]]), None),
        (np.zeros(3), None),
        ({"f1": 0.5}, None),
        ({"f1": 0.5}, "auc"),
        ({"f1": 0.5, "curve": [1.0]}, "f1"),
    ],
)
def test_an_output_that_is_no_objective_is_an_error_of_programming(output, objective):
    assert of(lambda: output, objective).is_bug


@pytest.mark.parametrize("output", [math.nan, math.inf, np.float64(math.nan)])
def test_an_objective_that_is_not_finite_may_depend_on_the_configuration(output):
    run = of(lambda: output)
    assert run.error is not None
    assert not run.is_bug


@pytest.mark.parametrize("output", [True, 1, np.float32(1.0), np.array(1.0), torch.tensor(1.0)])
def test_a_number_is_no_error(output):
    run = Pipeline([stage(lambda: output, name="only", version="1")]).run({})
    assert (run.value, run.stage_runs[0].is_bug) == (1.0, False)


def test_a_cost_that_cannot_be_called_is_an_error_of_programming():
    run = Pipeline([stage(lambda: 1.0, name="s", version="1", cost=unwrapped(max))]).run({})
    assert "TypeError" in run.error
    assert (
        not Pipeline([stage(lambda: 1.0, name="s", version="1", cost=lambda: -1.0)])
        .run({})
        .stage_runs[0]
        .is_bug
    )


def test_what_the_cache_gives_is_judged_like_what_ran():
    pipeline, cache = Pipeline([stage(lambda: (1.0, 2.0), name="s", version="1")]), StageCache()
    for reused in (False, True):
        run = pipeline.run({}, cache=cache).stage_runs[0]
        assert (run.memoized, run.is_bug) == (reused, True)


class OutOfRangeError(Exception):
    """A user's own error."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        RuntimeError("no"),
        np.linalg.LinAlgError("singular"),
        OverflowError("large"),
        AssertionError("no"),
        Exception("no"),
        OutOfRangeError("no"),
    ],
)
def test_errors_about_values(error):
    assert of(raising(error)).is_about_values


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("data.csv"),
        ConnectionError("reset"),
        ZeroDivisionError("zero"),
        KeyError("column"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        ModuleNotFoundError("torch"),
    ],
)
def test_errors_of_the_surroundings(error):
    assert not of(raising(error)).is_about_values


def test_an_objective_that_is_not_finite_is_not_about_values():
    """It is as often a mistake in the data as one of the configuration."""
    assert not of(lambda: math.nan).is_about_values
