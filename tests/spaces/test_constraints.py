"""Constraints between parameters, and the space that they leave."""

import re
from functools import partial

import numpy as np
import pytest
import torch

from eeipu import Categorical, Float, Int, Pipeline, SpaceError
from eeipu.space import Space
from eeipu.spaces.constraints import Constraints

INTS = {"a.k": Int(1, 6), "b.k": Int(1, 6)}
P = {"a.x": 0.25}


class Least:
    def __init__(self, least):
        self.least = least

    def __call__(self, params):
        return params["a.x"] >= self.least


def is_small(params, most=0.5):
    return params["a.x"] <= most


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, True),
        (False, False),
        (np.bool_(True), True),
        (np.bool_(False), False),
        (np.array(True), True),
        (np.array([False]), False),
        (torch.tensor(True), True),
        (1, True),
        (0.0, False),  # what `p["a.x"] and p["b.x"] > 1` gives
    ],
)
def test_an_answer_may_be_any_kind_of_truth(answer, expected):
    assert Constraints([lambda p: answer]).allow(P) is expected


@pytest.mark.parametrize("answer", [None, 0.5, -1, "yes", [], np.array([True, False]), np.nan])
def test_other_answers_are_errors_that_name_the_constraint(answer):
    with pytest.raises(
        SpaceError, match=r"constraints\[1\] \(<lambda>, .*test_constraints.py:\d+\)"
    ):
        Constraints([is_small, lambda p: answer]).allow(P)


def test_an_exception_names_the_constraint_and_the_configuration():
    def divides(params):
        return 1 / (params["a.x"] - 0.25) > 0

    with pytest.raises(
        SpaceError, match=r"constraints\[0\] \(divides, .*\) raised ZeroDivisionError"
    ) as info:
        Constraints([divides]).allow(P)
    assert "{'a.x': 0.25}" in str(info.value)


@pytest.mark.parametrize(
    ("constraint", "name"),
    [
        (is_small, r"is_small, .*\.py:\d+"),
        (partial(is_small, most=0.1), r"is_small, .*\.py:\d+"),
        (Least(0.9), "Least"),
    ],
)
def test_constraints_of_all_kinds_have_names(constraint, name):
    violated = Constraints([lambda p: True, constraint]).violated({"a.x": 0.7})
    assert re.fullmatch(rf"constraints\[1\] \({name}\)", violated)


@pytest.mark.parametrize("constraints", [is_small, 7, [is_small, "p['a.x'] < 1"], [None]])
def test_what_is_no_list_of_functions_is_refused(constraints):
    with pytest.raises(SpaceError, match="constraints"):
        Pipeline.declare({"a": {"x": Float(0.0, 1.0)}}, constraints=constraints)


def test_a_constraint_cannot_change_the_configuration():
    params = {"a.x": 0.25}
    assert Constraints([lambda p: p.pop("a.x") < 1, is_small]).allow(params)
    assert params == {"a.x": 0.25}


def test_a_constraint_is_not_asked_about_what_another_before_it_forbids():
    guarded = Constraints([lambda p: p["b.k"] > 0, lambda p: 6 / p["b.k"] > 2])
    assert [guarded.allow({"b.k": k}) for k in (0, 1, 6)] == [False, True, False]
    assert guarded.violations([{"b.k": k} for k in (0, 1, 6)]) == [2, 0, 1]
    assert list(guarded.shares([{"b.k": k} for k in (0, 1)]).values()) == [0.5, 0.5]
    with pytest.raises(SpaceError, match="ZeroDivisionError"):
        Constraints([lambda p: True, lambda p: 6 / p["b.k"] > 2]).violations([{"b.k": 0}])


def test_a_name_that_is_not_there_is_found_when_the_pipeline_is_made():
    with pytest.raises(SpaceError, match=r"constraints\[1\].*raised KeyError: 'x'"):
        Pipeline.declare(
            {"a": {"x": Float(0.0, 1.0)}}, constraints=[lambda p: False, lambda p: p["x"] < 1]
        )


# --- the space


def test_the_size_counts_what_is_allowed():
    assert Space(INTS).size == 36
    space = Space(INTS, [lambda p: p["a.k"] + p["b.k"] == 5])
    assert space.size == 4
    assert list(space.configurations()) == [{"a.k": k, "b.k": 5 - k} for k in range(1, 5)]
    assert list(space.configurations({"b.k": 2})) == [{"a.k": 3, "b.k": 2}]
    assert Space(INTS, [lambda p: False]).size == 0


def test_the_size_of_a_part_of_very_many_is_not_known():
    many = {"a.k": Int(0, 10**9), "b.k": Int(0, 10**9)}
    assert Space(many).size == (10**9 + 1) ** 2
    assert Space(many, [lambda p: p["a.k"] < 2]).size is None
    assert Space({"a.x": Float(0.0, 1.0)}, [is_small]).size is None


def test_a_configuration_that_violates_a_constraint_is_none_of_the_space():
    space = Space({"a.x": Float(0.0, 1.0)}, [is_small])
    assert space.misfit({"a.x": 0.5}) is None
    assert space.misfit({"a.x": 0.75}).startswith("constraints[0] (is_small")
    with pytest.raises(SpaceError, match=r"\{'a.x': 0.75\} violates constraints\[0\] \(is_small"):
        space.canonical({"a.x": 0.75})


def test_constraints_see_values_as_stored():
    seen = []

    def note(params):
        seen.append(params)
        return True

    space = Space(
        {"a.n": Int(1, 9), "a.step": Float(0.0, 1.0, step=0.1), "a.c": Categorical(["u"])}, [note]
    )
    space.canonical({"a.n": np.float64(3.0), "a.step": 3 * 0.1, "a.c": "u"})
    assert seen[-1] == {"a.n": 3, "a.step": 0.3, "a.c": "u"}
    assert type(seen[-1]["a.n"]) is int
    assert space.allows(np.array([[0.5, 0.5, 0.5]])).tolist() == [True]
    assert seen[-1] == space.decode(np.array([0.5, 0.5, 0.5]))


def test_parts_of_configurations():
    space = Space(INTS, [lambda p: p["a.k"] < p["b.k"]])
    assert space.canonical_part({"b.k": np.int64(1)}) == {
        "b.k": 1
    }  # the other may not be known yet
    with pytest.raises(SpaceError, match=r"unknown: \['c'\]"):
        space.canonical_part({"c": 1})
    with pytest.raises(SpaceError, match="outside"):
        space.canonical_part({"b.k": 9})
    assert space.fitting_part({"c": 1, "a.k": 9, "b.k": 2}) == {"b.k": 2}


def test_a_constraint_on_a_parameter_that_is_not_active_is_told_how_to_ask():
    distributions = {"m": Categorical(["u", "v"]), "u.x": Float(0, 1), "v.x": Float(0, 1)}
    conditions = {"u.x": [("m", ("u",))], "v.x": [("m", ("v",))]}
    with pytest.raises(SpaceError) as caught:
        Space(distributions, [lambda p: p["u.x"] <= 0.5 and p["v.x"] <= 0.5], conditions)
    message = str(caught.value)
    assert "write p.get('u.x', ...)" in message or "write p.get('v.x', ...)" in message
    assert message.count("'u.x'") + message.count("'v.x'") == 3  # the inactive one is not a value
