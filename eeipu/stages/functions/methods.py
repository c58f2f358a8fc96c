"""Methods, and other callables that are not plain functions, as what a stage calls.

A stage that is declared above a method belongs to a class, as the method does. Each object of the
class has stages of its own, made when they are asked for: `model.fit` is the stage of `model`.
"""

from collections.abc import Callable, Mapping
from functools import partial, partialmethod
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakValueDictionary

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import content_digest
from eeipu.fingerprints.reading.class_members import CACHED
from eeipu.stages.functions.signatures import first_parameter

__all__ = [
    "BoundStages",
    "bound_cost",
    "check_partial",
    "is_method",
    "object_digest",
    "object_of",
    "plain_function",
    "static",
    "title",
]


class BoundStages:
    """The stages of objects that a stage of a class has given out, for as long as they are used.

    An object's stage is the same one whenever it is asked for, so that what is known of it stays
    known. It has the object, so that no other can come to have the object's id in the meantime.

    Attributes:
        owner: The name of the class that the stage was declared in; `None` outside of classes.
        copies: What calls of this stage work on (`working_copies`); the stage's own.
    """

    def __init__(self) -> None:
        self.owner: str | None = None
        self.copies: Any = None
        self._by_object: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundStages, ()

    def of(self, instance: Any, make: Callable[[], Any]) -> Any:
        """The stage of an object, which is made where there is none."""
        found = self._by_object.get(id(instance))
        return self._by_object.setdefault(id(instance), make()) if found is None else found


def is_method(function: Any) -> bool:
    """Whether a class's attribute is bound to the object that it is asked of, as Python does it.

    A function from outside of classes, which a class only keeps, is not: a stage may be kept
    wherever other values are.
    """
    if isinstance(function, partialmethod):
        return True
    if isinstance(function, MethodType | type) or not hasattr(type(function), "__get__"):
        return False
    around = getattr(function, "__qualname__", "").rpartition(".")[0]
    is_in_class = bool(around) and not around.endswith("<locals>")
    # Without functools.wraps, a decorator's own function stands for the method.
    return is_in_class or first_parameter(function) in ("self", "*args")


def bound_cost(cost: Any, function: Any, instance: Any) -> Any:
    """A declared cost for an object: bound like the method, if it begins with `self` as that does.

    Args:
        cost: The cost, or `None`.
        function: The method, which is not bound.
        instance: The object.
    """
    first = first_parameter(cost)
    is_bound_too = first is not None and first == first_parameter(function)
    return MethodType(cost, instance) if is_bound_too else cost


def static(function: Any, make: Callable[[Any], Any]) -> Any:
    """A class method or a static method of a stage, for the decorator that stands above them.

    Args:
        function: What is decorated.
        make: Makes a stage of a function.
    """
    is_wrapped = isinstance(function, staticmethod | classmethod)
    return type(function)(make(function.__func__)) if is_wrapped else make(function)


def plain_function(function: Any) -> Any:
    """The function that does the work of a callable: in a partial, a method or an object."""
    while isinstance(function, partial | partialmethod):
        function = function.func
    if isinstance(function, MethodType):
        return function.__func__
    is_object = not (callable(function) and hasattr(function, "__name__"))
    return getattr(type(function), "__call__", function) if is_object else function  # noqa: B004


def title(function: Any) -> str:
    """The name of a stage that is given none: its function's, or that of an object's class.

    Partials have none, as there may be several of one function.
    """
    if isinstance(function, partial | partialmethod):
        return ""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def check_partial(stage_name: str, function: Any, space: Mapping[str, Any]) -> None:
    """Refuse a partial that binds a hyper-parameter.

    Raises:
        PipelineError: It does, so the value that it binds would be ignored.
    """
    while isinstance(function, partial | partialmethod):
        for name in function.keywords.keys() & space.keys():
            raise PipelineError(
                f"stage {stage_name!r} has a space for {name!r}, and its partial binds it to "
                f"{function.keywords[name]!r:.80}; take it out of one of both."
            )
        function = function.func


def object_of(function: Any) -> Any:
    """The object whose state a call depends on: a method's, or the callable itself.

    Returns:
        The object; `None` for functions and classes, which have no state but their module's.
    """
    if isinstance(function, MethodType):
        is_class = isinstance(function.__self__, type | ModuleType)
        return None if is_class else function.__self__
    is_code = isinstance(function, FunctionType | BuiltinFunctionType | CACHED | type)
    is_own = type(function).__module__.partition(".")[0] == "eeipu"
    return None if is_code or is_own or function is None else function


def object_digest(function: Any) -> str:
    """A digest of the object that a call works on, without code; "" where there is none."""
    if object_of(function) is None:
        return ""
    try:
        return content_digest(function)
    except Exception:  # it cannot be hashed, and the version of its stage has to vouch for it
        return ""
