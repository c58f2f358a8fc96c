"""What the names in a definition's source refer to, now."""

import importlib
import importlib.util
import sys
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.reading.definitions import Lookup, closure_values
from eeipu.fingerprints.reading.references import BUILTIN_LOOKUPS, MISSING, LibraryName, finds_code
from eeipu.fingerprints.syntax.free_names import Names

__all__ = ["Meaning", "NameResolver", "closure_of", "scope_of"]


class Meaning(NamedTuple):
    """What a dotted name refers to.

    Attributes:
        chain: The name, one part after another.
        start: What its first part refers to.
        shown: The beginning of the name that leads to `value`.
        value: The value that counts, and not what it has under the rest of the name.
        whole: What the whole name refers to as far as modules lead; `MISSING` where that is not
            known.
        path: The name with that of an installed module in place of its first part; "" where there
            is none.
    """

    chain: tuple[str, ...]
    start: Any
    shown: str
    value: Any
    whole: Any
    path: str


class NameResolver:
    """Looks up the names of a definition, and notes where it looked.

    Args:
        code: The definition.
        names: The names in its source.
        first_party: Tells which code is the user's own.

    Attributes:
        scope: The namespace of its module.
        lookups: Where it looked.
        failed: The modules that an import in the source names and that cannot be imported.
        is_computed: Whether some value is computed whenever it is asked for.
    """

    def __init__(self, code: Any, names: Names, first_party: FirstParty) -> None:
        self.scope = scope_of(code)
        self.lookups: list[Lookup] = []
        self.failed: list[str] = []
        self.is_computed = False
        self._first_party = first_party
        self._closure = closure_of(code)
        self._imported = {} if isinstance(code, type) else self._imports(names)

    def meanings(self, chain: tuple[str, ...]) -> list[Meaning]:
        """What a dotted name may refer to; nothing if it is one of Python's own."""
        starts = self._imported.get(chain[0]) or self._looked_up(chain[0])
        return [self._meaning(chain, start) for start in starts]

    def _looked_up(self, name: str) -> list[Any]:
        if name in self._closure:
            return [self._closure[name]]
        value = self.scope.get(name, MISSING)
        self.lookups.append((self.scope, name, value))
        value = BUILTIN_LOOKUPS.get(name, MISSING) if value is MISSING else value
        return [] if value is MISSING else [value]

    def _imports(self, names: Names) -> dict[str, list[Any]]:
        """Name -> the values that the imports inside the source may give it."""
        found: dict[str, list[Any]] = {}
        for name, module, attribute in names.imports:
            with suppress(ImportError, ValueError):  # beyond the package: fails when it runs
                package = self.scope.get("__package__")
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
            self.lookups.append((vars(taken), attribute, vars(taken).get(attribute, MISSING)))
            return [getattr(taken, attribute)]
        except (Exception, SystemExit):  # the source can live without it, or fails when it runs
            self.lookups.append((sys.modules, module, sys.modules.get(module, MISSING)))
            self.failed.append(module)
            return []

    def _meaning(self, chain: tuple[str, ...], start: Any) -> Meaning:
        """Follow a dotted name through the user's modules, and look where it leads in others."""
        value = start.value() if isinstance(start, LibraryName) else start
        depth = 1
        while (
            depth < len(chain) and isinstance(value, ModuleType) and self._first_party.owns(value)
        ):
            scope, name = vars(value), chain[depth]
            self.lookups.append((scope, name, scope.get(name, MISSING)))
            if name not in scope and not _has(value, name):
                break
            value = scope[name] if name in scope else self._computed(value, name)
            depth += 1
        if isinstance(start, LibraryName):
            path = start.path(chain)
        elif isinstance(value, ModuleType) and not self._first_party.owns(value):
            path = ".".join((value.__name__, *chain[depth:]))
        else:
            path = ""
        reached, rest = self._within(value, chain[depth:])
        is_own = isinstance(reached, type | FunctionType) and self._first_party.owns(reached)
        if is_own or finds_code(reached):
            depth, value = len(chain), reached
        whole = MISSING if rest else reached
        return Meaning(chain, start, ".".join(chain[:depth]), value, whole, path)

    def _computed(self, module: ModuleType, name: str) -> Any:
        """An attribute that a module computes when asked, so every reading has to ask again."""
        self.is_computed = True
        return getattr(module, name)

    def _within(self, value: Any, chain: tuple[str, ...]) -> tuple[Any, int]:
        """How far a dotted name leads inside of installed modules, without importing anything.

        The user may have put code of their own there.

        Returns:
            What it leads to, and how many parts of the name are left.
        """
        for depth, name in enumerate(chain):
            if not isinstance(value, ModuleType):
                return value, len(chain) - depth
            scope = vars(value)
            value = scope.get(name, MISSING)  # not getattr: that may import
            self.lookups.append((scope, name, value))
        return value, 0


def _has(module: ModuleType, name: str) -> bool:
    try:
        return hasattr(module, name)
    except Exception:  # what a module computes may need a library that is not there
        return False


def closure_of(code: Any) -> dict[str, Any]:
    """The variables around a function that its source names."""
    closure = closure_values(code)
    closure.pop("__class__", None)  # what `super()` needs
    return closure


def scope_of(code: Any) -> dict[str, Any]:
    """The namespace in which the names of a source are looked up."""
    if isinstance(code, FunctionType):
        return code.__globals__
    module = code if isinstance(code, ModuleType) else sys.modules.get(code.__module__ or "")
    return {} if module is None else vars(module)
