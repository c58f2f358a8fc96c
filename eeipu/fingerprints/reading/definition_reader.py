"""Reading one definition: its source, what it has by itself, and what its names refer to."""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.reading.class_members import (
    attributes,
    bases,
    making_library_class,
    methods,
    values_made_with,
)
from eeipu.fingerprints.reading.definitions import (
    REMEDY,
    Definition,
    Lookup,
    MakeReference,
    Reference,
    components_of,
    quick_check,
    title_of,
)
from eeipu.fingerprints.reading.extension_points import accessors, operator_definition, registered
from eeipu.fingerprints.reading.name_resolution import Meaning, NameResolver, closure_of, scope_of
from eeipu.fingerprints.reading.references import (
    MISSING,
    LibraryName,
    is_followed,
    is_mutable,
    is_value,
)
from eeipu.fingerprints.reading.unwritten import check_lookups, detail_read, names_in_texts
from eeipu.fingerprints.syntax.free_names import Names
from eeipu.fingerprints.syntax.sources import ChangedSourceError, Detail, Sources, UnreadableError

__all__ = ["read_definition"]


def read_definition(
    code: Any,
    last: Definition | None,
    first_party: FirstParty,
    sources: Sources,
    reference_to: MakeReference,
) -> Definition:
    """Read a definition as it is now.

    Args:
        code: The function, class or module, or a callable object.
        last: The definition as it was read before. While its code is the same object, its source
            is not read again.
        first_party: Tells which code is the user's own.
        sources: Where source is read.
        reference_to: Makes the references; see `reference_to` in `definitions`.

    Raises:
        PipelineError: The definition has no source, or uses a value that cannot be hashed, or
            looks up code by a string.
    """
    draft = _Draft(code, first_party, reference_to, sources.detail)
    if last is not None and last.components[0] is components_of(code)[0]:
        draft.source, draft.names = last.source, last.names
        has_source = bool(last.source)
    else:
        has_source = draft.read_source(sources)
    draft.add_own_values(has_source=has_source)
    draft.add_names()
    return draft.definition()


_NO_NAMES = Names(frozenset())


