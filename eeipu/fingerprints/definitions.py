"""The parts of a program that code fingerprints follow, and what each of them is made of.

A part is a function, a class or a module of the user's own. It has a source, and items: what its
closure, its defaults, its attributes and the names in its source stand for. An item is a digest,
in which other parts are numbered; so a part is described without the parts that it uses.
"""

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.class_members import (
    attributes,
    bases,
    free_variables,
    maker,
    members,
    methods,
)
from eeipu.fingerprints.free_names import Names, names_in
from eeipu.fingerprints.references import (
    BUILTIN_LOOKUPS,
    MISSING,
    Foreign,
    finds_code,
    is_followed,
    is_lookup,
    is_mutable,
    is_value,
    name_of,
)
from eeipu.fingerprints.sources import ChangedSourceError, Home, Sources
from eeipu.fingerprints.values import digest, reason

__all__ = ["Item", "Part", "UnreadableError", "described", "item_of", "state_of"]

REMEDY = 'name the code yourself with stage(version="1") and change it with the code.'


class UnreadableError(PipelineError):
    """Code has no source, as that which came from another process."""


@dataclass(frozen=True)
class Item:
    """What stands for a value.

    Attributes:
        text: A name or a digest, in which parts go by their place in `uses`.
        uses: The parts in it.
        ids: Theirs, by which they are compared.
        packages: The installed packages that it comes from.
    """

    text: str
    uses: tuple[Any, ...] = field(default=(), compare=False)
    ids: tuple[int, ...] = ()
    packages: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Part:
    """A part as it was when it was last looked at.

    Attributes:
        code: The function, class or module; in place of a function also a callable object.
        source: What is written in it, as far as it can matter.
        names: The names in its source.
        items: What it has, and what its names stand for.
        state: The objects that it consists of (`state_of`).
        reads: Where its names were looked up: namespace, name, and what was there.
        mutable: Name, value and part of those items that can change in place.
    """

    code: Any
    source: str
    names: Names
    items: Mapping[str, Item]
    state: tuple[Any, ...]
    reads: tuple[tuple[Mapping[str, Any], str, Any], ...]
    mutable: tuple[tuple[str, Any, Any], ...]


ItemOf = Callable[[str, Any, Any], Item]


def state_of(code: Any) -> tuple[Any, ...]:
    """The objects that a part consists of. While none is another, it only changes inside them.

    The first one tells whether its source is still the same.
    """
    if isinstance(code, FunctionType):
        extra = (*(code.__kwdefaults__ or {}).values(), *_cells(code), *vars(code).values())
        return (code.__code__, code.__defaults__, code.__kwdefaults__, *vars(code), *extra)
    if isinstance(code, type):
        return (code, *bases(code), *vars(code), *vars(code).values())
    if isinstance(code, ModuleType):
        return (code.__spec__, *vars(code))  # another one after importlib.reload
    if isinstance(code, MethodType):
        return (code, code.__func__, code.__self__)
    return (code,)


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet bound
            yield MISSING


def item_of(name: str, value: Any, part: Any, home: Home) -> Item:
    """What stands for a value that a part has under a name.

    Raises:
        PipelineError: The value cannot be hashed.
    """
    uses: list[Any] = []
    packages: set[str] = set()

    def code(inner: Any) -> tuple[str] | None:
        return name_of(inner, home, uses, packages)

    try:
        named = code(value)
        text = digest(value, code) if named is None else named[0]
    except PipelineError:
        raise
    except Exception as error:  # whatever pickle raises for the user's own types
        raise PipelineError(
            f"{_title(part)} has {name}, which cannot be hashed ({reason(error)}), so a change of "
            f"it would go unseen; {REMEDY}"
        ) from error
    return Item(text, tuple(uses), tuple(map(id, uses)), frozenset(packages))


def described(code: Any, last: Part | None, home: Home, sources: Sources, item: ItemOf) -> Part:
    """A part as it is now.

    Args:
        code: The part.
        last: What it was before. While its code is the same, its source is not read again.
        home: Whose code is whose.
        sources: Where source is read.
        item: `item_of`.

    Raises:
        PipelineError: It has no source, or a value in it cannot be hashed, or it finds code by a
            string.
    """
    description = _Description(code, home, item)
    if last is not None and last.state[0] is state_of(code)[0]:
        description.source, description.names = last.source, last.names
        is_made = not last.source
    else:
        is_made = not description.read(sources)
    description.add_own(is_made=is_made)
    description.add_names()
    return description.part()


