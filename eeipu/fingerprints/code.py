"""Fingerprints of code: what a stage's function does, followed into the user's own code.

A fingerprint covers a function's source, its defaults and closure values. It also covers the
functions, classes and module-level constants that the function uses, directly or through others,
from the user's own modules and from the package that the stage itself is in. It ignores comments,
formatting, docstrings, the type hints of signatures, and the decorators of plain functions (their
effect shows in the objects that they return). It does count the hints of functions under a
decorator that may read them, the modules that classes are in, and docstrings, hints and source
where other code reads them.

Code in other installed packages and in Python itself is not followed. It counts by its name, and
the versions of those packages are recorded with a stage's output (`package_versions`). Loggers,
locks, executors and output streams hold no input of a computation and count by their type.

Note:
    The source of a definition is read from its file once, the first time that it is needed. After
    that the code in memory is known, and only values are compared again
    (`eeipu.stages.code_changes.refresh_code`). A function that by then differs from its file is an
    error that asks for a restart; an edit of the rest of a module, such as a class's decorators,
    goes unseen. Code that is looked up by a string is an error that asks for a version. Not seen
    are: the environment, files named by a string, the state of the random generators that modules
    share, the settings of libraries, what is put into libraries elsewhere than at the places in
    `eeipu.fingerprints.reading.extension_points`, and what an object leaves out of its pickle.
"""

import hashlib
import json
import operator
import platform
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.garbage import without_collections
from eeipu.fingerprints.parts import CodeParts, code_parts
from eeipu.fingerprints.reading.definition_reader import read_definition
from eeipu.fingerprints.reading.definitions import (
    Definition,
    Reference,
    components_of,
    reference_to,
    title_of,
)
from eeipu.fingerprints.reading.library_objects import content_of, has_content
from eeipu.fingerprints.reading.references import MISSING, is_followed, text_for, unwrapped
from eeipu.fingerprints.syntax.sources import Detail, Sources, UnreadableError
from eeipu.fingerprints.values import digest
from eeipu.fingerprints.watching import Watch
from eeipu.serialization.main_module import home_of

__all__ = [
    "CodeReader",
    "CodeReading",
    "UnreadableError",
    "code_fingerprint",
    "content_digest",
    "package_versions",
    "read_code",
    "value_digest",
]


