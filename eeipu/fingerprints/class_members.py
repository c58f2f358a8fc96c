"""The members of a class: its bases, the functions in it, and the values that it has."""

import functools
import inspect
import sys
from collections import namedtuple
from collections.abc import Iterator
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.sources import is_generated

__all__ = [
    "CACHED",
    "attributes",
    "bases",
    "free_variables",
    "making_library_class",
    "methods",
    "values_made_with",
]

CACHED = type(functools.cache(len))  # no public name leads to it

_METHOD = (FunctionType, classmethod, staticmethod, property)
_SLOT = (MemberDescriptorType, GetSetDescriptorType, type(vars(namedtuple("_", "x"))["x"]))

# Where `dataclass` and attrs keep the fields that they made a class from.
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__")


def bases(code: Any) -> tuple[type, ...]:
    """The bases and the metaclass of a class; nothing for other code."""
    return (*code.__bases__, type(code)) if isinstance(code, type) else ()


def methods(code: Any, first_party: FirstParty) -> list[FunctionType]:
    """The functions that are written in a class, without the decorators around them."""
    if not isinstance(code, type):
        return []
    # Not by getattr, which for some libraries' attributes builds a class anew.
    inner = [_below(_below(each, "__func__"), "func") for each in list(vars(code).values())]
    inner += [inspect.unwrap(each) for each in inner if isinstance(each, FunctionType | CACHED)]
    inner += [f for p in inner if isinstance(p, property) for f in (p.fget, p.fset, p.fdel)]
    found = [each for each in inner if isinstance(each, FunctionType)]
    return [each for each in found if _is_written(each, code, first_party)]


def _below(value: Any, name: str) -> Any:
    """The function that a value keeps under a name, as a class method does; else the value."""
    if inspect.getattr_static(value, name, None) is None:
        return value
    inner = getattr(value, name)
    return inner if callable(inner) else value


def _is_written(method: FunctionType, owner: type, first_party: FirstParty) -> bool:
    """Whether a method has source. Those that `dataclass` and similar decorators make have none."""
    module = sys.modules.get(owner.__module__)
    is_of_its_module = module is None or method.__globals__ is vars(module)
    origin = sys.modules.get(method.__globals__.get("__name__", ""))
    is_first_party = origin is not None and first_party.owns(origin)
    return (is_of_its_module or is_first_party) and not is_generated(method.__code__)


def free_variables(code: Any, first_party: FirstParty) -> list[str]:
    """The variables that a function or a class uses from the functions around it."""
    inner = [code] if isinstance(code, FunctionType) else methods(code, first_party)
    return sorted({name for each in inner for name in each.__code__.co_freevars})


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
        is_python = each.__module__.partition(".")[0] in sys.stdlib_module_names
        if not (is_python or first_party.owns(each)):
            return each
    return None


def values_made_with(made: type) -> Iterator[tuple[str, Any]]:
    """The values that a class without source was made with, in order and without its methods."""
    for kept in _FIELDS:
        fields = vars(made).get(kept, ())
        for each in fields.values() if isinstance(fields, dict) else fields:
            made_of = [getattr(each, name, None) for name in _FIELD]
            yield f"field {each.name}", made_of
    yield "options", repr(vars(made).get("__dataclass_params__"))
    for kept in ("__pydantic_fields__", "__private_attributes__"):
        for name, value in vars(made).get(kept, {}).items():
            yield f"field {name}", [getattr(value, each, None) for each in value.__slots__]
    if issubclass(made, Enum):
        yield from _enumerated(made)
        return
    for name, value in list(vars(made).items()):
        if not _is_internal(name) and not isinstance(value, _METHOD + _SLOT):
            yield name, value


_FIELD = (
    *("default", "default_factory", "factory", "validator", "converter", "on_setattr"),
    *("init", "eq", "order", "compare", "kw_only", "alias"),
)


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
    for name, value in sorted(vars(code).items()):
        if not _is_internal(name) and _is_attribute(value, code, first_party):
            yield name, value


def _is_attribute(value: Any, owner: Any, first_party: FirstParty) -> bool:
    """Whether a value counts as an attribute. Methods are definitions; slots hold no value."""
    if isinstance(owner, FunctionType):
        return not callable(value) or first_party.owns(value)
    if isinstance(value, (*_METHOD, *_SLOT, CACHED)):
        return False
    return first_party.owns(type(value)) or not hasattr(type(value), "__get__")


def _is_internal(name: str) -> bool:
    """Whether Python itself gives a class an attribute of this name."""
    return name == "_abc_impl" or (name.startswith("__") and name.endswith("__"))
