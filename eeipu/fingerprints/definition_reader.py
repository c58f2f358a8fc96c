"""Reading one definition: its source, what it has by itself, and what its names refer to."""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.class_members import (
    attributes,
    bases,
    free_variables,
    making_library_class,
    methods,
    values_made_with,
)
from eeipu.fingerprints.definitions import (
    REMEDY,
    Definition,
    MakeReference,
    Reference,
    closure_values,
    components_of,
    title_of,
)
from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.free_names import Names, names_in
from eeipu.fingerprints.references import (
    BUILTIN_LOOKUPS,
    MISSING,
    LibraryName,
    finds_code,
    is_followed,
    is_lookup,
    is_mutable,
    is_value,
)
from eeipu.fingerprints.sources import ChangedSourceError, Sources

__all__ = ["UnreadableError", "read_definition"]


class UnreadableError(PipelineError):
    """Code has no source here, such as code that came from another process."""


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
        reference_to: Makes the references; see `eeipu.fingerprints.definitions.reference_to`.

    Raises:
        PipelineError: The definition has no source, or uses a value that cannot be hashed, or
            looks up code by a string.
    """
    draft = _Draft(code, first_party, reference_to)
    if last is not None and last.components[0] is components_of(code)[0]:
        draft.source, draft.names = last.source, last.names
        has_source = bool(last.source)
    else:
        has_source = draft.read_source(sources)
    draft.add_own_values(has_source=has_source)
    draft.add_names()
    return draft.definition()


_NO_NAMES = Names(frozenset(), ())


class _Draft:
    """A definition to which references are being added."""

    def __init__(self, code: Any, first_party: FirstParty, reference_to: MakeReference) -> None:
        self._code = code
        self._first_party = first_party
        self._reference_to = reference_to
        self.source = ""
        self.names = _NO_NAMES
        self._components = components_of(code)
        self._references: dict[str, Reference] = {}
        self._lookups: list[tuple[Mapping[str, Any], str, Any]] = []
        self._mutable: list[tuple[str, Any, Any]] = []

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
        )

    def read_source(self, sources: Sources) -> bool:
        """Read the source, and return whether there is one."""
        code = self._code
        if isinstance(code, MethodType) or _is_folder(code) or is_value(code, self._first_party):
            return False
        try:
            tree = sources.read(code)
            self.names = names_in(tree, free_variables(code, self._first_party))
        except (OSError, TypeError, SyntaxError) as error:
            if isinstance(code, type):
                self._check_made(code)
                return False
            kind = PipelineError if isinstance(error, ChangedSourceError) else UnreadableError
            raise kind(
                f"the source of {title_of(code)} cannot be read ({error}), so a change of it "
                f"would go unseen; {REMEDY}"
            ) from error
        self.source = ast.dump(tree)
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
        if is_value(code, self._first_party):
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
        name = self._put(name, self._reference_to(name, value, self._code))
        if is_mutable(value):
            self._mutable.append((name, value, self._code))

    def _put(self, name: str, reference: Reference) -> str:
        """Keep a reference. Where another one has its name, its name is changed and returned."""
        while self._references.get(name, reference) != reference:
            name += "'"  # `if` and `else` may import one name each
        self._references[name] = reference
        return name

    def add_names(self) -> None:
        """Add what each name in the source refers to, except Python's own names."""
        code = self._code
        if self.names == _NO_NAMES and not isinstance(code, ModuleType):
            return
        scope = _scope(code)
        imported = {} if isinstance(code, type) else self._imported(scope)
        for chain in sorted(self.names.chains | _all_of_module(code)):
            for start in imported.get(chain[0]) or self._looked_up(chain[0], scope):
                self._add_name(chain, start)

    def _looked_up(self, name: str, scope: Mapping[str, Any]) -> list[Any]:
        """The value that a name refers to; an empty list if it is one of Python's own."""
        closure = _closure(self._code)
        if name in closure:
            return [closure[name]]
        value = scope.get(name, MISSING)
        self._lookups.append((scope, name, value))
        value = BUILTIN_LOOKUPS.get(name, MISSING) if value is MISSING else value
        return [] if value is MISSING else [value]

    def _imported(self, scope: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Name -> the values that the imports inside the source may give it."""
        found: dict[str, list[Any]] = {}
        for name, module, attribute in self.names.imports:
            with suppress(ImportError, ValueError):  # beyond the package: fails when it runs
                package = scope.get("__package__")
                module = importlib.util.resolve_name(module, package)
                found.setdefault(name, []).extend(self._import(name, module, attribute))
        return found

    def _import(self, name: str, module: str, attribute: str | None) -> list[Any]:
        """The value that an import gives. Only the user's own modules are imported for it."""
        if not self._first_party.owns_by_name(module):
            return [LibraryName(module, attribute)]
        try:
            taken = importlib.import_module(module)
            if attribute is None:
                return [sys.modules[name] if module.startswith(f"{name}.") else taken]
            if not hasattr(taken, attribute):
                importlib.import_module(f"{module}.{attribute}")
            self._lookups.append((vars(taken), attribute, vars(taken).get(attribute, MISSING)))
            return [getattr(taken, attribute)]
        except (Exception, SystemExit):  # the source can live without it, or fails when it runs
            self._lookups.append((sys.modules, module, sys.modules.get(module, MISSING)))
            self._put(f"the import {module}", Reference("cannot be imported"))
            return []

    def _add_name(self, chain: tuple[str, ...], start: Any) -> None:
        value = start.value() if isinstance(start, LibraryName) else start
        shown, value = self._resolve(value, chain)
        if not isinstance(self._code, ModuleType) and is_lookup(chain, shown, value):
            raise PipelineError(  # a module's own start is over
                f"{title_of(self._code)} uses {'.'.join(chain)}, which finds code by a string, so "
                f"a change of that code would go unseen; use an import statement or a plain name, "
                f"or {REMEDY}"
            )
        if isinstance(start, LibraryName) and not is_followed(value, self._first_party):
            # By name alone: whether it is loaded by now must not matter.
            package = frozenset({start.module.partition(".")[0]})
            self._put(f"the import {chain[0]}", Reference(start.name, packages=package))
        else:
            self._add(f"the global {shown}", value)

    def _resolve(self, value: Any, chain: tuple[str, ...]) -> tuple[str, Any]:
        """Follow a dotted name through the user's modules; return how far it leads, and where."""
        depth = 1
        while (
            depth < len(chain) and isinstance(value, ModuleType) and self._first_party.owns(value)
        ):
            scope, name = vars(value), chain[depth]
            self._lookups.append((scope, name, scope.get(name, MISSING)))
            if name not in scope and not hasattr(value, name):
                break
            value = scope[name] if name in scope else self._computed(value, name)
            depth += 1
        planted = self._within(value, chain[depth:])
        is_own = isinstance(planted, type | FunctionType) and self._first_party.owns(planted)
        if is_own or finds_code(planted):
            return ".".join(chain), planted
        return ".".join(chain[:depth]), value

    def _computed(self, module: ModuleType, name: str) -> Any:
        """An attribute that a module computes when asked, so every reading has to ask again."""
        self._components = (*self._components, MISSING)  # equal to no later components
        return getattr(module, name)

    def _within(self, module: Any, chain: tuple[str, ...]) -> Any:
        """The value of a dotted name in an installed module, without importing anything.

        The user may have put code of their own there.
        """
        for name in chain:
            if not isinstance(module, ModuleType):
                break
            scope = vars(module)
            module = scope.get(name, MISSING)  # not getattr: that may import
            self._lookups.append((scope, name, module))
        return module


def _captured_values(code: Any) -> Iterator[tuple[str, Any]]:
    """The values that a function carries besides its source: closure and defaults."""
    if isinstance(code, FunctionType):
        closure = _closure(code)
        if any(value is MISSING for value in closure.values()):
            raise PipelineError(
                f"{title_of(code)} has closure values that are not yet bound; {REMEDY}"
            )
        for name, value in closure.items():
            yield f"the closure value {name}", value
        yield "the defaults", code.__defaults__
        for name, value in (code.__kwdefaults__ or {}).items():
            yield f"the default {name}", value


def _closure(code: Any) -> dict[str, Any]:
    closure = closure_values(code)
    closure.pop("__class__", None)  # what `super()` needs
    return closure


def _all_of_module(code: Any) -> set[tuple[str, ...]]:
    """All names of a module that is used as a whole, including those that it imports."""
    names = vars(code) if isinstance(code, ModuleType) else ()
    return {(name,) for name in names if not (name.startswith("__") and name.endswith("__"))}


def _scope(code: Any) -> dict[str, Any]:
    """The namespace in which the names of a source are looked up."""
    if isinstance(code, FunctionType):
        return code.__globals__
    module = code if isinstance(code, ModuleType) else sys.modules.get(code.__module__ or "")
    return {} if module is None else vars(module)


def _is_folder(code: Any) -> bool:
    """Whether a module is a folder without code of its own."""
    return isinstance(code, ModuleType) and getattr(code, "__file__", None) is None
