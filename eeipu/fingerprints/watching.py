"""Telling quickly that nothing has changed in code since it was read.

To look at thousands of definitions one by one takes a second. Here the objects in all of them are
compared with those that were there when they were read, in loops that Python runs in C.
"""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, call, is_, itemgetter
from types import FunctionType, MappingProxyType
from typing import Any

from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.reading.definitions import Definition, components_of, reference_to
from eeipu.fingerprints.reading.references import MISSING

__all__ = ["Watch"]

Check = Callable[[], bool]
"""Tells whether something is still what it was."""

# Larger lists are not taken from memory that Python has at hand.
_AT_ONCE = 512

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
        bare = [each for each in plain if not (each.code.__defaults__ or each.code.__closure__)]
        others = [each for each in plain if each.code.__defaults__ or each.code.__closure__]
        classes = [each for each in known if isinstance(each.code, type)]
        alone = {id(each) for each in known} - {id(each) for each in (*plain, *classes)}
        self._checks = [
            _bare_check(bare),
            _functions_check(others),
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


def _bare_check(definitions: Sequence[Definition]) -> Check:
    """The check of functions that have no defaults and no closure either.

    At first, all that they refer to is compared as a whole: their code, and their names and
    namespaces, for which being equal is enough. Defaults and the like would be further objects.
    """
    exact = _functions_check(definitions)
    # In the order in which they lie in memory, which is read much faster so.
    functions = sorted((each.code for each in definitions), key=id)
    parts = [functions[i : i + _AT_ONCE] for i in range(0, len(functions), _AT_ONCE)]
    attributes = list(map(_attributes_of, functions))  # which makes those that are not there yet
    known: list[list[Any]] = []

    def check() -> bool:
        nonlocal known
        if not any(attributes) and known == [gc.get_referents(*part) for part in parts]:
            return True
        # They may just have a new docstring, or hints that were looked at.
        found = [gc.get_referents(*part) for part in parts]
        known = found if exact() else []
        return known is found

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
        _, inside = scopes.setdefault(id(scope), (scope, {}))
        is_consistent &= inside.setdefault(name, value) is value
    spaces: list[Mapping[str, Any]] = []
    getters: list[Callable[[Any], tuple[Any, ...]]] = []
    values: list[Any] = []
    missing: list[tuple[Callable[[Any], bool], set[str]]] = []
    for scope, known in sorted(scopes.values(), key=lambda each: id(each[0])):
        bound = [name for name, value in known.items() if value is not MISSING]
        if bound:
            names = bound if len(bound) > 1 else bound * 2  # of one name it gives no tuple
            spaces.append(scope)
            getters.append(itemgetter(*names))
            values += [known[name] for name in names]
        missing.append((scope.keys().isdisjoint, known.keys() - set(bound)))
    are_free, unbound = zip(*missing, strict=True) if missing else ((), ())

    def check() -> bool:
        try:
            found = chain.from_iterable(map(call, getters, spaces))
            return is_consistent and _are_same(found, values) and all(map(call, are_free, unbound))
        except KeyError:  # a name that has no value any more
            return False

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
