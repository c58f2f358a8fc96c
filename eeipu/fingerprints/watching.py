"""Telling quickly that nothing has changed in code since it was read.

To look at thousands of definitions one by one takes a second. Here the objects in all of them are
compared with those that were there when they were read, in loops that Python runs in C.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from operator import attrgetter, is_
from types import FunctionType, MappingProxyType
from typing import Any

from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.reading.definitions import Definition, components_of, reference_to
from eeipu.fingerprints.reading.references import MISSING

__all__ = ["Watch"]

Check = Callable[[], bool]
"""Tells whether something is still what it was."""

_IN_FUNCTIONS = ("__code__", "__defaults__", "__kwdefaults__")  # as `components_of` has them
_content_of = attrgetter("cell_contents")
_attributes_of = attrgetter("__dict__")
_bases_of = attrgetter("__bases__")


class Watch:
    """Watches definitions for changes.

    Args:
        definitions: The definitions, as they were read.
        first_party: Tells which code is the user's own.
    """

    def __init__(self, definitions: Iterable[Definition], first_party: FirstParty) -> None:
        known = list(definitions)
        functions = [each for each in known if type(each.code) is FunctionType]
        plain = [each for each in functions if not (each.code.__kwdefaults__ or vars(each.code))]
        classes = [each for each in known if isinstance(each.code, type)]
        alone = {id(each) for each in known} - {id(each) for each in (*plain, *classes)}
        self._checks = [
            _functions_check(plain),
            _classes_check(classes),
            _names_check(known),
            *(_definition_check(each) for each in known if id(each) in alone),
        ]
        self._value_checks: dict[int, Check] = {}
        for value, check in _value_checks(known, first_party):
            self._value_checks.setdefault(value, check)  # the first, taken before the digest

    def is_still(self, checked: dict[int, bool]) -> bool:
        """Whether nothing has changed.

        Args:
            checked: For the ids of values, whether they are still what they were. Those that are
                looked at now are added.
        """
        try:
            for value, check in self._value_checks.items():
                if value not in checked:
                    checked[value] = check()
                if not checked[value]:
                    return False
            return all(check() for check in self._checks)
        except Exception:  # a variable that is not bound any more, or a value that has no digest
            return False


def _are_same(values: Iterable[Any], known: Sequence[Any]) -> bool:
    return all(map(is_, values, known))


def _functions_check(definitions: Sequence[Definition]) -> Check:
    """The check of functions without attributes and defaults by keyword."""
    functions = [each.code for each in definitions]
    parts = [attrgetter(name) for name in _IN_FUNCTIONS]
    known = [[each.components[i] for each in definitions] for i in range(len(parts))]
    cells = [cell for each in functions for cell in each.__closure__ or ()]
    contents = [value for each in definitions for value in each.components[len(parts) :]]
    is_complete = len(cells) == len(contents)

    def check() -> bool:
        return (
            is_complete
            and all(
                _are_same(map(part, functions), v) for part, v in zip(parts, known, strict=True)
            )
            and _are_same(map(_content_of, cells), contents)
            and not any(map(_attributes_of, functions))
        )

    return check


def _classes_check(definitions: Sequence[Definition]) -> Check:
    classes = [each.code for each in definitions]
    bases = [each.components[1] for each in definitions]
    kinds = [each.components[2] for each in definitions]
    sizes = [len(each.components[3:]) // 2 for each in definitions]
    halves = list(zip((each.components[3:] for each in definitions), sizes, strict=True))
    names = [name for both, size in halves for name in both[:size]]
    values = [value for both, size in halves for value in both[size:]]

    def check() -> bool:
        members = list(map(vars, classes))
        return (
            list(map(len, members)) == sizes
            and _are_same(map(type, classes), kinds)
            and _are_same(map(_bases_of, classes), bases)
            and _are_same(chain.from_iterable(members), names)
            and _are_same(chain.from_iterable(map(MappingProxyType.values, members)), values)
        )

    return check


def _names_check(definitions: Iterable[Definition]) -> Check:
    scopes: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
    is_consistent = True
    for scope, name, value in (lookup for each in definitions for lookup in each.lookups):
        _, values = scopes.setdefault(id(scope), (scope, {}))
        is_consistent &= values.setdefault(name, value) is value
    known = [(scope.get, list(names), list(names.values())) for scope, names in scopes.values()]

    def check() -> bool:
        return is_consistent and all(
            _are_same(map(get, names, repeat(MISSING)), values) for get, names, values in known
        )

    return check


def _definition_check(definition: Definition) -> Check:
    known = definition.components

    def check() -> bool:
        components = components_of(definition.code)
        return len(components) == len(known) and _are_same(components, known)

    return check


def _value_checks(
    definitions: Iterable[Definition], first_party: FirstParty
) -> Iterable[tuple[int, Check]]:
    """Checks of the values that may change while they stay the same objects, by their ids."""
    for each in definitions:
        for name, value, quick in each.mutable:
            yield id(value), quick or _reference_check(each, name, value, first_party)


def _reference_check(
    definition: Definition, name: str, value: Any, first_party: FirstParty
) -> Check:
    known = definition.references[name]
    return lambda: reference_to(name, value, definition.code, first_party) == known
