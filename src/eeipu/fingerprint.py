"""Code fingerprints: what a stage's function does, followed into the user's own code.

The fingerprint covers a function's source, its defaults and closure values, and, through as many
steps as there are, the functions, classes and module-level constants that it uses from the user's
own modules. Comments, formatting, docstrings, type hints of signatures and the decorators of
plain functions (which show in what they return) do not count; hints of functions under a decorator
that may go by them do.

Code in installed packages and in Python itself is not followed: it counts by name, and its
versions are recorded with what a stage produces (`versions_of`).

Note:
    Source is read from its file when a fingerprint is first asked for, and values when they are
    (`Stage.look_again`). A function that is no longer what was imported is an error that asks for
    a restart; an edit of the rest of a module, such as a class's decorators, goes unseen until
    then. Code that is looked up by a string is an error that asks for a version. Not seen are the
    environment, files, the state of random generators, what an object leaves out of its pickle,
    the classes registered with an abstract one, and code that reads other code's type hints.
"""

import ast
import functools
import hashlib
import importlib
import inspect
import json
import platform
import random
import sys
import types
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from eeipu.content import digest, reason
from eeipu.errors import PipelineError
from eeipu.names import Names, names_in
from eeipu.sources import bare, check_unchanged, is_own, parsed

__all__ = ["OwnCode", "code_fingerprint", "code_of", "value_digest", "versions_of"]


@dataclass(frozen=True)
class OwnCode:
    """What a function does, as far as its author wrote it.

    Attributes:
        fingerprint: The digest of it.
        packages: The installed packages that it uses.
    """

    fingerprint: str
    packages: tuple[str, ...]


def code_of(function: Callable[..., Any]) -> OwnCode:
    """The code that a function reaches.

    Raises:
        PipelineError: Some of the code has no source (a builtin, a C function, code typed at a
            bare prompt), or a value that it uses cannot be hashed.
    """
    walk = _Walk(function)
    return OwnCode(walk.fingerprint, tuple(sorted(walk.packages)))


def code_fingerprint(function: Callable[..., Any]) -> str:
    """A digest of what a function does; raises as `code_of`."""
    return code_of(function).fingerprint


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python, eeipu and these packages, as far as they are imported and say."""
    versions = {"python": platform.python_version()}
    for name in ("eeipu", *packages):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str) and name not in sys.stdlib_module_names:
            versions[name] = version
    return versions


def value_digest(value: Any, *, reads_paths: bool = False) -> str:
    """A digest of a value by content, and of the code of the user's functions and classes in it.

    Args:
        value: Anything that can be pickled.
        reads_paths: Whether a path stands for the content of its file or directory.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """

    def code(part: Any) -> tuple[str] | None:
        return (code_fingerprint(part),) if _is_followed(part) else None

    return digest(value, code, reads_paths=reads_paths)


class _Walk:
    """The graph of code that one function reaches, in the order in which it is reached.

    Functions, classes and modules are numbered as they are found, and each description names
    others by number, so that neither cycles nor the names of modules matter.
    """

    def __init__(self, root: Any) -> None:
        self.packages: set[str] = set()
        self._numbers: dict[int, int] = {}
        self._found: list[Any] = []
        self._number(root)
        described = list(map(self._describe, self._found))  # a list that grows meanwhile
        content = json.dumps(described)
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    def _number(self, part: Any) -> str:
        # Kept in a list, so that no two live at one address in turn.
        if id(part) not in self._numbers:
            self._numbers[id(part)] = len(self._found)
            self._found.append(part)
        return f"#{self._numbers[id(part)]}"

    def _describe(self, part: Any) -> list[Any]:
        if isinstance(part, MethodType):
            return [self._digest(part, "self", part.__self__), self._name_of(part.__func__)]
        name = getattr(part, "__qualname__", None) or getattr(part, "__name__", repr(part))
        try:
            source, names = _read(part)
        except (OSError, TypeError, SyntaxError) as error:
            if isinstance(part, type) and part is not self._found[0]:
                return self._without_source(part)
            if isinstance(part, ModuleType) and getattr(part, "__file__", None) is None:
                return [part.__name__]  # a folder without code of its own
            raise PipelineError(
                f"the source of {name} cannot be read ({error}), so a change of it would go "
                f"unseen; {_REMEDY}"
            ) from error
        captured = self._captured(part) if isinstance(part, FunctionType) else {}
        attributes = self._digest(part, "attributes", _attributes(part))
        # Each method is a part of its own: its closure and imports are no other method's.
        inner = [self._name_of(each) for each in (*_bases(part), *_methods(part))]
        values = self._digest(part, "defaults or closure values", captured)
        return [source, values, attributes, self._names(part, names, captured), inner]

    def _captured(self, function: FunctionType) -> dict[str, Any]:
        """The values that a function carries with it besides its source."""
        try:
            closure = dict(inspect.getclosurevars(function).nonlocals)
        except ValueError as error:
            raise _unhashable(function, "defaults or closure values", error) from error
        closure.pop("__class__", None)  # what `super()` needs
        return {"closure": closure, "defaults": [function.__defaults__, function.__kwdefaults__]}

    def _names(self, part: Any, names: Names, captured: dict[str, Any]) -> Mapping[str, list[str]]:
        """What each name in a source stands for, where that is not Python's own."""
        module = part if isinstance(part, ModuleType) else sys.modules.get(part.__module__)
        scope = getattr(part, "__globals__", None) or getattr(module, "__dict__", {})
        scope = {**_BUILTIN_LOOKUPS, **scope, **captured.get("closure", {})}
        imported = {} if isinstance(part, type) else names.imported(scope)
        found: dict[str, list[str]] = {}
        for chain in sorted(names.chains | _all_of_module(part)):
            first = chain[0]
            for start in imported.get(first, [scope[first]] if first in scope else []):
                path, value = _resolve(start, chain)
                _check_visible(part, path, value)
                found.setdefault(path, []).append(self._name_of(value, part, path))
        return found

    def _name_of(self, value: Any, user: Any = None, path: str = "") -> str:
        """What stands for a value that code uses under a name."""
        named = self._code(value)
        return named[0] if named is not None else self._digest(user, f"the global {path}", value)

    def _code(self, value: Any) -> tuple[str] | None:
        """What stands for code; `None` for other values."""
        value = _unwrapped(value)
        if _is_followed(value) or (isinstance(value, ModuleType) and is_own(value)):
            return (self._number(value),)
        self._record_package(value)
        if isinstance(value, ModuleType):
            return (value.__name__,)
        owner = getattr(value, "__self__", None)
        if isinstance(value, type | FunctionType) or (
            isinstance(value, BuiltinFunctionType) and isinstance(owner, type | ModuleType | None)
        ):
            return (f"{value.__module__}.{value.__qualname__}",)
        if any(owner is each for each in _SHARED_GENERATORS):
            return (f"{type(owner).__module__}.{value.__name__}",)
        return None

    def _record_package(self, value: Any) -> None:
        is_named = isinstance(value, ModuleType | type | FunctionType | BuiltinFunctionType)
        named = value if is_named else type(value)
        module = named.__name__ if isinstance(named, ModuleType) else named.__module__
        if module is not None and not is_own(named):
            self.packages.add(module.partition(".")[0])

    def _digest(self, part: Any, what: str, value: Any) -> str:
        try:
            return digest(value, self._code)
        except PipelineError:
            raise
        except Exception as error:  # whatever pickle raises for the user's own types
            raise _unhashable(part, what, error) from error

    def _without_source(self, part: type) -> list[Any]:
        """A class that was made by a call (`namedtuple`, `make_dataclass`): what it has."""
        members = self._digest(part, "members", _members(part))
        inner = [self._name_of(each) for each in (*_bases(part), *_methods(part))]
        return [part.__qualname__, members, inner]