class _Draft:
    """A definition to which references are being added."""

    def __init__(
        self, code: Any, first_party: FirstParty, reference_to: MakeReference, detail: Detail
    ) -> None:
        self._code = code
        self._detail = detail
        self._first_party = first_party
        self._reference_to = reference_to
        self.source = ""
        self.names = _NO_NAMES
        self._components = components_of(code)
        self._references: dict[str, Reference] = {}
        self._lookups: list[Lookup] = []
        self._mutable: list[tuple[str, Any, Callable[[], bool] | None]] = []
        self._values: list[Any] = []
        self._reads = Detail.CODE

    def definition(self) -> Definition:
        """The finished definition."""
        return Definition(
            self._code,
            self.source,
            self.names,
            self._references,
            self._components,
            tuple(self._lookups),
            tuple(self._mutable),
            self._detail,
            self._reads,
        )

    def read_source(self, sources: Sources) -> bool:
        """Read the source, and return whether there is one."""
        code = self._code
        if isinstance(code, MethodType) or _is_folder(code) or is_value(code, self._first_party):
            return False
        try:
            self.names, self.source = sources.read(code)
        except (OSError, TypeError, SyntaxError) as error:
            if isinstance(code, type):
                self._check_made(code)
                return False
            kind = PipelineError if isinstance(error, ChangedSourceError) else UnreadableError
            raise kind(
                f"the source of {title_of(code)} cannot be read ({error}), so a change of it "
                f"would go unseen; {REMEDY}"
            ) from error
        return True

    def _check_made(self, code: type) -> None:
        """Refuse a class without source of which only a library knows how it was made."""
        library_class = making_library_class(code, self._first_party)
        if library_class is not None:
            name = f"{library_class.__module__}.{library_class.__qualname__}"
            raise UnreadableError(
                f"the class {title_of(code)} has no source (it was made by a call, or in a "
                f"notebook without a method), and what {name} keeps of it is not known, so a "
                f"change of it would go unseen; write it as a class statement in a module, or "
                f"{REMEDY}"
            )

    def add_own_values(self, *, has_source: bool) -> None:
        """Add what the definition has by itself: closure, defaults, attributes, methods, bases."""
        code = self._code
        if isinstance(code, partial):
            self._add("function", code.func)
            for number, value in enumerate(code.args):
                self._add(f"the bound argument {number}", value)
            for name, value in code.keywords.items():
                self._add(f"the bound argument {name!r}", value)
            # Not by vars, which gives a partial a dictionary and so another pickle.
            if code.__reduce__()[2][3] or type(code) is not partial:
                self._add("its content", code)
        elif is_value(code, self._first_party):
            self._add("its content", code)
        elif isinstance(code, MethodType):
            self._add("self", code.__self__)
            self._add("function", code.__func__)
        else:
            for name, value in _captured_values(code):
                self._add(name, value)
            is_made = not has_source and isinstance(code, type)
            own = values_made_with(code) if is_made else attributes(code, self._first_party)
            for name, value in own:
                self._add(f"the attribute {name}", value)
            # Each method is a definition of its own: it shares no closure and no imports.
            for number, inner in enumerate((*bases(code), *methods(code, self._first_party))):
                self._add(f"part {number}", inner)

    def _add(self, name: str, value: Any) -> None:
        may_change = is_mutable(value)
        quick = quick_check(value) if may_change else None  # before the digest is taken
        name = self._put(name, self._reference_to(name, value, self._code))
        self._values.append(value)
        if may_change:
            self._mutable.append((name, value, quick))

    def _put(self, name: str, reference: Reference) -> str:
        """Keep a reference. Where another one has its name, its name is changed and returned."""
        while self._references.get(name, reference) != reference:
            name += "'"  # `if` and `else` may import one name each
        self._references[name] = reference
        return name

    def add_names(self) -> None:
        """Add what each name in the source refers to, except Python's own names."""
        code, names = self._code, self.names
        if names == _NO_NAMES and not isinstance(code, ModuleType):
            return
        resolver = NameResolver(code, names, self._first_party)
        found = [
            meaning
            for chain in sorted(names.chains | _all_of_module(code))
            for meaning in resolver.meanings(chain)
        ]
        for module in resolver.failed:
            self._put(f"the import {module}", Reference("cannot be imported"))
        for each in found:
            self._add_meaning(each)
        if self._is_users():
            check_lookups(code, names, found)
            self._reads = detail_read(names, found)
            for chain in sorted(names_in_texts(code, names, found, self._values, resolver.scope)):
                for each in resolver.meanings(chain):
                    self._add_meaning(each)
            self._add_from_libraries(found)
        self._lookups += resolver.lookups
        if resolver.is_computed:
            self._components = (*self._components, MISSING)  # equal to no later components

    def _is_users(self) -> bool:
        """Whether it is code of the user's own that runs, and not a module, whose start is over.

        A library's functions inside of functions, as decorators make them, are not.
        """
        origin = sys.modules.get(scope_of(self._code).get("__name__", ""))
        is_users = origin is None or self._first_party.owns(origin)
        return is_users and not isinstance(self._code, ModuleType)

    def _add_meaning(self, meaning: Meaning) -> None:
        start, value = meaning.start, meaning.value
        if isinstance(start, LibraryName) and not is_followed(value, self._first_party):
            # By name alone: whether it is loaded by now must not matter.
            package = frozenset({start.module.partition(".")[0]})
            name = f"the import {meaning.chain[0]}"
            self._put(name, Reference(start.name, packages=package))
        else:
            self._add(f"the global {meaning.shown}", value)

    def _add_from_libraries(self, found: Iterable[Meaning]) -> None:
        """Add what the user's code has put into libraries and the source takes from there."""
        for lookup, value in accessors(self.names.attributes):
            if isinstance(value, type | FunctionType) and self._first_party.owns(value):
                self._lookups.append(lookup)
                self._add(f"the attribute {lookup[1]} of a library's class", value)
        for lookup in registered(self.names.texts):
            reference = self._reference_to(f"the registered {lookup[1]}", lookup[2], self._code)
            if reference.definitions:
                self._lookups.append(lookup)
                self._put(f"the registered {lookup[1]}", reference)
        for each in found:
            definition = self._operator(each.path)
            if definition is not None:
                self._add(f"the operator {each.path}", definition)

    def _operator(self, path: str) -> Any:
        try:
            return operator_definition(path)
        except LookupError as error:
            raise PipelineError(
                f"{title_of(self._code)} uses {path}, whose definition cannot be found, so a "
                f"change of it would go unseen; define it with torch.library.custom_op and call "
                f"it by its own name, or {REMEDY}"
            ) from error


def _captured_values(code: Any) -> Iterator[tuple[str, Any]]:
    """The values that a function carries besides its source: closure and defaults."""
    if isinstance(code, FunctionType):
        closure = closure_of(code)
        if any(value is MISSING for value in closure.values()):
            raise PipelineError(
                f"{title_of(code)} has closure values that are not yet bound; {REMEDY}"
            )
        for name, value in closure.items():
            yield f"the closure value {name}", value
        yield "the defaults", code.__defaults__
        for name, value in (code.__kwdefaults__ or {}).items():
            yield f"the default {name}", value


def _all_of_module(code: Any) -> set[tuple[str, ...]]:
    """All names of a module that is used as a whole, including those that it imports."""
    names = vars(code) if isinstance(code, ModuleType) else ()
    return {(name,) for name in names if not (name.startswith("__") and name.endswith("__"))}


def _is_folder(code: Any) -> bool:
    """Whether a module is a folder without code of its own."""
    return isinstance(code, ModuleType) and getattr(code, "__file__", None) is None
