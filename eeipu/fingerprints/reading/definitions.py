"""The definitions that code fingerprints follow, and what they refer to.

A definition is a function, a class or a module of the user's own. It has a source, and
references: its closure, its defaults, its attributes and what the names in its source mean. A
reference names the definitions in it by number, so one definition can be described without those
that it uses.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.contents.pickle_digests import pickle_digest
from eeipu.fingerprints.contents.plain import is_plain
from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.reading.references import MISSING, is_mutable, text_for
from eeipu.fingerprints.syntax.free_names import Names
from eeipu.fingerprints.syntax.sources import Detail
from eeipu.fingerprints.values import StandIn, digest, reason

__all__ = [
    "REMEDY",
    "Definition",
    "Lookup",
    "MakeReference",
    "Reference",
    "closure_values",
    "components_of",
    "quick_check",
    "reference_to",
    "title_of",
]

REMEDY = 'name the code yourself with stage(version="1") and change it with the code.'


@dataclass(frozen=True)
class Reference:
    """What a name in a definition refers to, as it enters the fingerprint.

    Attributes:
        text: The name of installed code, or the digest of a value. Definitions in it are written
            as their index in `definitions`.
        definitions: The functions, classes and modules of the user's own in it.
        ids: The ids of `definitions`, by which references are compared.
        packages: The installed packages that the value comes from.
    """

    text: str
    definitions: tuple[Any, ...] = field(default=(), compare=False)
    ids: tuple[int, ...] = ()
    packages: frozenset[str] = frozenset()


Lookup = tuple[Mapping[str, Any], str, Any]
"""Where a name was looked up: a namespace, the name, and the value found."""

MakeReference = Callable[[str, Any, Any], Reference]
"""`reference_to`, which takes the name, the value and the definition that has it."""


@dataclass(frozen=True, eq=False)
class Definition:
    """A definition as it was when it was last read.

    Attributes:
        code: The function, class or module, or a callable object where that stands in the place of
            a function.
        source: A digest of its source, as far as it can change a result; "" where it has none.
        names: The names that the source uses.
        references: What it has by itself, and what its names refer to.
        components: The objects that it consists of (see `components_of`).
        lookups: Where names were looked up.
        mutable: Those references whose value can change in place: the name, the value, and a
            quick way to tell whether it has changed (`quick_check`).
        detail: What of its source counts.
        reads: What of the source of other code it reads.
    """

    code: Any
    source: str
    names: Names
    references: Mapping[str, Reference]
    components: tuple[Any, ...]
    lookups: tuple[Lookup, ...]
    mutable: tuple[tuple[str, Any, Callable[[], bool] | None], ...]
    detail: Detail
    reads: Detail


def components_of(code: Any) -> tuple[Any, ...]:
    """The objects that a definition consists of.

    As long as they are the same objects, the definition can only have changed inside of them. As
    long as the first is the same, its source is too.
    """
    if isinstance(code, FunctionType):
        cells = closure_values(code).values()
        extra = (*(code.__kwdefaults__ or {}).values(), *cells, *vars(code).values())
        return (code.__code__, code.__defaults__, code.__kwdefaults__, *vars(code), *extra)
    if isinstance(code, type):
        return (code, code.__bases__, type(code), *vars(code), *vars(code).values())
    if isinstance(code, ModuleType):
        return (code.__spec__, *vars(code))  # another one after importlib.reload
    if isinstance(code, MethodType):
        return (code, code.__func__, code.__self__)
    if isinstance(code, partial):
        return (code, code.func, *code.args, *code.keywords, *code.keywords.values())
    return (code,)


def quick_check(value: Any) -> Callable[[], bool] | None:
    """A quick way to tell whether a value has changed from now on; `None` where there is none."""
    if is_plain(value):
        known = pickle_digest(value)
        return lambda: is_plain(value) and pickle_digest(value) == known
    parts = _parts(value)
    if parts is None or any(map(is_mutable, parts)):
        return None

    def check() -> bool:
        now = _parts(value) or []
        return len(now) == len(parts) and all(map(operator.is_, now, parts))

    return check


def _parts(value: Any) -> list[Any] | None:
    if type(value) is dict:
        return [*value, *value.values()]
    return list(value) if type(value) in (list, tuple, set, frozenset) else None


def closure_values(code: Any) -> dict[str, Any]:
    """The variables around a function that it uses; `MISSING` for those not yet bound."""
    if not isinstance(code, FunctionType) or not code.__closure__:
        return {}
    return dict(zip(code.__code__.co_freevars, _cells(code), strict=True))


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet bound
            yield MISSING


def reference_to(name: str, value: Any, owner: Any, first_party: FirstParty) -> Reference:
    """What stands for a value in the fingerprint of a definition.

    Args:
        name: What the value is called there, such as `the global K`.
        value: The value.
        owner: The definition that uses it.
        first_party: Tells which code is the user's own.

    Raises:
        PipelineError: The value cannot be hashed.
    """
    definitions: list[Any] = []
    packages: set[str] = set()

    def stand_in(inner: Any) -> tuple[str] | None:
        return text_for(inner, first_party, definitions, packages)

    try:
        named = stand_in(value)
        text = digest(value, stand_in) if named is None else named[0]
    except PipelineError:
        raise
    except Exception as error:  # whatever pickle raises for the user's own types
        what, remedy = _unhashed(name, value, owner, stand_in)
        raise PipelineError(
            f"{title_of(owner)} has {what}, which cannot be hashed ({reason(error)}), so a change "
            f"of it would go unseen; {remedy}{REMEDY}"
        ) from error
    return Reference(text, tuple(definitions), tuple(map(id, definitions)), frozenset(packages))


def _unhashed(name: str, value: Any, owner: Any, stand_in: StandIn) -> tuple[str, str]:
    """What of a value cannot be hashed, in words, and what else than a version may help."""
    if not (isinstance(owner, MethodType) and name == "self") and owner is not value:
        return name, ""
    attributes = getattr(value, "__dict__", {})
    found = [each for each, inner in attributes.items() if not _is_hashable(inner, stand_in)]
    where = f" ({', '.join(f'self.{each}' for each in found)})" if found else ""
    return f"self{where}", "leave out of the object's __getstate__ what changes no result, or "


def _is_hashable(value: Any, stand_in: StandIn) -> bool:
    try:
        digest(value, stand_in)
    except Exception:  # whatever pickle raises for the user's own types
        return False
    return True


def title_of(code: Any) -> str:
    """The name of a definition, for messages."""
    while isinstance(code, partial):
        code = code.func
    named = code if hasattr(code, "__qualname__") or hasattr(code, "__name__") else type(code)
    return str(getattr(named, "__qualname__", None) or named.__name__)
