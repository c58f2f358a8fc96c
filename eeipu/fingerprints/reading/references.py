"""How a value enters a fingerprint.

User code enters by its source, installed code by its name, and everything else by its content.
"""

import functools
import io
import os
import sys
import types
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from eeipu.fingerprints.contents.shared import is_shared_generator
from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.reading.class_members import CACHED
from eeipu.fingerprints.reading.library_objects import compiled_module, content_of, is_proxy
from eeipu.fingerprints.reading.places import place_of, written_place
from eeipu.fingerprints.values import digest

__all__ = [
    "BUILTIN_LOOKUPS",
    "LOOKUPS",
    "LOOKUP_ATTRIBUTES",
    "MISSING",
    "LibraryName",
    "finds_code",
    "is_followed",
    "is_mutable",
    "is_value",
    "text_for",
    "unwrapped",
]

MISSING = object()
"""Stands for the value of a name that has none."""

_ATOMS = (type(None), bool, int, float, complex, str, bytes)

# What finds code by a string, whose value only shows when the code runs.
BUILTIN_LOOKUPS = {each.__name__: each for each in (eval, exec, globals, __import__)}
LOOKUPS = {
    *(f"builtins.{name}" for name in BUILTIN_LOOKUPS),
    *("importlib.import_module", "importlib.__import__", "importlib.reload", "sys.modules"),
    *("importlib.util.module_from_spec", "importlib.util.spec_from_file_location"),
    *("_frozen_importlib.module_from_spec", "importlib._bootstrap.__import__"),
    "_frozen_importlib_external.spec_from_file_location",
    *(
        "inspect.getmodule",
        "pkgutil.resolve_name",
        "pydoc.locate",
        "runpy.run_module",
        "runpy.run_path",
    ),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_class"),
    *("hydra.utils.get_method", "hydra.utils.get_object"),
    *("hydra._internal.instantiate._instantiate2.instantiate", "hydra._internal.utils._locate"),
}
LOOKUP_ATTRIBUTES = frozenset({"__globals__", "__subclasses__", "f_globals"})
"""The attributes that lead to code which only shows when the code runs."""

_dispatcher: Any = functools.singledispatch(repr)  # all dispatchers have the same code
_DISPATCHER = _dispatcher.__code__

# The types of functions that Cython, nanobind and pybind11 make, which share no module.
_COMPILED = {"cython_function_or_method", "fused_cython_function", "nb_func", "instancemethod"}

# Types whose objects hold no input of a computation. A user's own subclass of them may.
_BY_TYPE = {
    *("_thread.lock", "_thread.RLock", "_thread._local", "threading.Barrier", "threading.Event"),
    *("threading.Condition", "threading.Semaphore", "multiprocessing.synchronize.Condition"),
    *("multiprocessing.synchronize.Event", "multiprocessing.synchronize.SemLock"),
    *("multiprocessing.pool.Pool", "concurrent.futures._base.Executor", "rich.console.Console"),
    *("logging.Logger", "logging.LoggerAdapter", "logging.Handler", "loguru._logger.Logger"),
    *("structlog._config.BoundLoggerLazyProxy", "structlog._base.BoundLoggerBase"),
}


@dataclass(frozen=True)
class LibraryName:
    """What an import inside of code takes from an installed module, which may not be loaded yet.

    Attributes:
        module: The module.
        attribute: The name that is imported from it; `None` where the module itself is imported.
    """

    module: str
    attribute: str | None

    @property
    def name(self) -> str:
        """The dotted name."""
        return self.module if self.attribute is None else f"{self.module}.{self.attribute}"

    def path(self, chain: tuple[str, ...]) -> str:
        """The dotted name of what code takes out of it."""
        return ".".join((self.name, *chain[1:]))

    def value(self) -> Any:
        """The value that is imported if the module is loaded, and this object itself if not."""
        module = sys.modules.get(self.module)
        if module is None or self.attribute is None:
            return self if module is None else module
        return vars(module).get(self.attribute, self)


def is_followed(value: Any, first_party: FirstParty) -> bool:
    """Whether a value is a function or a class that counts by its source."""
    if type(value) is FunctionType:  # not a proxy that says that it is one
        # Lambdas and functions inside functions have no name that could stand for them.
        return first_party.owns(value) or "<" in value.__qualname__
    # Before Python 3.12, `make_dataclass` says that its classes are from `types`.
    return issubclass(type(value), type) and (
        first_party.owns(value)
        or (value.__module__ == "types" and not hasattr(types, value.__name__))
    )


def is_value(value: Any, first_party: FirstParty) -> bool:
    """Whether something that can be called counts by its content, and not by its source."""
    if type(value) is FunctionType:
        return _content(value) is not None
    if is_proxy(value):
        return True
    is_code = isinstance(value, type | ModuleType | MethodType)
    if not is_code and (content_of(value) or _compiled(value, first_party)) is not None:
        return True
    return not is_code and text_for(value, first_party, [], set()) is None


def is_mutable(value: Any) -> bool:
    """Whether a value that is not a definition may change while it stays the same object."""
    if isinstance(value, tuple):
        return any(map(is_mutable, value))
    if type(value) is FunctionType:
        return _content(value) is not None
    if isinstance(value, BuiltinFunctionType):
        return not isinstance(value.__self__, ModuleType)
    if isinstance(value, CACHED):
        return is_mutable(value.__wrapped__)
    return type(value) not in _ATOMS and not isinstance(value, type | ModuleType)