_NO_NAMES = Names(frozenset(), ())


class _Description:
    def __init__(self, code: Any, home: Home, item: ItemOf) -> None:
        self._code = code
        self._home = home
        self._item = item
        self.source = ""
        self.names = _NO_NAMES
        self._state = state_of(code)
        self._items: dict[str, Item] = {}
        self._reads: list[tuple[Mapping[str, Any], str, Any]] = []
        self._mutable: list[tuple[str, Any, Any]] = []

    def part(self) -> Part:
        """The part, once all has been added."""
        code, source, names = self._code, self.source, self.names
        reads, mutable = tuple(self._reads), tuple(self._mutable)
        return Part(code, source, names, self._items, self._state, reads, mutable)

    def read(self, sources: Sources) -> bool:
        """Read the source; whether there is one."""
        code = self._code
        if isinstance(code, MethodType) or _is_folder(code) or is_value(code, self._home):
            return False
        try:
            tree = sources.read(code)
            self.names = names_in(tree, free_variables(code, self._home))
        except (OSError, TypeError, SyntaxError) as error:
            if isinstance(code, type):
                return self._check_made(code)
            kind = PipelineError if isinstance(error, ChangedSourceError) else UnreadableError
            raise kind(
                f"the source of {_title(code)} cannot be read ({error}), so a change of it would "
                f"go unseen; {REMEDY}"
            ) from error
        self.source = ast.dump(tree)
        return True

    def _check_made(self, code: type) -> bool:
        by = maker(code, self._home)
        if by is not None:
            raise UnreadableError(
                f"the class {_title(code)} has no source (it was made by a call, or in a notebook "
                f"without a method), and what {by.__module__}.{by.__qualname__} keeps of it is not "
                f"known, so a change of it would go unseen; write it as a class statement in a "
                f"module, or {REMEDY}"
            )
        return False

    def add_own(self, *, is_made: bool) -> None:
        """Add what the part has by itself."""
        code = self._code
        if is_value(code, self._home):
            self._add("its content", code)
        elif isinstance(code, MethodType):
            self._add("self", code.__self__)
            self._add("function", code.__func__)
        else:
            for name, value in _captured(code):
                self._add(name, value)
            as_made = is_made and isinstance(code, type)
            own = members(code) if as_made else attributes(code, self._home)
            for name, value in own:
                self._add(f"the attribute {name}", value)
            # Each method is a part of its own: its closure and imports are no other method's.
            for number, inner in enumerate((*bases(code), *methods(code, self._home))):
                self._add(f"part {number}", inner)

    def _add(self, name: str, value: Any) -> None:
        name = self._put(name, self._item(name, value, self._code))
        if is_mutable(value):
            self._mutable.append((name, value, self._code))

    def _put(self, name: str, item: Item) -> str:
        """Keep an item, under another name where two have one."""
        while self._items.get(name, item) != item:  # `if` and `else` may import one name each
            name += "'"
        self._items[name] = item
        return name

    def add_names(self) -> None:
        """Add what each name in the source stands for, where that is not Python's own."""
        code = self._code
        if self.names == _NO_NAMES and not isinstance(code, ModuleType):
            return
        scope = _scope(code)
        imported = {} if isinstance(code, type) else self._imported(scope)
        for chain in sorted(self.names.chains | _all_of_module(code)):
            for start in imported.get(chain[0]) or self._found(chain[0], scope):
                self._add_name(chain, start)

    def _found(self, name: str, scope: Mapping[str, Any]) -> list[Any]:
        """What a name stands for, if it is not Python's."""
        closure = _closure(self._code)
        if name in closure:
            return [closure[name]]
        value = scope.get(name, MISSING)
        self._reads.append((scope, name, value))
        value = BUILTIN_LOOKUPS.get(name, MISSING) if value is MISSING else value
        return [] if value is MISSING else [value]

    def _imported(self, scope: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Name -> what each import inside the source gives it."""
        found: dict[str, list[Any]] = {}
        for name, module, attribute in self.names.imports:
            with suppress(ImportError, ValueError):  # beyond the package: fails when it runs
                package = scope.get("__package__")
                module = importlib.util.resolve_name(module, package)
                found.setdefault(name, []).extend(self._import(name, module, attribute))
        return found

    def _import(self, name: str, module: str, attribute: str | None) -> list[Any]:
        """What an import gives. Only the user's own modules are imported for it."""
        if not self._home.owns_by_name(module):
            return [Foreign(module, attribute)]
        try:
            taken = importlib.import_module(module)
            if attribute is None:
                return [sys.modules[name] if module.startswith(f"{name}.") else taken]
            if not hasattr(taken, attribute):
                importlib.import_module(f"{module}.{attribute}")
            self._reads.append((vars(taken), attribute, vars(taken).get(attribute, MISSING)))
            return [getattr(taken, attribute)]
        except (Exception, SystemExit):  # the source can live without it, or fails when it runs
            self._reads.append((sys.modules, module, sys.modules.get(module, MISSING)))
            self._put(f"the import {module}", Item("cannot be imported"))
            return []

    def _add_name(self, chain: tuple[str, ...], start: Any) -> None:
        value = start.value() if isinstance(start, Foreign) else start
        shown, value = self._resolve(value, chain)
        if not isinstance(self._code, ModuleType) and is_lookup(chain, shown, value):
            raise PipelineError(  # a module's own start is over
                f"{_title(self._code)} uses {'.'.join(chain)}, so what it runs only shows while "
                f"it runs, and a change of that would go unseen; use an import statement or a "
                f"plain name, or {REMEDY}"
            )
        if isinstance(start, Foreign) and not is_followed(value, self._home):
            # By name alone: whether it is loaded by now must not matter.
            package = frozenset({start.module.partition(".")[0]})
            self._put(f"the import {chain[0]}", Item(start.name, packages=package))
        else:
            self._add(f"the global {shown}", value)

    def _resolve(self, value: Any, chain: tuple[str, ...]) -> tuple[str, Any]:
        """The value that a dotted name leads to, as far as it leads through the user's modules."""
        depth = 1
        while depth < len(chain) and isinstance(value, ModuleType) and self._home.owns(value):
            scope, name = vars(value), chain[depth]
            self._reads.append((scope, name, scope.get(name, MISSING)))
            if name not in scope and not hasattr(value, name):
                break
            value = scope[name] if name in scope else self._computed(value, name)
            depth += 1
        planted = self._within(value, chain[depth:])
        is_own = isinstance(planted, type | FunctionType) and self._home.owns(planted)
        if is_own or finds_code(planted):
            return ".".join(chain), planted
        return ".".join(chain[:depth]), value

    def _computed(self, module: ModuleType, name: str) -> Any:
        """What a module makes up when it is asked: every look asks again."""
        self._state = (*self._state, MISSING)  # like no state
        return getattr(module, name)

    def _within(self, module: Any, chain: tuple[str, ...]) -> Any:
        """What a name in an installed module leads to, which may be the user's own, put there."""
        for name in chain:
            if not isinstance(module, ModuleType):
                break
            scope = vars(module)
            module = scope.get(name, MISSING)  # not getattr: that may import
            self._reads.append((scope, name, module))
        return module


def _captured(code: Any) -> Iterator[tuple[str, Any]]:
    """The values that a function carries with it besides its source."""
    if isinstance(code, FunctionType):
        closure = _closure(code)
        if any(value is MISSING for value in closure.values()):
            raise PipelineError(
                f"{_title(code)} has closure values that are not yet bound; {REMEDY}"
            )
        for name, value in closure.items():
            yield f"the closure value {name}", value
        yield "the defaults", code.__defaults__
        for name, value in (code.__kwdefaults__ or {}).items():
            yield f"the default {name}", value


def _closure(code: Any) -> dict[str, Any]:
    if not isinstance(code, FunctionType):
        return {}
    closure = dict(zip(code.__code__.co_freevars, _cells(code), strict=True))
    closure.pop("__class__", None)  # what `super()` needs
    return closure


def _all_of_module(code: Any) -> set[tuple[str, ...]]:
    """The names that a module used as a whole has, also those that it imports from others."""
    names = vars(code) if isinstance(code, ModuleType) else ()
    return {(name,) for name in names if not (name.startswith("__") and name.endswith("__"))}


def _scope(code: Any) -> dict[str, Any]:
    """Where the names in a source are looked up."""
    if isinstance(code, FunctionType):
        return code.__globals__
    module = code if isinstance(code, ModuleType) else sys.modules.get(code.__module__ or "")
    return {} if module is None else vars(module)


def _is_folder(code: Any) -> bool:
    """Whether a module is a folder without code of its own."""
    return isinstance(code, ModuleType) and getattr(code, "__file__", None) is None


def _title(code: Any) -> str:
    return str(getattr(code, "__qualname__", None) or getattr(code, "__name__", repr(code)))
