"""What values count by: code by its source, what is installed by its name, the rest by content."""

import functools
import io
import os
import random
import sys
import types
from dataclasses import dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from eeipu.fingerprints.class_members import CACHED
from eeipu.fingerprints.sources import Home
from eeipu.fingerprints.values import digest

__all__ = [
    "BUILTIN_LOOKUPS",
    "MISSING",
    "Foreign",
    "finds_code",
    "is_followed",
    "is_lookup",
    "is_mutable",
    "is_value",
    "name_of",
]

MISSING = object()

_ATOMS = (type(None), bool, int, float, complex, str, bytes)

# What leads to code by a name that only running shows.
BUILTIN_LOOKUPS = {each.__name__: each for each in (eval, exec, globals, __import__)}
_LOOKUPS = {
    *(f"builtins.{name}" for name in BUILTIN_LOOKUPS),
    *("importlib.import_module", "importlib.__import__", "importlib.reload", "sys.modules"),
    *("importlib.util.module_from_spec", "importlib.util.spec_from_file_location"),
    *("_frozen_importlib.module_from_spec", "importlib._bootstrap.__import__"),
    "_frozen_importlib_external.spec_from_file_location",
    *("pkgutil.resolve_name", "pydoc.locate", "runpy.run_module", "runpy.run_path"),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_class"),
    *("hydra.utils.get_method", "hydra.utils.get_object"),
    *("hydra._internal.instantiate._instantiate2.instantiate", "hydra._internal.utils._locate"),
}
_LOOKUP_ATTRIBUTES = {"__globals__", "__subclasses__"}

# `from random import shuffle` takes a method of an object, whose state is the process's.
_SHARED_METHODS: tuple[Any, ...] = (random.random, np.random.rand)
_SHARED_GENERATORS = [method.__self__ for method in _SHARED_METHODS]

_dispatcher: Any = functools.singledispatch(repr)  # of which every one has the same code
_DISPATCHER = _dispatcher.__code__

# What holds no input of a computation, as far as it is a library's.
_BY_TYPE = {
    *("_thread.lock", "_thread.RLock", "_thread._local", "threading.Barrier", "threading.Event"),
    *("threading.Condition", "threading.Semaphore", "multiprocessing.synchronize.Condition"),
    *("multiprocessing.synchronize.Event", "multiprocessing.synchronize.SemLock"),
    *("multiprocessing.pool.Pool", "concurrent.futures._base.Executor", "rich.console.Console"),
}


@dataclass(frozen=True)
class Foreign:
    """What an import inside of code takes from an installed module, which may not be loaded."""

    module: str
    attribute: str | None

    @property
    def name(self) -> str:
        """The dotted name of it."""
        return self.module if self.attribute is None else f"{self.module}.{self.attribute}"

    def path(self, chain: tuple[str, ...]) -> str:
        """The dotted name of what code takes out of it."""
        return ".".join((self.name, *chain[1:]))

    def value(self) -> Any:
        """It, if it is loaded; else this."""
        module = sys.modules.get(self.module)
        if module is None or self.attribute is None:
            return self if module is None else module
        return vars(module).get(self.attribute, self)


def is_followed(value: Any, home: Home) -> bool:
    """Whether a value is code whose source counts."""
    if isinstance(value, FunctionType):
        # Lambdas and functions inside functions have no name that could stand for them.
        return home.owns(value) or "<" in value.__qualname__
    # Before Python 3.12, `make_dataclass` says that its classes are from `types`.
    return isinstance(value, type) and (
        home.owns(value) or (value.__module__ == "types" and not hasattr(types, value.__name__))
    )


def is_value(value: Any, home: Home) -> bool:
    """Whether something that can be called counts by its content, and not by its source."""
    if isinstance(value, FunctionType):
        return _is_dispatcher(value)
    is_code = isinstance(value, type | ModuleType | MethodType)
    return not is_code and name_of(value, home, [], set()) is None


def is_mutable(value: Any) -> bool:
    """Whether a value may change while it stays the same object; parts do that by themselves."""
    if isinstance(value, tuple):
        return any(map(is_mutable, value))
    if isinstance(value, FunctionType):
        return _is_dispatcher(value)
    if isinstance(value, BuiltinFunctionType):
        return not isinstance(value.__self__, ModuleType)
    return type(value) not in _ATOMS and not isinstance(value, type | ModuleType | CACHED)


