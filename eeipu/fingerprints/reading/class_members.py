"""The members of a class: its bases, the functions in it, and the values that it has."""

import abc
import functools
import inspect
import sys
from collections import namedtuple
from collections.abc import Iterator
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.syntax.sources import is_without_file
from eeipu.fingerprints.syntax.wrappers import is_stage, wrapped_function
from eeipu.serialization.library_types import package_and_name

__all__ = [
    "CACHED",
    "attributes",
    "bases",
    "making_library_class",
    "methods",
    "values_made_with",
]

CACHED = type(functools.cache(len))  # no public name leads to it

_METHOD = (FunctionType, classmethod, staticmethod, property)
_SLOT = (MemberDescriptorType, GetSetDescriptorType, type(vars(namedtuple("_", "x"))["x"]))

# The methods that `dataclass` makes, and that of a named tuple.
_MADE = {
    *("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__"),
    *("__setattr__", "__delattr__", "__replace__", "__new__"),
    *("_dataclass_getstate", "_dataclass_setstate"),
}

# Where `dataclass` and attrs keep the fields that they made a class from.
_KEEP_FIELDS = ("__dataclass_fields__", "__attrs_attrs__")


def bases(code: Any) -> tuple[type, ...]:
    """The bases and the metaclass of a class; nothing for other code."""
    return (*code.__bases__, type(code)) if isinstance(code, type) else ()


def methods(code: Any, first_party: FirstParty) -> list[FunctionType]:
    """The functions that are written in a class, without the decorators around them."""
    if not isinstance(code, type):
        return []
    inner = [wrapped_function(each) for each in list(vars(code).values())]
    inner += [inspect.unwrap(each) for each in inner if isinstance(each, FunctionType | CACHED)]
    inner += [f for p in inner if isinstance(p, property) for f in (p.fget, p.fset, p.fdel)]
    found = [each for each in inner if isinstance(each, FunctionType)]
    return [each for each in found if _is_written(each, code, first_party)]


def _is_written(method: FunctionType, owner: type, first_party: FirstParty) -> bool:
    """Whether a method is the user's own, even where it has no source, as one of `exec`."""
    if _is_made(method, owner):
        return False
    module = sys.modules.get(owner.__module__)
    is_of_its_module = module is None or method.__globals__ is vars(module)
    origin = sys.modules.get(method.__globals__.get("__name__", ""))
    is_of_library = origin is not None and not first_party.owns(origin)
    return is_of_its_module or not is_of_library or is_without_file(method.__code__)


def _is_made(method: FunctionType, owner: type) -> bool:
    """Whether `dataclass`, a named tuple or attrs made a method, from values that count anyway."""
    if method.__code__.co_filename.startswith("<attrs generated"):
        return True
    makes = hasattr(owner, "__dataclass_fields__") or issubclass(owner, tuple)
    return makes and method.__name__ in _MADE and is_without_file(method.__code__)


def making_library_class(made: type, first_party: FirstParty) -> type | None:
    """The installed class that a class without source was made by or derived from, if any.

    Only the author of the installed class knows what it keeps, and where. Of pydantic's models
    without validators `values_made_with` knows it too; for them the answer is `None`.
    """
    validators = vars(made).get("__pydantic_decorators__")
    kinds_of = getattr(validators, "__dataclass_fields__", ())
    if kinds_of and not any(getattr(validators, each) for each in kinds_of):
        return None
    kinds = (*inspect.getmro(made), *inspect.getmro(type(made)))
    for each in kinds:
        is_python = package_and_name(each)[0] in sys.stdlib_module_names
        if not (is_python or first_party.owns(each)):
            return each
    return None


def values_made_with(made: type) -> Iterator[tuple[str, Any]]:
    """The values that a class without source was made with, in order and without its methods."""
    yield "name", made.__qualname__  # by which `isinstance` and the like may tell it from its equal
    yield from _fields(made)
    yield "options", repr(vars(made).get("__dataclass_params__"))
    for name in ("__annotations__", "__required_keys__", "__optional_keys__"):
        yield name, vars(made).get(name)
    if issubclass(made, Enum):
        yield from _enumerated(made)
        return
    for name, value in list(vars(made).items()):
        if not _is_internal(name) and not isinstance(value, _METHOD + _SLOT):
            yield name, value


# What a field of a data class or of attrs says.
_FIELD_PARTS = (
    *("default", "default_factory", "factory", "validator", "converter", "on_setattr"),
    *("init", "eq", "order", "compare", "kw_only", "alias", "metadata"),
)


def _fields(made: type) -> Iterator[tuple[str, Any]]:
    """The fields of a data class, or of a class of attrs or pydantic."""
    for kept in _KEEP_FIELDS:
        fields = vars(made).get(kept, ())
        for each in fields.values() if isinstance(fields, dict) else fields:
            yield f"field {each.name}", [getattr(each, name, None) for name in _FIELD_PARTS]
    for kept in ("__pydantic_fields__", "__private_attributes__"):
        for name, value in vars(made).get(kept, {}).items():
            yield f"field {name}", [getattr(value, each, None) for each in value.__slots__]


def _enumerated(enumeration: type[Enum]) -> Iterator[tuple[str, Any]]:
    return ((name, member.value) for name, member in enumeration.__members__.items())


def attributes(code: Any, first_party: FirstParty) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the attributes of a function or a class.

    They count in a fingerprint, because code may set them after the definition.
    """
    if isinstance(code, ModuleType):
        return  # the names that code uses from it count by themselves
    if isinstance(code, type) and issubclass(code, Enum):
        yield from _enumerated(code)
        return
    if isinstance(code, type) and "<locals>" in code.__qualname__:
        yield from _fields(code)  # which may be computed by the function around the class
    if "_abc_impl" in vars(code):
        yield "registered classes", _registered(code)
    for name, value in sorted(vars(code).items()):
        if not _is_internal(name) and _is_attribute(value, code, first_party):
            yield name, value


def _registered(abstract: type) -> set[type]:
    """The classes that were registered with an abstract class."""
    dump: Any = vars(abc)["_get_dump"]  # its parts are the registry and three caches
    found = (each() for each in dump(abstract)[0])
    return {each for each in found if each is not None}


def _is_attribute(value: Any, owner: Any, first_party: FirstParty) -> bool:
    """Whether a value counts as an attribute. Methods are definitions; slots hold no value."""
    if isinstance(owner, FunctionType):
        return not callable(value) or first_party.owns(value)
    if isinstance(value, (*_METHOD, *_SLOT, CACHED)):
        return False
    if is_stage(value):  # its function is a method, or else counts by what it holds
        return not isinstance(wrapped_function(value), FunctionType)
    return first_party.owns(type(value)) or not hasattr(type(value), "__get__")


def _is_internal(name: str) -> bool:
    """Whether Python itself gives a class an attribute of this name."""
    return name == "_abc_impl" or (name.startswith("__") and name.endswith("__"))
