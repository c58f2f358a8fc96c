"""The objects that a training can reach, directly or through the user's functions and classes.

Followed are attributes, containers, closures, defaults, partials and bound methods, the classes of
objects, and the globals that the user's own code names. Not followed are the contents of large
containers, the code of installed packages, and variables of functions that are running.
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

from eeipu.fingerprints.first_party import FirstParty

__all__ = [
    "GENERATORS",
    "PLAIN",
    "ReachedObject",
    "comparable_values",
    "numbers_of_module",
    "reached_objects",
    "saves_itself",
]

# Containers up to this length are followed: they may hold objects with random generators, such as
# transforms. Longer ones, such as lists of samples, are compared by their length alone.
MOST_ELEMENTS = 100

# Arrays up to this size are compared number by number, which takes well below a millisecond. Larger
# ones are data rather than counters, and only count as changed if they were replaced.
MOST_NUMBERS = 1000

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)
_CLOSED = (*PLAIN, *GENERATORS, ModuleType, Tensor, np.ndarray)
_CONTAINERS = (dict, list, tuple, deque)
_INHERITING = (*_CONTAINERS, functools.partial, SimpleNamespace)

# Attributes in which wrappers keep the function or object that they wrap.
_WRAPPERS = ("__self__", "__func__", "func", "args", "keywords", "fget", "__wrapped__")

# Attributes that change while training, but need no checkpoint or are in one already.
_OF_TORCH = ((nn.Module, {"training"}), (Optimizer, {"state", "param_groups"}))

# Packages whose objects have no attributes that matter when training is resumed.
_LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy", "eeipu"} - {"__main__"}


@dataclass(frozen=True)
class ReachedObject:
    """An object that training can reach.

    Attributes:
        path: How it is reached, such as `loader.dataset.rng`.
        value: The object itself.
        is_state: Whether a change of it would change the state of the training. This is so if the
            object that holds it is not torch's, and has no `state_dict` to save it; and for the
            tensors of torch's modules, and numbers such as the `p` of a dropout.
        holder: The object that holds it; `None`: the training starts from it.
    """

    path: str
    value: Any
    is_state: bool
    holder: Any = None


def reached_objects(roots: Mapping[str, Any]) -> Iterator[ReachedObject]:
    """All objects that can be reached, each once, always in the same order.

    Args:
        roots: Name -> object to start from.
    """
    # The objects themselves are kept, so that none is freed and its id given to another.
    seen: dict[int, Any] = {}
    waiting = [ReachedObject(name, value, False) for name, value in reversed([*roots.items()])]
    while waiting:
        here = waiting.pop()
        if not isinstance(here.value, PLAIN):
            if id(here.value) in seen:
                continue
            seen[id(here.value)] = here.value
        yield here
        is_state = _has_state(here)
        members = [
            ReachedObject(
                f"{here.path}.{name}",
                value,
                is_state or _is_module_state(here.value, name, value),
                here.value,
            )
            for name, value in _members(here.value)
        ]
        waiting.extend(reversed(members))


def comparable_values(roots: Mapping[str, Any], saved: Mapping[int, Any]) -> dict[str, Any]:
    """Values that show a change of state when they are compared with those of a later call.

    Args:
        roots: Name -> object to start from.
        saved: The tensors and modules that a checkpoint has, by their ids. The tensors are left
            out, and so are the `numbers_of_module` of the modules.

    Returns:
        Path -> number or string, contents of a small array, or length of a container.
    """
    values = {
        each.path: _comparable(each.value)
        for each in reached_objects(roots)
        if (each.is_state or isinstance(each.value, GENERATORS))
        and id(each.value) not in saved
        and not (id(each.holder) in saved and _is_number_of(each.holder, each.value))
    }
    return {path: value for path, value in values.items() if value is not _NOTHING}


def numbers_of_module(module: nn.Module) -> dict[str, float]:
    """The numbers with a point that one of torch's own modules has, such as a dropout's `p`."""
    return {name: value for name, value in vars(module).items() if _is_number_of(module, value)}


def _is_number_of(module: Any, value: Any) -> bool:
    is_module = isinstance(module, nn.Module) and _is_of_library(type(module))
    return is_module and isinstance(value, float)


def saves_itself(value: Any) -> bool:
    """Whether an object has a `state_dict` that somebody other than torch wrote."""
    if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
        return False
    if isinstance(value, nn.Module | Optimizer):
        names = ("state_dict", "get_extra_state")
        methods = [getattr(type(value), name, None) for name in names]
        return any(not _is_of_library(each) for each in methods if each is not None)
    return not isinstance(value, type)


_NOTHING = object()


def _has_state(here: ReachedObject) -> bool:
    """Whether the members of an object are state of the training."""
    value = here.value
    if isinstance(value, _INHERITING) and _is_of_library(type(value)):
        return here.is_state
    if isinstance(value, type | FunctionType):
        return _is_own(value)
    return not _is_of_library(type(value)) and not saves_itself(value)


def _is_module_state(owner: Any, name: str, value: Any) -> bool:
    """Whether a member of one of torch's modules is state of the training.

    Counted are its tensors, which a checkpoint has only where it is part of the model, and numbers
    with a point, such as a dropout's `p`. Whole numbers are sizes, which lazy modules set late.
    """
    is_tensors = name in ("_parameters", "_buffers")
    return isinstance(owner, nn.Module) and (is_tensors or isinstance(value, float))


def _is_own(code: Any) -> bool:
    name = code.__name__ if isinstance(code, ModuleType) else getattr(code, "__module__", None)
    return not isinstance(name, str) or _is_own_module(name)


@functools.lru_cache(maxsize=10_000)  # files are looked at, which takes longer than all the rest
def _is_own_module(name: str) -> bool:
    return FirstParty().owns(ModuleType(name))


def _is_of_library(code: Any) -> bool:
    return str(getattr(code, "__module__", "")).partition(".")[0] in _LIBRARIES


def _members(owner: Any) -> Iterator[tuple[str, Any]]:
    """The objects that another one holds, by name."""
    if isinstance(owner, _CLOSED):
        return
    if isinstance(owner, FunctionType):
        yield from _members_of_function(owner) if _is_own(owner) else ()
    elif isinstance(owner, type):
        yield from _members_of_class(owner) if _is_own(owner) else ()
    else:
        yield from _elements(owner)
        yield from _attributes(owner)
        yield "class", type(owner)
    for name in _WRAPPERS:
        # From the type, as an object may answer to any name.
        if hasattr(type(owner), name) or name in getattr(owner, "__dict__", {}):
            yield name, getattr(owner, name, None)


def _elements(owner: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(owner, _CONTAINERS) or len(owner) > MOST_ELEMENTS:
        return
    pairs = list(owner.items() if isinstance(owner, dict) else enumerate(owner))
    for number, (key, value) in enumerate(pairs):
        yield str(key if isinstance(key, str | int) else number), value


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, also those in slots, without cached ones and torch's own."""
    if str(type(owner).__module__).partition(".")[0] in sys.stdlib_module_names - {"__main__"} and (
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


def _members_of_class(owner: type) -> Iterator[tuple[str, Any]]:
    yield from vars(owner).items()
    for number, base in enumerate(owner.__bases__):
        yield f"base{number}", base


def _members_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    # A cell is empty where its variable has no value yet.
    yield from ((name, cell.cell_contents) for name, cell in cells if cell != CellType())
    yield "defaults", function.__defaults__
    yield "kwdefaults", function.__kwdefaults__
    yield from vars(function).items()
    yield from _named_globals(function)


def _named_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals that a function names, including those in the user's modules that it names."""
    names = list(dict.fromkeys(_names(function.__code__)))
    seen = {id(function.__globals__)}
    waiting: deque[tuple[str, dict[str, Any]]] = deque([("", function.__globals__)])
    while waiting:
        prefix, scope = waiting.popleft()
        for name in names:
            value = scope.get(name)
            if not isinstance(value, ModuleType):
                yield from [(prefix + name, value)] if name in scope else ()
            elif _is_own(value) and id(vars(value)) not in seen:
                seen.add(id(vars(value)))
                waiting.append((f"{prefix}{name}.", vars(value)))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _comparable(value: Any) -> Any:
    """A value that differs once the object itself has changed; `_NOTHING` where none is known."""
    if isinstance(value, GENERATORS):
        return "a generator"  # its state is saved, provided that it exists from the beginning
    if isinstance(value, PLAIN):
        return repr(value)  # not the value: NaN would differ from NaN
    if isinstance(value, Tensor | np.ndarray):
        return _comparable_array(value)
    if isinstance(value, (*_CONTAINERS, set, bytearray)):
        return len(value)
    if isinstance(value, Iterator) and not hasattr(value, "fileno"):
        return object()  # equals nothing, as the position of an iterator cannot be seen
    return _NOTHING


@dataclass(frozen=True, eq=False)
class _LargeArray:
    """A large array, equal only to itself. It is kept, so that its id is not given to another.

    Attributes:
        array: The array.
        version: torch's count of changes in place; 0 where there is none.
    """

    array: Any
    version: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _LargeArray):
            return False
        return self.array is other.array and self.version == other.version

    __hash__ = None  # type: ignore[assignment]


def _comparable_array(array: Any) -> Any:
    is_tensor = isinstance(array, Tensor)
    if is_tensor and nn.parameter.is_lazy(array):
        return "a tensor to come"
    is_readable = not (array.is_meta or array.layout != torch.strided) if is_tensor else True
    size = array.numel() if is_tensor else array.size
    if is_readable and size <= MOST_NUMBERS:
        return repr((array.detach() if is_tensor else array).tolist())
    version = array._version if is_tensor and not array.is_inference() else 0
    return _LargeArray(array, version)