def finds_code(value: Any) -> bool:
    """Whether a value finds code by a string, such as `importlib.import_module`."""
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    return value is sys.modules or name in LOOKUPS


def text_for(
    value: Any, first_party: FirstParty, definitions: list[Any], packages: set[str]
) -> tuple[str] | None:
    """The text that stands for a value in a fingerprint.

    Args:
        value: The value.
        first_party: Tells which code is the user's own.
        definitions: The definitions found so far. Those in the value are added.
        packages: The installed packages found so far. Those that the value is from are added.

    Returns:
        The text, or `None` for a value that counts by its content.
    """
    if type(value) in _ATOMS:
        return _moving_text(value)
    inner = partial(text_for, first_party=first_party, definitions=definitions, packages=packages)
    wrapped = unwrapped(value)
    if wrapped is not value:
        return inner(wrapped) or (digest(wrapped, inner),)
    content = _content(value)
    if content is not None:
        _record_package(value, first_party, packages)
        return (f"object {digest(content, inner)}",)
    compiled = _compiled(value, first_party)
    if compiled is not None:
        return compiled
    is_own_module = isinstance(value, ModuleType) and first_party.owns(value)
    if is_own_module or is_followed(value, first_party):
        return (f"#{_index_in(definitions, value)}",)
    _record_package(value, first_party, packages)
    if isinstance(value, ModuleType):
        return (value.__name__,)
    if value is os.environ:
        return ("os.environ",)
    if _is_stream(value):
        return ("a stream",)
    kind: Any = type(value)
    if _counts_by_type(kind):
        text = text_for(kind, first_party, definitions, packages)
        return None if text is None else (f"a {text[0]}",)
    return _name_of_installed(value)


def _content(value: Any) -> tuple[Any, ...] | None:
    """The parts by which an object counts where its pickle would not say the same."""
    if type(value) is FunctionType and not value.__dict__:
        return None  # as most are: the marks of libraries are attributes
    if _is_dispatcher(value):
        return ("dispatch", dict(value.registry))
    if isinstance(value, PurePath):
        return (type(value).__name__, *place_of(value))
    return content_of(value)


def _moving_text(value: Any) -> tuple[str] | None:
    """What stands for a string that is a path in the user's project, which may move."""
    if type(value) is not str or not value.startswith(os.sep) or "\n" in value:
        return None
    place = written_place(value)
    return None if place == value else (f"path {place}",)


def _compiled(value: Any, first_party: FirstParty) -> tuple[str] | None:
    """What stands for code of the user's own that was compiled to machine code: its file."""
    is_code = isinstance(value, ModuleType | type | BuiltinFunctionType)
    if not (is_code or type(value).__name__ in _COMPILED) or not first_party.owns(value):
        return None
    found = compiled_module(value)
    if found is None:
        return None
    name = "" if isinstance(value, ModuleType) else value.__qualname__
    return (f"compiled {found[1]} {name}",)


def _name_of_installed(value: Any) -> tuple[str] | None:
    """The name of a function or class of an installed package or of Python."""
    owner = getattr(value, "__self__", None)
    if isinstance(value, type | FunctionType) or (
        isinstance(value, BuiltinFunctionType) and isinstance(owner, type | ModuleType | None)
    ):
        return (f"{value.__module__}.{value.__qualname__}",)
    if is_shared_generator(value):
        return (f"the shared {type(value).__module__}.{type(value).__qualname__}",)
    if is_shared_generator(owner):  # `from random import shuffle` takes a method of it
        return (f"{type(owner).__module__}.{value.__name__}",)
    return None


def _index_in(definitions: list[Any], definition: Any) -> int:
    """The index of a definition in the list, to which it is added where it is missing."""
    for index, each in enumerate(definitions):
        if each is definition:
            return index
    definitions.append(definition)
    return len(definitions) - 1


def _record_package(value: Any, first_party: FirstParty, packages: set[str]) -> None:
    is_named = isinstance(value, ModuleType | type | FunctionType | BuiltinFunctionType)
    named = value if is_named else type(value)
    module = named.__name__ if isinstance(named, ModuleType) else named.__module__
    if module is not None and not first_party.owns(named):
        packages.add(module.partition(".")[0])


def unwrapped(value: Any) -> Any:
    """The callable inside of functools' caches and of stages, which return what it returns.

    Other callable objects may not. They count by their state and by the code of their class.
    """
    while isinstance(value, CACHED) or getattr(type(value), "is_transparent_wrapper", None) is True:
        if not hasattr(value, "__wrapped__"):
            break  # a stage without a function
        value = value.__wrapped__
    return value


def _is_dispatcher(value: Any) -> bool:
    """Whether a function is one of `functools.singledispatch`, which counts by its registry."""
    return isinstance(value, FunctionType) and value.__code__ is _DISPATCHER


def _is_stream(value: Any) -> bool:
    """Whether a value is a stream that can only be written to."""
    if any(value is each for each in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
        return value is not None
    return isinstance(value, io.IOBase) and not value.closed and not value.readable()


@functools.lru_cache(maxsize=1024)  # asked for with each value, of which most share few types
def _counts_by_type(kind: Any) -> bool:
    return any(f"{each.__module__}.{each.__qualname__}" in _BY_TYPE for each in kind.__mro__)