def finds_code(value: Any) -> bool:
    """Whether a value leads to code by a string."""
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    return value is sys.modules or name in _LOOKUPS


def is_lookup(chain: tuple[str, ...], shown: str, value: Any) -> bool:
    """Whether what code uses leads to other code by a string.

    Args:
        chain: The name, as it is written.
        shown: As much of it as leads to the value.
        value: What that is.
    """
    written = ".".join(chain)
    return (
        finds_code(value)
        or not _LOOKUP_ATTRIBUTES.isdisjoint(chain)
        or (value is sys and shown == written)
        or (isinstance(value, Foreign) and value.path(chain) in _LOOKUPS)
    )


def name_of(value: Any, home: Home, uses: list[Any], packages: set[str]) -> tuple[str] | None:
    """What stands for a value that does not count by its content; `None` for others.

    Args:
        value: The value.
        home: Whose code is whose.
        uses: The parts that have been found, to which this adds.
        packages: The installed packages that have been found, to which this adds.
    """
    if type(value) in _ATOMS:
        return None
    value = _unwrapped(value)
    if _is_dispatcher(value):
        inner = partial(name_of, home=home, uses=uses, packages=packages)
        return (f"dispatch {digest(dict(value.registry), inner)}",)
    if is_followed(value, home) or (isinstance(value, ModuleType) and home.owns(value)):
        return (_place(value, uses),)
    _record_package(value, home, packages)
    if isinstance(value, ModuleType):
        return (value.__name__,)
    if value is os.environ:
        return ("os.environ",)
    if _is_stream(value):
        return ("a stream",)
    kind: Any = type(value)
    if _counts_by_type(kind):
        named = name_of(kind, home, uses, packages)
        return None if named is None else (f"a {named[0]}",)
    return _name_of_installed(value)


def _name_of_installed(value: Any) -> tuple[str] | None:
    """The name of a function or class of an installed package, or of Python's."""
    owner = getattr(value, "__self__", None)
    if isinstance(value, type | FunctionType) or (
        isinstance(value, BuiltinFunctionType) and isinstance(owner, type | ModuleType | None)
    ):
        return (f"{value.__module__}.{value.__qualname__}",)
    if any(owner is each for each in _SHARED_GENERATORS):
        return (f"{type(owner).__module__}.{value.__name__}",)
    return None


def _place(part: Any, uses: list[Any]) -> str:
    """The place of a part among those that have been found."""
    for place, each in enumerate(uses):
        if each is part:
            return f"#{place}"
    uses.append(part)
    return f"#{len(uses) - 1}"


def _record_package(value: Any, home: Home, packages: set[str]) -> None:
    is_named = isinstance(value, ModuleType | type | FunctionType | BuiltinFunctionType)
    named = value if is_named else type(value)
    module = named.__name__ if isinstance(named, ModuleType) else named.__module__
    if module is not None and not home.owns(named):
        packages.add(module.partition(".")[0])


def _unwrapped(value: Any) -> Any:
    """The function inside functools' caches and eeipu's stages, which do not change its results.

    Other callable objects may: theirs are a state and a class that count.
    """
    while isinstance(value, CACHED) or type(value).__module__ == "eeipu.stages.declaration":
        if not hasattr(value, "__wrapped__"):
            break  # a stage without a function
        value = value.__wrapped__
    return value


def _is_dispatcher(value: Any) -> bool:
    """Whether a function is one of `functools.singledispatch`: it counts by what it leads to."""
    return isinstance(value, FunctionType) and value.__code__ is _DISPATCHER


def _is_stream(value: Any) -> bool:
    """Whether a value only takes output."""
    if any(value is each for each in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
        return value is not None
    return isinstance(value, io.IOBase) and not value.closed and not value.readable()


@functools.lru_cache(maxsize=1024)  # a program's types, asked for with each value
def _counts_by_type(kind: Any) -> bool:
    return any(f"{each.__module__}.{each.__qualname__}" in _BY_TYPE for each in kind.__mro__)
