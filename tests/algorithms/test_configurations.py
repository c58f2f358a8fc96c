"""Random configurations and grids."""

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
