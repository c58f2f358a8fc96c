"""What a training can reach: its objects, and what the user's functions and classes name.

Followed are attributes, containers, closures, defaults, partials and bound methods, the classes of
objects, and the globals that the user's own code names. Not followed are the contents of large
containers, the code of installed packages, and what only the frame of a running function holds.
"""

import functools
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eeipu.fingerprints.sources import Home

__all__ = ["GENERATORS", "Reached", "plain_values", "reached", "saves_itself"]

# Parts of a container that may be random generators or have them, such as transforms; lists of
# samples are longer, and of those only the length is looked at.
MOST_PARTS = 100

# Numbers of an array that are compared one by one, which takes well below a millisecond; larger
# arrays are data rather than counts, and are compared by whether they were replaced.
MOST_NUMBERS = 1000

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)
_CLOSED = (*_PLAIN, *GENERATORS, ModuleType, Tensor, np.ndarray)
_CONTAINERS = (dict, list, tuple, deque)
_INHERITING = (*_CONTAINERS, functools.partial, SimpleNamespace)

# What wraps a function or an object, by the attribute that has it.
_WRAPPERS = ("__self__", "__func__", "func", "args", "keywords", "fget", "__wrapped__")

# Attributes of these change while training, and are in no checkpoint or in one already.
_OF_TORCH = ((nn.Module, {"training"}), (Optimizer, {"state", "param_groups"}))

# Their attributes are known not to matter when training goes on.
_LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy", "eeipu"} - {"__main__"}


@dataclass(frozen=True)
class Reached:
    """A part of what training uses.

    Attributes:
        place: Where it is, such as `loader.dataset.rng`.
        part: The part itself.
        is_state: Whether a change of it would be a state of the training, as it belongs to
            somebody who neither is of torch nor says what his state is.
    """

    place: str
    part: Any
    is_state: bool


def reached(roots: Mapping[str, Any]) -> Iterator[Reached]:
    """All that can be reached from here, each object once, in an order that is always the same."""
    # The objects themselves are kept, so that none is freed and lends its id to another.
    seen: dict[int, Any] = {}
    waiting = [Reached(place, part, False) for place, part in reversed([*roots.items()])]
    while waiting:
        here = waiting.pop()
        if not isinstance(here.part, _PLAIN):
            if id(here.part) in seen:
                continue
            seen[id(here.part)] = here.part
        yield here
        is_state = _has_state(here)
        parts = [
            Reached(f"{here.place}.{name}", part, is_state) for name, part in _parts(here.part)
        ]
        waiting.extend(reversed(parts))


def plain_values(roots: Mapping[str, Any], saved: Mapping[int, Any]) -> dict[str, Any]:
    """What to compare, so that a change of state that no checkpoint has is seen.

    Args:
        roots: Where to look.
        saved: Tensors by their id that a checkpoint has.

    Returns:
        Place -> number or string, contents of a small array, or length of a container.
    """
    values = {
        each.place: _value(each.part)
        for each in reached(roots)
        if (each.is_state or isinstance(each.part, GENERATORS)) and id(each.part) not in saved
    }
    return {place: value for place, value in values.items() if value is not _NOTHING}


def saves_itself(part: Any) -> bool:
    """Whether a part says itself what its state is, rather than torch for it."""
    if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
        return False
    if isinstance(part, nn.Module | Optimizer):
        names = ("state_dict", "get_extra_state")
        methods = [getattr(type(part), name, None) for name in names]
        return any(not _is_of_library(each) for each in methods if each is not None)
    return not isinstance(part, type)


_NOTHING = object()


def _has_state(here: Reached) -> bool:
    part = here.part
    if isinstance(part, _INHERITING) and _is_of_library(type(part)):
        return here.is_state
    if isinstance(part, type | FunctionType):
        return _is_own(part)
    return not _is_of_library(type(part)) and not saves_itself(part)


def _is_own(part: Any) -> bool:
    name = part.__name__ if isinstance(part, ModuleType) else getattr(part, "__module__", None)
    return not isinstance(name, str) or _is_own_module(name)


@functools.lru_cache(maxsize=10_000)
def _is_own_module(name: str) -> bool:
    return Home().owns(ModuleType(name))  # looks at files, which takes most of a walk


