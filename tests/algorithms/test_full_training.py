"""Searches that train every configuration to the end."""

from playing import play

from eeipu import Categorical
from eeipu.algorithms.full_training import FullTraining


def test_full_training_trains_everything_to_the_end():
    space = {"x": Categorical([1, 2, 3])}
    assert play(FullTraining.grid(space, 9)) == {0: [9], 1: [9], 2: [9]}
    assert play(FullTraining.random(space, 4, 9, seed=0)) == {k: [9] for k in range(4)}
