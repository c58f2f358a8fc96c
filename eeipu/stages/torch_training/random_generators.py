"""What is random in a training, how it is saved and restored, and what cannot be saved.

A training's random generators are those of the process (torch on all devices, NumPy, Python) and
all that it can reach (`object_graph` beside this module), such as those of a data set, a
`collate_fn`, a closure of a transform, a module's globals or a model. All are the training's own:
they are set when it goes on, and put back afterwards, so that another training in the same process
begins as this one did.

What else changes must be in a `state_dict`. Numbers, strings, small arrays and the lengths of
containers are compared: a count that no checkpoint has is refused rather than resumed wrongly.
Not seen are large NumPy arrays that change in place, large containers of the same length,
attributes of objects of torch and Python, and generators in the globals of installed packages.
"""

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from eeipu.errors import ConfigurationError
from eeipu.stages.torch_training.object_graph import GENERATORS, Reached, reached, saves_itself

__all__ = [
    "changed",
    "check_reached",
    "check_same",
    "own_rng",
    "reached_states",
    "restore_reached",
    "restore_rng",
    "rng_state",
    "seed_all",
]

_REMEDY = (
    "no checkpoint would have that, so training could not go on as if never stopped; give its "
    "owner state_dict and load_state_dict (a model: a buffer, or get_extra_state and "
    "set_extra_state), or make it before training and keep it the same."
)


def seed_all(seed: int) -> None:
    """Seed the random generators of the process."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the users' transforms draw from it
    random.seed(seed)


@contextmanager
def own_rng(
    roots: Callable[[], Mapping[str, Any]], state: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """Run with these random generators, and put back those that were outside.

    Args:
        roots: What the training uses, which may change inside the block.
        state: The generators' state, or None where it stays as it is.

    Yields:
        A dict that holds the generators' state when the block has ended.
    """
    outside, inside = rng_state(roots()), dict[str, Any]()
    try:
        if state is not None:
            restore_rng(roots(), state)
        yield inside
        inside.update(rng_state(roots()))
    finally:
        restore_rng(roots(), outside)


def rng_state(roots: Mapping[str, Any]) -> dict[str, Any]:
    """The state of all random generators: the process's, and those that can be reached."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "reached": reached_states(roots),
    }


def restore_rng(roots: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Set all random generators that there are to what `rng_state` has of them."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:  # pragma: no cover - needs a GPU
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    restore_reached(roots, state["reached"])


def reached_states(roots: Mapping[str, Any]) -> dict[str, Any]:
    """The states of what can be reached, by where it is.

    Those of random generators, and of samplers, data sets and others that have a `state_dict`. A
    loader is not among them, as its state in mid-epoch holds for the next epoch.
    """
    return {place: _state_of(part) for place, part in _restorable(roots)}


def restore_reached(roots: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Set what can be reached to these states, as far as it is among them."""
    for place, part in _restorable(roots):
        if place in states:
            _set_state_of(part, states[place])


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The places whose value is another than before, or new."""
    return [place for place in after if place not in before or before[place] != after[place]]


def check_reached(roots: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse a state of which a part would not be restored.

    Raises:
        ConfigurationError: It has a place that there is not.
    """
    missing = state["reached"].keys() - reached_states(roots).keys()
    if missing:
        raise ConfigurationError(
            f"the checkpoint has the state of {min(missing)!r}, which is not there now; make the "
            f"same model, optimiser and loaders wherever the training goes on."
        )


def check_same(changes: list[str]) -> None:
    """Refuse a training that has changed what no checkpoint has.

    Raises:
        ConfigurationError: It has; the message names the first place.
    """
    if changes:
        raise ConfigurationError(f"training changes {changes[0]!r}, and {_REMEDY}")


def _restorable(roots: Mapping[str, Any]) -> list[tuple[str, Any]]:
    # A list, as restoring one may change what is reached next.
    loader = roots.get("loader")
    return [
        (each.place, each.part)
        for each in reached(roots)
        if each.part is not loader and (_is_generator(each.part) or _is_saved_here(each, roots))
    ]


def _is_generator(part: Any) -> bool:
    return (
        isinstance(part, GENERATORS)
        and not isinstance(part, random.SystemRandom)
        and not _is_of_process(part)
    )


def _is_saved_here(each: Reached, roots: Mapping[str, Any]) -> bool:
    """Whether a part says what its state is, and the model's `state_dict` does not have it."""
    if isinstance(each.part, Optimizer):
        return each.part is not roots.get("optimizer")  # but one that it wraps
    is_of_model = each.place.partition(".")[0] == "model"
    return saves_itself(each.part) and not (is_of_model and isinstance(each.part, nn.Module))


def _is_of_process(generator: Any) -> bool:
    """Whether it is one of the generators behind `torch.rand`, `np.random` and `random`."""
    shared = (
        torch.default_generator,
        *torch.cuda.default_generators,
        np.random.mtrand._rand,
        random._inst,
    )
    return any(generator is each for each in shared)


def _state_of(part: Any) -> Any:
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, random.Random):
        return part.getstate()
    if isinstance(part, torch.Generator | np.random.RandomState):
        return part.get_state()
    return copy.deepcopy(part.state_dict())


def _set_state_of(part: Any, state: Any) -> None:
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    elif isinstance(part, random.Random):
        part.setstate(state)
    elif isinstance(part, torch.Generator | np.random.RandomState):
        part.set_state(state)
    else:
        part.load_state_dict(copy.deepcopy(state))
