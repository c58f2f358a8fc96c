"""The parts of a stage call's key, each with a short digest under its name.

A key says whether two calls are the same. Their parts say what differs. Parts are kept with an
output (`eeipu.serialization.entry_format.Header.parts`), in a form that JSON writes:

    stage      the stage's name
    version    the declared version, where that stands for the code
    object     a digest of the object whose method it is, where a version stands for the code
    code       module -> definition or value in it -> digest; or module -> digest of all of these
    fixed      a digest of what else the stage's declaration adds to its fingerprint
    params     hyper-parameter -> digest
    inputs     the run's inputs, by the names that the first stage has for them -> digest
    upstream   the key of the call upstream, for a stage that gets an output
"""

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from eeipu.fingerprints.reading.definitions import Definition, closure_values, title_of

__all__ = [
    "OUTPUT",
    "PARAM",
    "CodeParts",
    "Parts",
    "code_parts",
    "concerns_code",
    "differences",
    "short_digest",
]

Parts = Mapping[str, Any]
"""The parts of a key."""

CodeParts = dict[str, "dict[str, str] | str"]
"""Module -> name in it -> digest, or module -> digest of all its names and digests."""

# Parts are read and written with every output. With this many they take about 6 kB.
MAX_CODE_PARTS = 150

# With one digest for each of this many modules they take about 15 kB, which is still read at once.
MAX_MODULES = 600

PARAM = "the hyper-parameter "
"""What the names of differences in hyper-parameters begin with."""

OUTPUT = "its input, the output of the stage before"
"""The name of the difference in what a stage gets from the one before it."""

# Stands for all names of a module, where only one digest of them is known.
_WHOLE = "*"

# Ten digits tell changes apart. Whether two calls are the same is for their keys to say.
_DIGITS = 10

# A reference's text is the name of code, or a digest of at least this many hexadecimal digits.
_DIGEST_DIGITS = 32
_HEXADECIMAL = frozenset("0123456789abcdef")