# What leads to code by a name that only running shows.
_BUILTIN_LOOKUPS = {each.__name__: each for each in (eval, exec, globals, __import__)}
_LOOKUPS = (*_BUILTIN_LOOKUPS.values(), importlib.import_module, sys.modules)

# `from random import shuffle` takes a method of an object, whose state is the process's.
_SHARED_METHODS: tuple[Any, ...] = (random.random, np.random.rand)
_SHARED_GENERATORS = [method.__self__ for method in _SHARED_METHODS]

_CACHED = type(functools.cache(len))  # no public name leads to it

_METHOD = (FunctionType, classmethod, staticmethod, property)
_SLOT = (MemberDescriptorType, GetSetDescriptorType, type(vars(namedtuple("_", "x"))["x"]))

_REMEDY = 'name the code yourself with stage(version="1") and change it with the code.'


def _read(part: Any) -> tuple[str, Names]:
    """The source of a part, without what cannot matter, and the names in it."""
    if isinstance(part, FunctionType):
        check_unchanged(part)
        code = part.__code__
        return _read_function(code, code.co_filename, repr(part.__annotations__))
    tree = bare(parsed(part))
    return ast.dump(tree), names_in(tree, _free(part))


@functools.lru_cache(maxsize=1024)  # a project's functions, each looked at again for every run
def _read_function(code: CodeType, _file: str, _hints: str) -> tuple[str, Names]:
    # Code is equal to its like in another file, and does not know its type hints.
    tree = bare(parsed(code))
    return ast.dump(tree), names_in(tree, sorted(code.co_freevars))


def _unhashable(part: Any, what: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"{getattr(part, '__qualname__', part)} has {what} that cannot be hashed "
        f"({reason(error)}), so a change of them would go unseen; {_REMEDY}"
    )


def _is_followed(value: Any) -> bool:
    """Whether a value is code whose source counts."""
    if isinstance(value, FunctionType):
        # Lambdas and functions inside functions have no name that could stand for them.
        return is_own(value) or "<" in value.__qualname__
    # Before Python 3.12, `make_dataclass` says that its classes are from `types`.
    return isinstance(value, type) and (
        is_own(value)
        or (value.__module__ == "types" and vars(types).get(value.__name__) is not value)
    )


