"""A training by hand: a number that walks by random steps, from a generator in its state."""

import numpy as np


def init(data):
    return {"w": data, "rng": np.random.default_rng(0)}


def advance(state, start, stop, hyper):
    for step in range(start, stop):
        state["w"] += hyper["lr"](step) * state["rng"].random()
    return state


def value(state):
    return state["w"]