def short_digest(text: str) -> str:
    """A digest that tells changes of a part apart."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def code_parts(definitions: Iterable[Definition]) -> CodeParts:
    """The parts of the code that a function reaches.

    Each function, class and module is a part, and so is each value that one of them uses. Where
    there are more than `MAX_CODE_PARTS` of them, the largest modules are one part each. Where there
    are more than `MAX_MODULES` modules, it is their packages.

    Args:
        definitions: What was found when the function was read.
    """
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for each in definitions:
        module, title = _module_of(each.code), _title(each.code)
        # An output has its classes by their names, so where these are is a part of what they are.
        structure = [each.source, module if isinstance(each.code, type) else ""]
        for name, reference in each.references.items():
            if _is_digest(reference.text) and not _is_empty(name, each.code):
                found[module][_value_name(name, title, each.code)].add(reference.text)
            else:
                used = [_title(definition) for definition in reference.definitions]
                structure.append(f"{name} {reference.text} {used}")
        found[module][title].add(json.dumps(structure))
    modules = {
        module: {name: short_digest(json.dumps(sorted(texts))) for name, texts in parts.items()}
        for module, parts in sorted(found.items())
    }
    return _summarised(modules)


def _summarised(modules: dict[str, dict[str, str]]) -> CodeParts:
    while len(modules) > MAX_MODULES and any("." in module for module in modules):
        packages: dict[str, dict[str, str]] = defaultdict(dict)
        for module, parts in modules.items():
            package = module.rpartition(".")[0] or module
            packages[package] |= {f"{module}.{name}": part for name, part in parts.items()}
        modules = dict(packages)
    summarised: CodeParts = {**modules}
    count = sum(map(len, modules.values()))
    for module in sorted(modules, key=lambda each: len(modules[each]), reverse=True):
        if count <= MAX_CODE_PARTS:
            break
        summarised[module] = _summary(modules[module])
        count -= len(modules[module]) - 1
    return summarised


def _summary(parts: Mapping[str, str]) -> str:
    """The digest that stands for all parts of a module."""
    return short_digest(json.dumps(parts, sort_keys=True))


def _module_of(code: Any) -> str:
    """The module that a definition is in; a script has the name by which it would be imported."""
    if isinstance(code, ModuleType):
        return code.__name__
    name = str(getattr(code, "__module__", None) or "")
    if name != "__main__":
        return name
    module: Mapping[str, Any] = getattr(code, "__globals__", vars(sys.modules["__main__"]))
    spec, file = module.get("__spec__"), module.get("__file__")
    return str(spec.name) if spec is not None else Path(file).stem if file else name


def _title(code: Any) -> str:
    """The name of a definition in its module; empty for a module."""
    if isinstance(code, ModuleType):
        return ""
    # The `repr` of an object without a name has its address.
    return title_of(code if hasattr(code, "__qualname__") else type(code))


def _value_name(name: str, title: str, code: Any) -> str:
    """The name of a value that a definition uses.

    Args:
        name: What the definition's references call it.
        title: The definition's name.
        code: The definition.
    """
    found = name.removeprefix("the global ")
    if name == found:
        return f"{_CALLED.get(name, name)} of {title}"
    is_closed_over = found.partition(".")[0].rstrip("'") in closure_values(code)
    # A global is one part, however many functions of its module use it.
    return f"the closure value {found} of {title}" if is_closed_over else name


# What values are called that have no name in the source.
_CALLED = {"its content": "the content", "self": "the object"}


def _is_empty(name: str, code: Any) -> bool:
    """Whether a reference is to the defaults of a function that has none."""
    return name == "the defaults" and getattr(code, "__defaults__", None) is None


def _is_digest(text: str) -> bool:
    return len(text) >= _DIGEST_DIGITS and _HEXADECIMAL.issuperset(text)


def differences(parts: Parts, others: Parts) -> list[str]:
    """The names of the parts of two keys that differ.

    Args:
        parts: The parts of a key.
        others: Those of the key that it is compared with.
    """
    found = []
    if parts["stage"] != others["stage"]:
        found.append(f"the stage's name ({others['stage']!r} there)")
    versions = parts.get("version"), others.get("version")
    if versions[0] != versions[1]:
        here, there = ("none" if each is None else repr(each) for each in versions)
        found.append(f"the declared version ({there} there, {here} here)")
    elif versions[0] is None:
        found += _code_differences(parts["code"], others["code"])
    if parts.get("object") != others.get("object"):
        found.append("the object that it is a method of")
    if parts.get("fixed") != others.get("fixed"):
        found.append("what the stage's declaration fixes, such as its number of steps")
    found += [f"{PARAM}{name}" for name in _unequal(parts["params"], others["params"])]
    if "upstream" in parts and "upstream" in others:
        found += [OUTPUT] * (parts["upstream"] != others["upstream"])
    elif "upstream" in parts or "upstream" in others:
        found.append("its input, which is the run's inputs in one of both")
    else:
        found += [f"the input {name}" for name in _unequal(parts["inputs"], others["inputs"])]
    return found


def concerns_code(found: Sequence[str]) -> bool:
    """Whether differences are in more than the stage's name, its hyper-parameters and its input."""
    beside = ("the stage's name", PARAM, "the input ", "its input")
    return not all(name.startswith(beside) for name in found)


def _unequal(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    return [name for name in {**here, **there} if here.get(name) != there.get(name)]


def _code_differences(here: Parts, there: Parts) -> list[str]:
    """The names of the functions, classes, modules and values that differ.

    Where functions are does not count. Of what only one side has, whatever the other has too under
    another name is left out: it was moved, or is a script here and was imported there.
    """
    mine, yours = _flat(here, there), _flat(there, here)
    shared = {name for name in mine if name in yours}
    changed = [_code_name(name) for name in sorted(shared) if mine[name] != yours[name]]
    new = {name: digest for name, digest in mine.items() if name not in shared}
    gone = {name: digest for name, digest in yours.items() if name not in shared}
    moved = Counter(new.values()) & Counter(gone.values())
    for names, remark in ((new, "which is new"), (gone, "which is no longer used")):
        left = Counter(moved)
        for name, digest in sorted(names.items()):
            if left[digest] > 0:
                left[digest] -= 1
            else:
                changed.append(f"{_code_name(name)} ({remark})")
    return changed


def _flat(modules: Parts, others: Parts) -> dict[tuple[str, str], str]:
    """Module and name -> digest; one for a whole module where either side has no other."""
    flat: dict[tuple[str, str], str] = {}
    for module, parts in modules.items():
        if isinstance(parts, str):
            flat[module, _WHOLE] = parts
        elif isinstance(others.get(module), str):
            flat[module, _WHOLE] = _summary(parts)
        else:
            flat |= {(module, name): digest for name, digest in parts.items()}
    return flat


def _code_name(place: tuple[str, str]) -> str:
    module, name = place
    if name in ("", _WHOLE):
        return f"the code of {module}"
    return f"{name} in {module}" if name.startswith("the ") else f"the code of {module}.{name}"
