"""The random generators of a training: saving them, restoring them, refusing what is not saved.

A training's random generators are those of the process (torch on all devices, NumPy, Python) and
those that it can reach (`object_graph` beside this module), such as the generators of a data set, a
`collate_fn`, a closure of a transform, a module's globals or a model. All belong to the training:
they are set when it continues and restored afterwards, so that another training in the same process
begins as this one did.

All other state that changes must be in a `state_dict`. To check this, numbers, strings, small
arrays and the lengths of containers are compared, and a change that no checkpoint has is refused
rather than resumed wrongly. Not seen are large NumPy arrays that change in place, large containers
that keep their length, attributes of objects of torch and Python, and generators in the globals of
installed packages.
"""

import copy
import hashlib
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from eeipu.errors import TrainingError
from eeipu.stages.torch_training.object_graph import (
    GENERATORS,
    ReachedObject,
    reached_objects,
    saves_itself,
)

__all__ = [
    "changes_between",
    "check_restorable",
    "check_unchanged",
    "derived_rng",
    "is_same_rng",
    "own_rng",
    "process_rng",
    "restorable_states",
    "restore_process_rng",
    "restore_rng",
    "restore_states",
    "rng_state",
    "seed_all",
]

_REMEDY = (
    "no checkpoint would have that, so training could not be resumed as if it had never stopped; "
    "give the object that holds it state_dict and load_state_dict (in a model: make it a "
    "submodule or a persistent buffer, or write get_extra_state and set_extra_state), or, where "
    "it always becomes the same, set it to that before training, such as in make_model."
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
    """Run a block with the training's random generators, and restore the others afterwards.

    Args:
        roots: Gives the objects that the training uses, which may change inside the block.
        state: The states to begin with, from `rng_state`; `None` to leave the generators as they
            are.

    Yields:
        A dict that holds the states of the training's generators once the block has ended.
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
    """The states of all random generators: those of the process, and those that can be reached."""
    return {
        **process_rng(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "reached": restorable_states(roots),
    }


def restore_rng(roots: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Set the random generators that can be reached now to their states from `rng_state`."""
    restore_process_rng(state)
    if state["cuda"]:  # pragma: no cover - needs a GPU
        torch.cuda.set_rng_state_all(state["cuda"])
    restore_states(roots, state["reached"])


def process_rng() -> dict[str, Any]:
    """The states of the generators behind `torch.rand` on the CPU, `np.random` and `random`."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }


def restore_process_rng(state: Mapping[str, Any]) -> None:
    """Set these generators to their states from `process_rng`."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


def derived_rng(number: int) -> dict[str, Any]:
    """States for these generators that follow from their states now and a number.

    The generators themselves stay as they are.
    """
    here = process_rng()
    seed_all(int.from_bytes(_digest_of(here, number)[:8]))
    derived = process_rng()
    restore_process_rng(here)
    return derived


def is_same_rng(state: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states from `process_rng` are the same."""
    return _digest_of(state, 0) == _digest_of(other, 0)


def _digest_of(state: Mapping[str, Any], number: int) -> bytes:
    name, keys, *rest = state["numpy"]
    words = (state["torch"].numpy().tobytes(), name, keys.tobytes(), *rest, state["python"], number)
    return hashlib.sha256(pickle.dumps(words, protocol=5)).digest()


def restorable_states(roots: Mapping[str, Any]) -> dict[str, Any]:
    """The states of the reachable objects that can be restored, by their paths.

    These are random generators, and samplers, data sets and other objects with a `state_dict`. A
    loader is not among them, because the state that it has in mid-epoch is for the next epoch.
    """
    return {path: _state_of(value) for path, value in _restorable(roots)}


def restore_states(roots: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Restore the reachable objects whose paths are in `states`."""
    for path, value in _restorable(roots):
        if path in states:
            _set_state_of(value, states[path])


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """The paths whose value in `after` is new or another than in `before`, and how, in words."""
    changed = [path for path in after if path not in before or before[path] != after[path]]
    return {path: _change(before.get(path), after[path]) for path in changed}


def _change(before: Any, after: Any) -> str:
    """How a comparable value has changed, where it is text, and short."""
    texts = [each for each in (before, after) if isinstance(each, str) and len(each) <= 40]
    return f" from {texts[0]} to {texts[1]}" if len(texts) == 2 else ""


def check_restorable(roots: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse a saved state that has the state of an object that does not exist now.

    Raises:
        TrainingError: It has one.
    """
    missing = state["reached"].keys() - restorable_states(roots).keys()
    if missing:
        raise TrainingError(
            f"the checkpoint has the state of {min(missing)!r}, which is not there now; make the "
            f"same model, optimiser and loaders wherever the training is resumed."
        )


def check_unchanged(changes: Mapping[str, str]) -> None:
    """Refuse a training that has changed values that no checkpoint has.

    Args:
        changes: The paths of the values that have changed, and how.

    Raises:
        TrainingError: There are any. The message names the first.
    """
    if changes:
        path, change = next(iter(changes.items()))
        raise TrainingError(f"training changes {path!r}{change}, and {_REMEDY}")


def _restorable(roots: Mapping[str, Any]) -> list[tuple[str, Any]]:
    # A list, because restoring one object may change what is reached next.
    loader = roots.get("loader")
    return [
        (each.path, each.value)
        for each in reached_objects(roots)
        if each.value is not loader and (_is_generator(each.value) or _is_saved_here(each, roots))
    ]


def _is_generator(value: Any) -> bool:
    return (
        isinstance(value, GENERATORS)
        and not isinstance(value, random.SystemRandom)
        and not _is_of_process(value)
    )


def _is_saved_here(each: ReachedObject, roots: Mapping[str, Any]) -> bool:
    """Whether an object has a `state_dict` of its own that is not part of the model's."""
    if isinstance(each.value, Optimizer):
        return each.value is not roots.get("optimizer")  # but one that it wraps is saved here
    is_of_model = each.path.partition(".")[0] == "model"
    return saves_itself(each.value) and not (is_of_model and isinstance(each.value, nn.Module))


def _is_of_process(generator: Any) -> bool:
    """Whether a generator is one of those behind `torch.rand`, `np.random` and `random`."""
    shared = (
        torch.default_generator,
        *torch.cuda.default_generators,
        np.random.mtrand._rand,
        random._inst,
    )
    return any(generator is each for each in shared)


def _state_of(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, torch.Generator | np.random.RandomState):
        return value.get_state()
    return copy.deepcopy(value.state_dict())


def _set_state_of(value: Any, state: Any) -> None:
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = state
    elif isinstance(value, random.Random):
        value.setstate(state)
    elif isinstance(value, torch.Generator | np.random.RandomState):
        value.set_state(state)
    else:
        value.load_state_dict(copy.deepcopy(state))
