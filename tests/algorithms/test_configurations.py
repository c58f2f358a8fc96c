"""Random configurations and grids."""

from itertools import islice

import pytest

from eeipu import Categorical, Float
from eeipu.algorithms.configurations import grid, random
from eeipu.errors import SpaceError


def test_a_grid_is_every_configuration_once():
    space = {"lr": Categorical([0.1, 0.2]), "decay": Categorical(["a", "b"])}
    assert len({tuple(config.items()) for config in grid(space)}) == 4


def test_a_grid_of_a_continuous_space_is_refused():
    with pytest.raises(SpaceError, match="finitely many values"):
        grid({"lr": Float(0.0, 1.0)})


def test_random_configurations_repeat_with_their_seed():
    space = {"lr": Float(0.0, 1.0)}
    one, same, other = (random(space, seed) for seed in (1, 1, 2))
    assert [next(one), next(one)] == [next(same), next(same)] != [next(other), next(other)]


def test_configurations_keep_constraints():
    space = {"a": range(5), "kind": ["u", "v"]}
    constraints = [lambda p: p["a"] % 2 == 0, lambda p: p["kind"] == "u" or p["a"] > 2]

    every = list(grid(space, constraints))
    assert every == [
        {"a": 0, "kind": "u"},
        {"a": 2, "kind": "u"},
        *({"a": 4, "kind": k} for k in "uv"),
    ]
    drawn = list(islice(random(space, 0, constraints), 30))
    assert {tuple(each.values()) for each in drawn} == {tuple(each.values()) for each in every}
    with pytest.raises(SpaceError, match="all 10 combinations"):
        next(random(space, 0, [lambda p: p["a"] > 9]))
