"""Code fingerprints: what a stage's function does, followed into the user's own code.

The fingerprint covers a function's source, its defaults and closure values, and, through as many
steps as there are, the functions, classes and module-level constants that it uses from the user's
own modules and the package that the stage itself is in. Comments, formatting, docstrings, type
hints of signatures and the decorators of plain functions (which show in what they return) do not
count; hints of functions under a decorator that may go by them do.

Code in other installed packages and in Python itself is not followed: it counts by name, and its
versions are recorded with what a stage produces (`versions_of`). Locks, executors and streams hold
no input of a computation, and count by their type.

Note:
    The source of a part is read from its file when it is first looked at; from then on the code in
    memory is known, and only values are looked at again (`eeipu.stages.declaration.look_again`). A
    function that is not what is in its file by then is an error that asks for a restart; an edit of
    the rest of a module, such as a class's decorators, goes unseen. Code that is looked up by a
    string is an error that asks for a version. Not seen are the environment, files, the state of
    the random generators that modules share, the settings of libraries, values (other than
    functions and classes) put into installed modules, what an object leaves out of its pickle, the
    classes registered with an abstract one, and code that reads other code's type hints.
"""

import hashlib
import json
import operator
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eeipu.fingerprints.definitions import Item, Part, UnreadableError, described, item_of, state_of
from eeipu.fingerprints.references import MISSING, is_followed
from eeipu.fingerprints.sources import Home, Sources
from eeipu.fingerprints.values import digest

__all__ = [
    "Look",
    "OwnCode",
    "UnreadableError",
    "code_fingerprint",
    "code_of",
    "value_digest",
    "versions_of",
]


@dataclass(frozen=True)
class OwnCode:
    """What a function does, as far as its author wrote it.

    Attributes:
        fingerprint: The digest of it.
        packages: The installed packages that it uses.
        parts: What it is made of; not known in another process.
        home: The installed package that is its own.
    """

    fingerprint: str
    packages: tuple[str, ...]
    parts: tuple[Part, ...] = field(default=(), repr=False, compare=False)
    home: str = field(default="", repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnCode, (self.fingerprint, self.packages)

    def changes_since(self, last: "OwnCode") -> list[str]:
        """The names of what has another value now, as far as both know them."""
        before = {id(part.code): part.items for part in last.parts}
        return sorted(
            {
                name
                for part in self.parts
                for name, item in part.items.items()
                if before.get(id(part.code), part.items).get(name) != item
            }
        )


class Look:
    """One look at code: no part is looked at twice, however many stages reach it.

    Args:
        known: What was found before. Parts that have not changed since are not read again.
    """

    def __init__(self, known: Iterable[OwnCode] = ()) -> None:
        self._sources = Sources()
        self._known: dict[str, dict[int, Part]] = {}
        for code in known:
            parts = self._known.setdefault(code.home, {})
            parts.update((id(part.code), part) for part in code.parts)
        self._walks: dict[str, _Walk] = {}

    def code_of(self, function: Callable[..., Any], last: OwnCode | None = None) -> OwnCode:
        """The code that a function reaches.

        Args:
            function: The function; a callable object counts by its content.
            last: What was found before, which is returned if nothing has changed.

        Raises:
            PipelineError: Some of the code has no source (a builtin, a C function, code typed at
                a bare prompt), or a value that it uses cannot be hashed.
        """
        home = Home.of(function)
        if home not in self._walks:
            known = self._known.get(home, {})
            self._walks[home] = _Walk(Home(home), self._sources, known)
        return self._walks[home].code_of(function, last)


def code_of(function: Callable[..., Any]) -> OwnCode:
    """The code that a function reaches; raises as `Look.code_of`."""
    return Look().code_of(function)


def code_fingerprint(function: Callable[..., Any]) -> str:
    """A digest of what a function does; raises as `Look.code_of`."""
    return code_of(function).fingerprint


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python, eeipu and these packages, as far as they are imported and say."""
    versions = {"python": platform.python_version()}
    for name in ("eeipu", *packages):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str) and name not in sys.stdlib_module_names:
            versions[name] = version
    return versions


def value_digest(value: Any, *, reads_paths: bool = False) -> str:
    """A digest of a value by content, and of the code of the user's functions and classes in it.

    Args:
        value: Anything that can be pickled.
        reads_paths: Whether a path stands for the content of its file or directory.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """
    home, look = Home(), Look()

    def code(part: Any) -> tuple[str] | None:
        return (look.code_of(part).fingerprint,) if is_followed(part, home) else None

    return digest(value, code, reads_paths=reads_paths)


class _Walk:
    """The graph of code that functions reach, each part of it looked at once."""

    def __init__(self, home: Home, sources: Sources, known: Mapping[int, Part]) -> None:
        self._home = home
        self._sources = sources
        self._known = known
        self._parts: dict[int, Part] = {}
        self._items: dict[int, tuple[Any, Item]] = {}

    def code_of(self, root: Any, last: OwnCode | None) -> OwnCode:
        """The code that a function reaches."""
        if last is not None and self._is_still(root, last.parts):
            return last
        # Parts are numbered as they are found, and each names others by number, so that neither
        # cycles nor the names of modules matter.
        found, numbers = [root], {id(root): 0}
        parts, content = [], []
        for code in found:  # a list that grows meanwhile
            part = self._part(code)
            for each in (use for item in part.items.values() for use in item.uses):
                if id(each) not in numbers:
                    numbers[id(each)] = len(found)
                    found.append(each)
            parts.append(part)
            content.append([part.source, _numbered(part.items, numbers)])
        packages = sorted(
            {n for part in parts for item in part.items.values() for n in item.packages}
        )
        fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return OwnCode(fingerprint, tuple(packages), tuple(parts), self._home.package)

    def _is_still(self, root: Any, parts: tuple[Part, ...]) -> bool:
        """Whether these are the parts that a function reaches."""
        is_known = len(parts) > 0 and parts[0].code is root
        return is_known and all(self._part(part.code) is part for part in parts)

    def _part(self, code: Any) -> Part:
        part = self._parts.get(id(code))
        if part is None:
            part = self._known.get(id(code))
            if part is None or not self._is_current(part):
                part = described(code, part, self._home, self._sources, self._item)
            self._parts[id(code)] = part
        return part

    def _item(self, name: str, value: Any, code: Any) -> Item:
        """What stands for a value, which many parts may have."""
        known = self._items.get(id(value))
        if known is None:  # kept with the value, so that no two live at one address in turn
            known = self._items[id(value)] = (value, item_of(name, value, code, self._home))
        return known[1]

    def _is_current(self, part: Part) -> bool:
        """Whether nothing has changed in what a part was made of: names first, then values."""
        state = state_of(part.code)
        return (
            len(state) == len(part.state)
            and all(map(operator.is_, state, part.state))
            and all(scope.get(name, MISSING) is value for scope, name, value in part.reads)
            and all(self._item(*each) == part.items[each[0]] for each in part.mutable)
        )


def _numbered(items: Mapping[str, Item], numbers: Mapping[int, int]) -> list[list[Any]]:
    """The items, with the parts in them by their numbers."""
    return [[name, item.text, [numbers[each] for each in item.ids]] for name, item in items.items()]