@dataclass(frozen=True)
class CodeReading:
    """What was found when the code of one or several functions was read.

    Attributes:
        fingerprint: The digest of the code.
        packages: The names of the installed packages that the code uses.
        definitions: All definitions that the functions reach. They stay in the process that read
            them: a pickled reading has none.
        package: The installed package that counts as the user's own, or "" for none.
        sent_parts: Its parts, where it came from another process.
        detail: What of the source was read.
        roots: The functions themselves.
        watches: Tell together whether any of the definitions has changed since.
    """

    fingerprint: str
    packages: tuple[str, ...]
    definitions: tuple[Definition, ...] = field(default=(), repr=False, compare=False)
    package: str = field(default="", repr=False, compare=False)
    sent_parts: CodeParts | None = field(default=None, repr=False, compare=False)
    detail: Detail = field(default=Detail.CODE, repr=False, compare=False)
    roots: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    watches: tuple[Watch, ...] = field(default=(), repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return CodeReading, (self.fingerprint, self.packages, (), "", self.parts)

    @cached_property
    def parts(self) -> CodeParts:
        """Short digests of all definitions and values, by name, so that readings are compared."""
        return code_parts(self.definitions) if self.sent_parts is None else self.sent_parts

    def changes_since(self, earlier: "CodeReading") -> list[str]:
        """The names whose values differ from an earlier reading, in definitions that both have."""
        before = {id(each.code): each.references for each in earlier.definitions}
        return sorted(
            {
                name
                for each in self.definitions
                for name, reference in each.references.items()
                if before.get(id(each.code), each.references).get(name) != reference
            }
        )


class CodeReader:
    """Reads code at one moment. Each definition is read once, however many functions reach it.

    Args:
        known: Earlier readings. Definitions that have not changed since are not read again.
    """

    def __init__(self, known: Iterable[CodeReading] = ()) -> None:
        self._readings = tuple(known)
        self._is_still: dict[int, bool] = {}  # by the watch
        self._checked: dict[int, bool] = {}  # by the value
        self._watches: dict[int, Watch] = {}  # by the definition
        self._sources = {detail: Sources(detail) for detail in Detail}
        self._graphs: dict[tuple[str, Detail], _DefinitionGraph] = {}

    @without_collections()
    def read(self, function: Callable[..., Any], last: CodeReading | None = None) -> CodeReading:
        """Read the code that a function reaches.

        Args:
            function: The function. A callable object counts by its content, and the method of an
                object by the content of that object and the code of its class.
            last: The reading before this one, which is returned if nothing has changed.

        Raises:
            PipelineError: Some of the code has no source (a builtin, a C function, code typed at
                a bare prompt), or it uses a value that cannot be hashed.
        """
        function = unwrapped(function)
        if last is not None and self._is_unchanged(last, [function]):
            return last
        package = FirstParty.package_of(function)
        detail = Detail.CODE if last is None else last.detail
        while True:
            reading = self._graph(package, detail).read(function, last)
            needed = max((each.reads for each in reading.definitions), default=Detail.CODE)
            if needed <= detail:
                return reading if reading is last else self._watched(reading)
            # Some of the code reads the docstrings, hints or source of other code, so they count.
            detail, last = needed, None

    def _is_unchanged(self, reading: CodeReading, functions: Sequence[Any]) -> bool:
        """Whether a reading is of these functions, and nothing has changed since."""
        is_of_these = len(reading.roots) == len(functions) and all(
            map(operator.is_, reading.roots, functions)
        )
        for each in reading.watches if is_of_these else ():
            if id(each) not in self._is_still:
                self._is_still[id(each)] = each.is_still(self._checked)
        return is_of_these and all(self._is_still[id(each)] for each in reading.watches)

    def _watched(self, reading: CodeReading) -> CodeReading:
        """A reading with watches, which it shares with others that reach the same definitions."""
        new = [each for each in reading.definitions if id(each) not in self._watches]
        watch = Watch(new, FirstParty(reading.package))
        self._watches.update((id(each), watch) for each in new)
        watches = {id(w): w for w in (self._watches[id(d)] for d in reading.definitions)}
        return replace(reading, watches=tuple(watches.values()))

    @cached_property
    def _known(self) -> Mapping[tuple[str, Detail], Mapping[int, Definition]]:
        """The definitions of the known readings, by the ids of their code."""
        known: dict[tuple[str, Detail], dict[int, Definition]] = {}
        for reading in self._readings:
            for each in reading.definitions:
                known.setdefault((reading.package, each.detail), {})[id(each.code)] = each
        return known

    def _graph(self, package: str, detail: Detail) -> "_DefinitionGraph":
        key = package, detail
        if key not in self._graphs:
            self._graphs[key] = _DefinitionGraph(
                FirstParty(package), self._sources[detail], self._known.get(key, {}), detail
            )
        return self._graphs[key]

    @without_collections()
    def read_together(self, functions: Sequence[Callable[..., Any]]) -> CodeReading:
        """Read the code of several functions as one; raises as `read`."""
        for last in self._readings:
            if self._is_unchanged(last, functions):
                return last
        readings = [self.read(function) for function in functions]
        watches = {id(watch): watch for each in readings for watch in each.watches}
        lines = "\n".join(each.fingerprint for each in readings)
        definitions = {id(d.code): d for each in readings for d in each.definitions}
        return CodeReading(
            hashlib.sha256(lines.encode()).hexdigest(),
            tuple(sorted({name for each in readings for name in each.packages})),
            tuple(definitions.values()),
            readings[0].package,
            roots=tuple(functions),
            watches=tuple(watches.values()),
        )


@without_collections()  # until its reader, too, is gone
def read_code(function: Callable[..., Any]) -> CodeReading:
    """Read the code that a function reaches; raises as `CodeReader.read`."""
    return CodeReader().read(function)


def code_fingerprint(function: Callable[..., Any]) -> str:
    """The fingerprint of the code that a function reaches; raises as `CodeReader.read`."""
    return read_code(function).fingerprint


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python, of eeipu and of packages.

    Args:
        packages: Names of packages. Those that are not imported, or do not tell their version, are
            left out.
    """
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
        reads_paths: Whether a path to a directory stands for all files in it, as a path to a file
            always does for its content.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """
    first_party, reader = FirstParty(), CodeReader()

    def stand_in(inner: Any) -> tuple[str] | None:
        if is_followed(inner, first_party):
            return (reader.read(inner).fingerprint,)
        kind: Any = type(inner)
        content = content_of(inner) if has_content(kind) else None
        return None if content is None else (f"object {digest(content, stand_in)}",)

    return digest(value, stand_in, reads_paths=reads_paths)


def content_digest(value: Any) -> str:
    """A digest of a value by content, in which the user's functions and classes have no code.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """
    definitions: list[Any] = []
    stand_in = partial(
        text_for, first_party=FirstParty(), definitions=definitions, packages=set[str]()
    )
    return digest((digest(value, stand_in), [_place(each) for each in definitions]))


def _place(code: Any) -> tuple[str, str]:
    return str(getattr(code, "__module__", "")), title_of(code)


class _DefinitionGraph:
    """The definitions that functions reach. Each is read once."""

    def __init__(
        self,
        first_party: FirstParty,
        sources: Sources,
        known: Mapping[int, Definition],
        detail: Detail,
    ) -> None:
        self._detail = detail
        self._first_party = first_party
        self._sources = sources
        self._known = known
        self._definitions: dict[int, Definition] = {}
        self._references: dict[int, tuple[Any, Reference]] = {}

    def read(self, root: Any, last: CodeReading | None) -> CodeReading:
        """Read the code that a function reaches; return `last` where nothing has changed."""
        if last is not None and self._is_still(root, last.definitions):
            return last
        # Definitions are numbered as they are found, breadth first, and refer to each other by
        # number, so that neither cycles nor the names of modules matter.
        numbers = {id(root): 0}
        waiting, definitions = deque([root]), []
        while waiting:
            definition = self._definition(waiting.popleft())
            definitions.append(definition)
            for used in (d for r in definition.references.values() for d in r.definitions):
                if id(used) not in numbers:
                    numbers[id(used)] = len(numbers)
                    waiting.append(used)
        content = [
            [each.source, _numbered(each.references, numbers), _home(each.code)]
            for each in definitions
        ]
        references = [each for d in definitions for each in d.references.values()]
        return CodeReading(
            hashlib.sha256(json.dumps(content).encode()).hexdigest(),
            tuple(sorted({name for each in references for name in each.packages})),
            tuple(definitions),
            self._first_party.package,
            detail=self._detail,
            roots=(root,),
        )

    def _is_still(self, root: Any, definitions: tuple[Definition, ...]) -> bool:
        """Whether these are still the definitions that a function reaches."""
        is_known = len(definitions) > 0 and definitions[0].code is root
        return is_known and all(self._definition(each.code) is each for each in definitions)

    def _definition(self, code: Any) -> Definition:
        definition = self._definitions.get(id(code))
        if definition is None:
            definition = self._known.get(id(code))
            if definition is None or not self._is_current(definition):
                definition = read_definition(
                    code, definition, self._first_party, self._sources, self._reference
                )
            self._definitions[id(code)] = definition
        return definition

    def _reference(self, name: str, value: Any, code: Any) -> Reference:
        """What stands for a value, which many definitions may use."""
        known = self._references.get(id(value))
        if known is None:  # kept with the value, so that no two live at one address in turn
            reference = reference_to(name, value, code, self._first_party)
            known = self._references[id(value)] = (value, reference)
        return known[1]

    def _is_current(self, definition: Definition) -> bool:
        """Whether nothing has changed in a definition: first its names, then its values."""
        components = components_of(definition.code)
        references = definition.references
        return (
            len(components) == len(definition.components)
            and all(map(operator.is_, components, definition.components))
            and all(scope.get(name, MISSING) is value for scope, name, value in definition.lookups)
            and all(
                self._reference(name, value, definition.code) == references[name]
                for name, value, _ in definition.mutable
            )
        )


def _home(code: Any) -> str | None:
    """Where a class is, which tells it from its equals elsewhere; for other code it is no matter.

    A value that is kept has the names of its classes. To Python, a copy of a class is another one.
    """
    return home_of(code.__module__) if isinstance(code, type) else None


def _numbered(references: Mapping[str, Reference], numbers: Mapping[int, int]) -> list[list[Any]]:
    """The references as JSON, in which definitions go by their numbers."""
    return [
        [name, reference.text, [numbers[each] for each in reference.ids]]
        for name, reference in references.items()
    ]
