"""What a user may write as the values of a hyper-parameter."""

from typing import NamedTuple

import numpy as np
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    DiscreteUniformDistribution,
    FloatDistribution,
    IntDistribution,
    IntLogUniformDistribution,
    IntUniformDistribution,
    LogUniformDistribution,
    UniformDistribution,
)

from eeipu import Pipeline, PipelineError, SpaceError, Stage, Tuner, stage
from eeipu.space import Categorical, Float, Int, as_distribution


class Pair(NamedTuple):
    first: str
    second: str


OLD = "ignore:.*has been deprecated:FutureWarning"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b"], Categorical(["a", "b"])),
        (("a",), Categorical(["a"])),
        ([True, False], Categorical([True, False])),
        ((8, 16, 32), Categorical([8, 16, 32])),
        ([3, 5], Categorical([3, 5])),
        ((True, False), Categorical([True, False])),
        (Pair("a", "b"), Categorical(["a", "b"])),
        (range(5), Int(0, 4)),
        (range(1, 9), Int(1, 8)),
        (range(8, 65, 8), Int(8, 64, step=8)),
        (range(8, 64, 8), Int(8, 56, step=8)),
        (range(9, 0, -2), Int(1, 9, step=2)),
        (range(-3, -9, -4), Int(-7, -3, step=4)),
        (range(7, 8), Int(7, 7)),
        (range(2**64), Int(0, 2**64 - 1)),  # which has no len()
        (range(7, 8, 100), Int(7, 7, step=100)),
        (Float(0.1, 1.0, log=True), FloatDistribution(0.1, 1.0, log=True)),
        (FloatDistribution(0.0, 1.0, step=0.25), Float(0.0, 1.0, step=0.25)),
        (IntDistribution(1, 64, log=True), Int(1, 64, log=True)),
        (IntDistribution(1, 10, step=3), Int(1, 10, step=3)),
        (CategoricalDistribution(("a", 2)), Categorical(["a", 2])),
    ],
)
def test_what_stands_for_a_distribution_becomes_one(values, expected):
    made = as_distribution(values)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.filterwarnings(OLD)
def test_old_distributions_of_optuna_become_those_that_a_study_has():
    old_and_new = [
        (UniformDistribution(0.0, 1.0), Float(0.0, 1.0)),
        (LogUniformDistribution(0.1, 1.0), Float(0.1, 1.0, log=True)),
        (DiscreteUniformDistribution(0.0, 1.0, 0.25), Float(0.0, 1.0, step=0.25)),
        (IntUniformDistribution(1, 9, 2), Int(1, 9, step=2)),
        (IntLogUniformDistribution(1, 64), Int(1, 64, log=True)),
    ]
    for old, new in old_and_new:
        assert as_distribution(old) == new  # which compares the types, too


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(3, 3), r"range\(3, 3\) has no numbers"),
        (range(0, 9, -1), r"range\(0, 9, -1\) has no numbers"),
        ([], "one or more"),
        ((0, 1), r"a range or two choices.*the list \[0, 1\]"),
        ((1e-4, np.float64(0.1)), "a range or two choices"),
        (["a", "a"], "list every choice once"),
        ("abc", "a list of choices.*'abc'"),
        ({"a", "b"}, "a list of choices"),
        ({"a": 1}, "a list of choices"),
        (7, "not 7"),
        (None, "not None"),
        (np.arange(3), "not array"),
        (iter([1, 2]), "a list of choices"),
        (FloatDistribution(-1e308, 1e308), "too wide"),
        (IntDistribution(10**17, 10**17 + 5), "tune the difference"),
    ],
)
def test_what_stands_for_nothing_is_refused(values, message):
    with pytest.raises(SpaceError, match=message):
        as_distribution(values)


def test_choices_of_numpy_are_stored_as_those_of_python():
    choices = Categorical(
        [*np.arange(2), np.float64(0.5), np.str_("a"), np.bool_(True)][1:4]
    ).choices
    assert choices == (1, 0.5, "a")
    assert [type(each) for each in choices] == [int, float, str]


def test_a_stage_has_distributions_whatever_it_was_given():
    space = {"kind": ["tree", "net"], "depth": range(2, 10, 2), "lr": FloatDistribution(0.1, 1.0)}
    expected = {
        "kind": Categorical(["tree", "net"]),
        "depth": Int(2, 8, step=2),
        "lr": Float(0.1, 1.0),
    }

    def fit(data, *, kind, depth, lr):
        return kind, depth, lr

    assert stage(fit, space=space).space == expected
    assert stage(space)(fit).space == expected
    assert Stage("fit", space).space == expected
    declared = Pipeline.declare({"fit": space})
    assert declared.space == {f"fit.{name}": each for name, each in expected.items()}


def test_an_error_names_the_stage_and_the_parameter():
    with pytest.raises(PipelineError, match=r"stage 'fit': the space of 'depth': range\(0, 0\)"):
        Pipeline.declare({"fit": {"depth": range(0)}})


@pytest.mark.filterwarnings(OLD)
def test_a_study_of_them_is_that_of_the_distributions_that_they_stand_for(tmp_path):
    def tuner_of(lr, depth, kind):
        pipeline = Pipeline.declare({"fit": {"lr": lr, "depth": depth, "kind": kind}})
        storage = f"sqlite:///{tmp_path}/study.db"
        return Tuner(pipeline, budget=10.0, storage=storage, study_name="s", seed=0)

    first = tuner_of(UniformDistribution(0.1, 1.0), range(1, 9), ("a", "b"))
    first.tell(first.ask(), 1.0, stage_costs=[1.0])
    second = tuner_of(Float(0.1, 1.0), Int(1, 8), Categorical(["a", "b"]))
    second.tell(second.ask(), 2.0, stage_costs=[1.0])

    assert [trial.distributions == second.pipeline.space for trial in second.study.trials] == [
        True
    ] * 2
