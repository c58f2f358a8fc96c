"""What two processes compare before one of them runs code under keys that the other has made.

Code that a process imports by its name need not be the code that the sender of a task has under
that name: the file was edited after one of the two imported it, a cluster's node has another
checkout, or the sender has set a global that the other process has as it was written. Code that
cannot be imported travels itself, and is the sender's.
"""

import hashlib
import importlib
import json
import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import CodeReader, CodeReading, UnreadableError
from eeipu.fingerprints.reading.definitions import Definition
from eeipu.serialization.main_module import value_within

__all__ = ["Outline", "is_importable", "outline_of"]

_Digests = Mapping[str, str]
"""The digests of a definition: of its source, under "", and of all that its names refer to."""


@dataclass(frozen=True)
class Outline:
    """The definitions that other processes import by name, as the process that made this has them.

    Attributes:
        roots: The module and the name of each definition that can be imported.
        digests: Dotted name -> the digests of each definition of this name. It has the roots, and
            all that they use.
        has_values: Whether the values that they use count, and not only their source.
    """

    roots: tuple[tuple[str, str], ...]
    digests: Mapping[str, list[_Digests]]
    has_values: bool = True

    def differences(self) -> list[str]:
        """What differs in this process, in words.

        The code is read as it is now, and what has not been imported yet is imported.
        """
        reader, differences = CodeReader(), []
        found: dict[int, Definition] = {}
        seen: set[str] = set()
        for module, name in self.roots:
            full_name = ".".join(filter(None, (module, name)))
            if full_name in seen:
                continue
            try:
                reading = reader.read(_imported(module, name))
            except UnreadableError as error:
                if self.has_values:  # who gives a version may have workers without source
                    differences.append(f"{full_name} ({error.__cause__ or error})")
            except PipelineError as error:  # such as a file that was edited after its import
                differences.append(f"{full_name} ({error.__cause__ or error})")
            except (Exception, SystemExit) as error:
                differences.append(f"{full_name} (it cannot be imported: {error!r})")
            else:
                found |= {id(each.code): each for each in reading.definitions}
                seen |= {_full_name(each.code) for each in reading.definitions}
        here = _digests(found.values(), has_values=self.has_values)
        for name in self.digests.keys() & here.keys():
            differences += _unequal(name, self.digests[name], here[name])
        return sorted(differences)


def _imported(module: str, name: str) -> Any:
    """The definition of a name, as this process has it or imports it.

    Raises:
        AttributeError: The module has no such name.
    """
    value = value_within(importlib.import_module(module), name)
    if value is None:
        raise AttributeError(f"{module} has no {name}")
    return value


def outline_of(reading: CodeReading, *, has_values: bool = True) -> Outline:
    """The outline of the code in a reading that this process has made.

    Args:
        reading: The reading.
        has_values: Whether the values that the code uses count.
    """
    known = {id(each.code): each for each in reading.definitions}
    roots = [each for each in reading.definitions if is_importable(each.code)]
    found = {id(each.code): each for each in roots}
    waiting = deque(roots)
    while waiting:
        references = waiting.popleft().references.values()
        for number in (number for reference in references for number in reference.ids):
            if number in known and number not in found:
                found[number] = known[number]
                waiting.append(known[number])
    names = tuple((_module_of(each.code), _name_of(each.code)) for each in roots)
    return Outline(names, _digests(found.values(), has_values=has_values), has_values)


def _digests(definitions: Iterable[Definition], *, has_values: bool) -> dict[str, list[_Digests]]:
    """Several definitions may have one name, such as the functions of a property."""
    digests = defaultdict(list)
    for each in definitions:
        parts = {"": each.source}
        for name, reference in each.references.items() if has_values else ():
            used = [_full_name(definition) for definition in reference.definitions]
            parts[name] = json.dumps([reference.text, used])
        digests[_full_name(each.code)].append({n: _digest(text) for n, text in parts.items()})
    return {name: sorted(each, key=lambda parts: parts[""]) for name, each in digests.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:20]


def _unequal(name: str, there: list[_Digests], here: list[_Digests]) -> list[str]:
    """What differs in the definitions of a name: their code, or the values that they use."""
    if [parts[""] for parts in there] != [parts[""] for parts in here]:
        return [f"the code of {name}"]
    return [
        f"{each} in {name}"
        for ours, theirs in zip(here, there, strict=True)
        for each in sorted(ours.keys() | theirs.keys())
        if ours.get(each) != theirs.get(each)
    ]


def is_importable(code: Any) -> bool:
    """Whether a definition is sent by its name, which the other process imports."""
    module = _module_of(code)
    if not isinstance(code, type | FunctionType | ModuleType) or module == "__main__":
        return False
    packages = cloudpickle.list_registry_pickle_by_value()
    if any(module == each or module.startswith(f"{each}.") for each in packages):
        return False
    return module in sys.modules and value_within(sys.modules[module], _name_of(code)) is code


def _module_of(code: Any) -> str:
    return str(code.__name__ if isinstance(code, ModuleType) else getattr(code, "__module__", ""))


def _name_of(code: Any) -> str:
    return "" if isinstance(code, ModuleType) else str(getattr(code, "__qualname__", ""))


def _full_name(code: Any) -> str:
    return f"{_module_of(code)}.{_name_of(code)}".removesuffix(".")