def _is_of_library(part: Any) -> bool:
    return str(getattr(part, "__module__", "")).partition(".")[0] in _LIBRARIES


def _parts(owner: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, _CLOSED):
        return
    if isinstance(owner, FunctionType):
        yield from _parts_of_function(owner) if _is_own(owner) else ()
    elif isinstance(owner, type):
        yield from _parts_of_class(owner) if _is_own(owner) else ()
    else:
        yield from _parts_of_container(owner)
        yield from _attributes(owner)
        yield "class", type(owner)
    for name in _WRAPPERS:
        # From the type, as an object may answer to any name.
        if hasattr(type(owner), name) or name in getattr(owner, "__dict__", {}):
            yield name, getattr(owner, name, None)


def _parts_of_container(owner: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(owner, _CONTAINERS) or len(owner) > MOST_PARTS:
        return
    pairs = list(owner.items() if isinstance(owner, dict) else enumerate(owner))
    for number, (key, part) in enumerate(pairs):
        yield str(key if isinstance(key, str | int) else number), part


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, also in slots, but those that are cached or torch's own."""
    if type(owner).__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"} and (
        not isinstance(owner, SimpleNamespace)
    ):
        return
    skipped = {name for kind, names in _OF_TORCH if isinstance(owner, kind) for name in names}
    slots = [name for kind in type(owner).__mro__ for name in _slots(kind) if hasattr(owner, name)]
    names = [*slots, *getattr(owner, "__dict__", {})]
    for name in names:
        is_cached = isinstance(getattr(type(owner), name, None), functools.cached_property)
        if name not in skipped and not is_cached:
            yield name, getattr(owner, name) if name in slots else vars(owner)[name]


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ()) if _is_own(kind) else ()
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _parts_of_class(owner: type) -> Iterator[tuple[str, Any]]:
    yield from vars(owner).items()
    for number, base in enumerate(owner.__bases__):
        yield f"base{number}", base


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    # A cell is empty where its variable has no value yet.
    yield from ((name, cell.cell_contents) for name, cell in cells if cell != CellType())
    yield "defaults", function.__defaults__
    yield "kwdefaults", function.__kwdefaults__
    yield from vars(function).items()
    yield from _named_globals(function)


def _named_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals that a function names, also those of the user's modules."""
    names = list(dict.fromkeys(_names(function.__code__)))
    scopes: list[tuple[str, dict[str, Any]]] = [("", function.__globals__)]
    for prefix, scope in scopes:
        for name in names:
            part = scope.get(name)
            if not isinstance(part, ModuleType):
                yield from [(prefix + name, part)] if name in scope else ()
            elif _is_own(part) and all(vars(part) is not known for _, known in scopes):
                scopes.append((f"{prefix}{name}.", vars(part)))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _value(part: Any) -> Any:
    """What shows a change of a part by itself, or `_NOTHING`."""
    if isinstance(part, GENERATORS):
        return "a generator"  # whose state is saved, but only where it is there from the beginning
    if isinstance(part, _PLAIN):
        return repr(part)  # not itself: NaN would differ from NaN
    if isinstance(part, Tensor | np.ndarray):
        return _value_of_array(part)
    if isinstance(part, (*_CONTAINERS, set, bytearray)):
        return len(part)
    if isinstance(part, Iterator) and not hasattr(part, "fileno"):
        return object()  # its position is a state that cannot be seen, so it equals nothing
    return _NOTHING


@dataclass(frozen=True, eq=False)
class _Whole:
    """A large array, which is kept: the id of one that was freed may be another's soon."""

    array: Any
    version: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Whole):
            return False
        return self.array is other.array and self.version == other.version

    __hash__ = None  # type: ignore[assignment]


def _value_of_array(part: Any) -> Any:
    is_tensor = isinstance(part, Tensor)
    is_open = not (part.is_meta or part.layout != torch.strided) if is_tensor else True
    size = part.numel() if is_tensor else part.size
    if is_open and size <= MOST_NUMBERS:
        return repr((part.detach() if is_tensor else part).tolist())
    version = part._version if is_tensor and not part.is_inference() else 0
    return _Whole(part, version)
