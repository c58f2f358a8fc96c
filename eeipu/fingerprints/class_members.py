"""What a class is made of: its bases, the functions in it, and the values that it has."""

import functools
import inspect
import sys
from collections import namedtuple
from collections.abc import Iterator
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from eeipu.fingerprints.sources import Home, is_generated

__all__ = ["CACHED", "attributes", "bases", "free_variables", "maker", "members", "methods"]

CACHED = type(functools.cache(len))  # no public name leads to it

_METHOD = (FunctionType, classmethod, staticmethod, property)
_SLOT = (MemberDescriptorType, GetSetDescriptorType, type(vars(namedtuple("_", "x"))["x"]))

# Where `dataclass` and attrs keep what they made a class from.
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__")


def bases(part: Any) -> tuple[type, ...]:
    """What a class has besides what is written in it: its bases and its metaclass."""
    return (*part.__bases__, type(part)) if isinstance(part, type) else ()


def methods(part: Any, home: Home) -> list[FunctionType]:
    """The functions that are written in a class, as they were before they became its methods."""
    if not isinstance(part, type):
        return []
    # Not by getattr, which for some libraries' attributes builds a class anew.
    inner = [_below(_below(each, "__func__"), "func") for each in list(vars(part).values())]
    inner += [inspect.unwrap(each) for each in inner if isinstance(each, FunctionType | CACHED)]
    inner += [f for p in inner if isinstance(p, property) for f in (p.fget, p.fset, p.fdel)]
    found = [each for each in inner if isinstance(each, FunctionType)]
    return [each for each in found if _is_written(each, part, home)]


def _below(value: Any, name: str) -> Any:
    """What a class or a cached property keeps a function in, where it is that."""
    if inspect.getattr_static(value, name, None) is None:
        return value
    inner = getattr(value, name)
    return inner if callable(inner) else value


def _is_written(method: FunctionType, part: type, home: Home) -> bool:
    """Whether a method has source; those that `dataclass` and its like make have none."""
    module = sys.modules.get(part.__module__)
    is_at_home = module is None or method.__globals__ is vars(module)
    origin = sys.modules.get(method.__globals__.get("__name__", ""))
    is_lent = origin is not None and home.owns(origin)
    return (is_at_home or is_lent) and not is_generated(method.__code__)


def free_variables(part: Any, home: Home) -> list[str]:
    """The variables of functions around code that it uses."""
    inner = [part] if isinstance(part, FunctionType) else methods(part, home)
    return sorted({name for each in inner for name in each.__code__.co_freevars})


def maker(part: type, home: Home) -> type | None:
    """The installed class, if there is one, that a class without source was made by or from.

    What it keeps, and where, only its author knows; of pydantic's models, as far as they have no
    validators, `members` does.
    """
    validators = vars(part).get("__pydantic_decorators__")
    kinds_of = getattr(validators, "__dataclass_fields__", ())
    if kinds_of and not any(getattr(validators, each) for each in kinds_of):
        return None
    kinds = (*inspect.getmro(part), *inspect.getmro(type(part)))
    for each in kinds:
        is_python = each.__module__.partition(".")[0] in sys.stdlib_module_names
        if not (is_python or home.owns(each)):
            return each
    return None


def members(part: type) -> Iterator[tuple[str, Any]]:
    """The values that a class without source was made with, besides its methods, in order."""
    for kept in _FIELDS:
        fields = vars(part).get(kept, ())
        for each in fields.values() if isinstance(fields, dict) else fields:
            made_of = [getattr(each, name, None) for name in _FIELD]
            yield f"field {each.name}", made_of
    yield "options", repr(vars(part).get("__dataclass_params__"))
    for kept in ("__pydantic_fields__", "__private_attributes__"):
        for name, value in vars(part).get(kept, {}).items():
            yield f"field {name}", [getattr(value, each, None) for each in value.__slots__]
    if issubclass(part, Enum):
        yield from _enumerated(part)
        return
    for name, value in list(vars(part).items()):
        if not _is_internal(name) and not isinstance(value, _METHOD + _SLOT):
            yield name, value


_FIELD = (
    *("default", "default_factory", "factory", "validator", "converter", "on_setattr"),
    *("init", "eq", "order", "compare", "kw_only", "alias"),
)


def _enumerated(part: type[Enum]) -> Iterator[tuple[str, Any]]:
    return ((name, member.value) for name, member in part.__members__.items())


def attributes(part: Any, home: Home) -> Iterator[tuple[str, Any]]:
    """The values that a function or a class has, which may be set after its definition."""
    if isinstance(part, ModuleType):
        return  # too many that are nobody's concern; those used by name count by themselves
    if isinstance(part, type) and issubclass(part, Enum):
        yield from _enumerated(part)
        return
    for name, value in sorted(vars(part).items()):
        if not _is_internal(name) and _is_attribute(value, part, home):
            yield name, value


def _is_attribute(value: Any, part: Any, home: Home) -> bool:
    """Whether a value counts by itself: methods are parts of their own, slots are none."""
    if isinstance(part, FunctionType):
        return not callable(value) or home.owns(value)
    if isinstance(value, (*_METHOD, *_SLOT, CACHED)):
        return False
    return home.owns(type(value)) or not hasattr(type(value), "__get__")


def _is_internal(name: str) -> bool:
    """Whether Python gives a class this attribute."""
    return name == "_abc_impl" or (name.startswith("__") and name.endswith("__"))