def _unwrapped(value: Any) -> Any:
    """The function inside functools' caches and eeipu's stages, which do not change its results.

    Other callable objects may: theirs are a state and a class that count.
    """
    while isinstance(value, _CACHED) or type(value).__module__ == "eeipu.stages":
        if not hasattr(value, "__wrapped__"):
            break  # a stage without a function
        value = value.__wrapped__
    return value


def _free(part: Any) -> list[str]:
    """The variables of functions around a class that its methods use."""
    return sorted({name for each in _methods(part) for name in each.__code__.co_freevars})


def _check_visible(part: Any, path: str, value: Any) -> None:
    """Raise where code finds other code by a string. A module's own start is over."""
    is_lookup = any(value is each for each in _LOOKUPS) or path.endswith("__subclasses__")
    if is_lookup and not isinstance(part, ModuleType):
        raise PipelineError(
            f"{part.__qualname__} uses {path}, so what it runs only shows while it runs, and a "
            f"change of that would go unseen; use an import statement or a plain name, or {_REMEDY}"
        )


def _bases(part: Any) -> tuple[type, ...]:
    """What a class has besides what is written in it: its bases and its metaclass."""
    return (*part.__bases__, type(part)) if isinstance(part, type) else ()


def _all_of_module(part: Any) -> set[tuple[str, ...]]:
    """The names that a module used as a whole has, also those that it imports from others."""
    names = vars(part) if isinstance(part, ModuleType) else ()
    return {(name,) for name in names if not _is_internal(name)}


def _methods(part: Any) -> list[FunctionType]:
    """The functions that are written in a class, as they were before they became its methods."""
    if not isinstance(part, type):
        return []
    inner = [getattr(each, "__func__", each) for each in vars(part).values()]
    inner = [getattr(each, "func", each) for each in inner]  # of a cached property
    inner += [inspect.unwrap(each) for each in inner if callable(each)]
    inner += [f for p in inner if isinstance(p, property) for f in (p.fget, p.fset, p.fdel)]
    return [each for each in inner if isinstance(each, FunctionType) and _is_written(each, part)]


def _is_written(method: FunctionType, part: type) -> bool:
    """Whether a method has source; those that `dataclass` and its like make have none."""
    module = sys.modules.get(part.__module__)
    is_at_home = module is None or method.__globals__ is vars(module)
    origin = sys.modules.get(method.__globals__.get("__name__", ""))
    is_lent = origin is not None and is_own(origin)
    return (is_at_home or is_lent) and method.__code__.co_filename != "<string>"


def _members(part: type) -> list[Any]:
    """What a class without source was made of, besides its methods, in order."""
    if issubclass(part, Enum):
        return [(name, member.value) for name, member in part.__members__.items()]
    fields = [
        (each.name, each.default, each.default_factory, each.init, each.compare, each.kw_only)
        for each in vars(part).get("__dataclass_fields__", {}).values()
    ]
    options = repr(vars(part).get("__dataclass_params__"))
    rest = [
        (name, value)
        for name, value in vars(part).items()
        if not _is_internal(name) and not isinstance(value, _METHOD + _SLOT)
    ]
    return [fields, options, rest]


def _attributes(part: Any) -> list[tuple[str, Any]]:
    """The values that a function or a class has, which may be set after its definition."""
    if isinstance(part, ModuleType):
        return []  # too many that are nobody's concern; those used by name count by themselves
    if isinstance(part, type) and issubclass(part, Enum):
        return _members(part)
    return [
        (name, value)
        for name, value in sorted(vars(part).items())
        if not _is_internal(name) and _is_attribute(value, part)
    ]


def _is_attribute(value: Any, part: Any) -> bool:
    """Whether a value counts by itself: methods are parts of their own, slots are none."""
    if isinstance(part, FunctionType):
        return not callable(value) or is_own(value)
    if isinstance(value, _METHOD + _SLOT + (_CACHED,)):
        return False
    return is_own(type(value)) or not hasattr(type(value), "__get__")


def _is_internal(name: str) -> bool:
    """Whether Python gives a class this attribute."""
    return name == "_abc_impl" or (name.startswith("__") and name.endswith("__"))


def _resolve(value: Any, chain: tuple[str, ...]) -> tuple[str, Any]:
    """The value that a dotted name leads to, as far as it leads through the user's modules."""
    depth = 1
    while depth < len(chain) and isinstance(value, ModuleType) and is_own(value):
        if not hasattr(value, chain[depth]):
            break
        value = getattr(value, chain[depth])
        depth += 1
    planted = _within(value, chain[depth:])
    if any(planted is each for each in _LOOKUPS):
        return ".".join(chain), planted
    if isinstance(planted, type | FunctionType) and is_own(planted):
        return ".".join(chain), planted
    return ".".join(chain[:depth]), value


def _within(module: Any, chain: tuple[str, ...]) -> Any:
    """What a name in an installed module leads to, which may be the user's own, put there."""
    for name in chain:
        if not isinstance(module, ModuleType):
            break
        module = vars(module).get(name)  # not getattr: that may import
    return module
