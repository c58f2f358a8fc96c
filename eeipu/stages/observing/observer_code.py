"""The fingerprint of an observer's code: of all that it uses, but for what it fills itself.

An observer may note down what it sees, in a list that it appends to or a counter that it raises.
That does not tell what it will say of the next output.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from eeipu.fingerprints.code import CodeReading
from eeipu.fingerprints.syntax.sources import Sources

__all__ = ["observer_fingerprint"]

_FILLING = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "extendleft",
    "insert",
    "pop",
    "popitem",
    "popleft",
    "put",
    "put_nowait",
    "remove",
    "setdefault",
    "update",
}


def observer_fingerprint(reading: CodeReading) -> str:
    """The digest of an observer's code as it was read in this process."""
    sources = Sources()
    numbers = {id(each.code): number for number, each in enumerate(reading.definitions)}
    content = []
    for each in reading.definitions:
        filled = set(_filled(each.code, sources))
        used = [
            [name, reference.text, [numbers[number] for number in reference.ids]]
            for name, reference in each.references.items()
            if name.rstrip("'").rpartition(" ")[2] not in filled
        ]
        content.append([each.source, used])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _filled(code: Any, sources: Sources) -> Iterator[str]:
    """The names of what a function changes in place, or assigns outside of itself."""
    if not isinstance(code, FunctionType):
        return
    try:
        tree = sources.tree(code)
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                yield from names
            case ast.Call(func=ast.Attribute(value=target, attr=method)) if method in _FILLING:
                yield _name_of(target)
            case ast.Subscript(value=target, ctx=ast.Store() | ast.Del()):
                yield _name_of(target)


def _name_of(target: ast.expr) -> str:
    """`log.seen` of `log.seen["loss"]`; empty where it does not begin with a name."""
    match target:
        case ast.Name(id=name):
            return name
        case ast.Subscript(value=inner):
            return _name_of(inner)
        case ast.Attribute(value=inner, attr=attr):
            start = _name_of(inner)
            return f"{start}.{attr}" if start else ""
        case _:
            return ""
