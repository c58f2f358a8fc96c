"""Calls of libraries that look up names of the code around the call in a text.

`frame.query("a > @LIMIT")` reads the global `LIMIT`, a formula may call a function of the module,
and SQL over local frames reads tables by their names. Where such a text is written in the source,
or in a value that the code names, the names in it count. Otherwise nobody knows them.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "METHODS",
    "Reader",
    "callee_of",
    "is_written",
    "method_reader",
    "reader_of",
    "texts_in",
]

# Top package -> the names of its functions that look up names of their caller.
_FUNCTIONS = {
    "bambi": {"Model"},
    "duckdb": {"execute", "from_query", "query", "query_df", "sql"},
    "formulae": {"design_matrices"},
    "formulaic": {"model_matrix"},
    "linearmodels": {"from_formula"},
    "numexpr": {"evaluate", "re_evaluate"},
    "pandas": {"eval"},
    "pandasql": {"PandaSQL", "sqldf"},
    "patsy": {"capture", "dmatrices", "dmatrix", "incr_dbuilder", "incr_dbuilders"},
    "polars": {"sql"},
    "pyfixest": {"feglm", "feols", "fepois", "quantreg"},
    "statsmodels": {"from_formula"},
}
_NAMES = frozenset(name for names in _FUNCTIONS.values() for name in names)
_FORMULA_MODULES = ("statsmodels.formula.", "linearmodels.formula.")

# Methods that do so, of objects whose type shows only when the code runs -> their libraries.
METHODS = {
    "query": ("pandas", "duckdb"),
    "eval": ("pandas",),
    "from_formula": ("statsmodels", "linearmodels"),
    "sql": ("duckdb", "polars"),
    "execute": ("duckdb",),
}

# In the texts of these, a name is a column unless `@` is in front or it is that of a table.
_OF_TABLES = {"query", "query_df", "from_query", "sql", "sqldf", "execute", "PandaSQL"}
_TABLES = {"pandas", "polars", "pyarrow", "duckdb", "numpy"}

# Arguments with which such a call is given the values of the names.
_EXPLICIT = {"context", "env", "eval_env", "global_dict"}

# The keywords of pandas' `query` and `eval`. A method with others is another library's.
_KEYWORDS = {
    *("expr", "inplace", "parser", "engine", "local_dict", "global_dict", "resolvers", "level"),
    *("target", "formula", "data", "subset", "drop_cols", "query", "sql", "alias", "parameters"),
    *("params", *_EXPLICIT),
}

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_DEPTH = 3  # of containers in a value that are searched for texts


def callee_of(call: ast.Call) -> tuple[str, ...]:
    """What is called, as a dotted name; `""` stands for an expression in front of it."""
    parts: list[str] = []
    base = call.func
    while isinstance(base, ast.Attribute):
        parts.append(base.attr)
        base = base.value
    return (base.id if isinstance(base, ast.Name) else "", *reversed(parts))


def is_written(call: ast.Call, values_of: Callable[[str], list[ast.expr | None] | None]) -> bool:
    """Whether the text that a call may be given is written in the source or in a value it names.

    Args:
        call: The call.
        values_of: Name -> the expressions that the source gives it; `None` where it is a name
            from outside, whose value is known.
    """
    if not call.keywords and type(call.args[0]) in (ast.Constant, ast.Name):  # as most are
        return _is_written(call.args[0], values_of, frozenset())
    keywords = {each.arg: each.value for each in call.keywords}
    if any(isinstance(each, ast.Starred) for each in call.args) or None in keywords:
        return False
    if not keywords.keys() <= _KEYWORDS:
        return True
    if any(name in keywords and not _is_depth(keywords[name]) for name in _EXPLICIT):
        return True
    if any(not _is_zero(keywords[each]) for each in ("level", *_EXPLICIT) if each in keywords):
        return False  # the names of a caller further up
    texts = [*call.args[:1], *(v for k, v in keywords.items() if k in {"expr", "formula", "query"})]
    return all(_is_written(each, values_of, frozenset()) for each in texts)


def _is_depth(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant | ast.UnaryOp)


def _is_zero(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (0, None)


def _is_written(
    node: ast.expr | None,
    values_of: Callable[[str], list[ast.expr | None] | None],
    seen: frozenset[str],
) -> bool:
    match node:
        case ast.Constant() | ast.JoinedStr() | ast.Compare():
            return True
        case ast.Subscript(slice=ast.Slice() | ast.Tuple()):  # of an array
            return True
        case ast.Name(id=name):
            values = values_of(name)
            if values is None or name in seen:
                return True
            return all(_is_written(each, values_of, seen | {name}) for each in values)
    parts = _parts(node)
    return len(parts) > 0 and all(_is_written(each, values_of, seen) for each in parts)


def _parts(node: ast.expr | None) -> list[ast.expr]:
    """The expressions that an expression gets its texts from; none where that is not known."""
    match node:
        case ast.BinOp(left=left, op=ast.Mod()):
            return [left]
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.IfExp(body=body, orelse=orelse):
            return [body, orelse]
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.NamedExpr(value=value):
            return [value]
        case ast.Dict(values=values):
            return values
        case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
            return elts
        case ast.Call(func=ast.Attribute(value=value)):  # of a string: format, join, strip
            return [value]
    return []


@dataclass(frozen=True)
class Reader:
    """A function or method that looks up names of the code around its call in a text.

    Attributes:
        libraries: The packages that it may be of.
        has_columns: Whether plain names in the text are columns, so that only `@name` and the
            names of tables are looked up.
    """

    libraries: tuple[str, ...]
    has_columns: bool

    @property
    def is_loaded(self) -> bool:
        """Whether one of the libraries is loaded, so that the call can be of it."""
        return any(each in sys.modules for each in self.libraries)

    def mentioned(self, texts: Iterable[str], scope: Mapping[str, Any]) -> set[tuple[str, ...]]:
        """The dotted names in texts that are looked up in a namespace and found there."""
        texts = set(texts)
        takes_any = not self.has_columns or any(map(_COMPLETED.search, texts))
        return {
            tuple(each.group().split("."))
            for text in texts
            for each in _NAME.finditer(text)
            if _is_looked_up(each, scope, takes_any=takes_any)
        }


# The mark of a name that is put together with another text: `"a > @" + name`, `f"a > @{name}"`.
_COMPLETED = re.compile(r"@(?:$|[%{])")


def _is_looked_up(found: re.Match[str], scope: Mapping[str, Any], *, takes_any: bool) -> bool:
    first = found.group().partition(".")[0]
    if first not in scope:
        return False
    is_marked = found.string[: found.start()].endswith("@")
    return takes_any or is_marked or _package(type(scope[first])) in _TABLES


def reader_of(value: Any, path: str) -> Reader | None:
    """The reader that a value is, if it is one.

    Args:
        value: A function or method; anything for one of a module that is not loaded.
        path: Its dotted name where it is from an installed module; "" otherwise.
    """
    function = getattr(value, "__func__", value)
    names = getattr(function, "__name__", ""), path.rpartition(".")[2]
    if not path.startswith(_FORMULA_MODULES) and _NAMES.isdisjoint(names):
        return None
    named = zip((_package(function), path.partition(".")[0]), names, strict=True)
    for package, name in named:
        if name in _FUNCTIONS.get(package, ()) or path.startswith(_FORMULA_MODULES):
            return Reader((package,), name in _OF_TABLES)
    return None


def method_reader(callee: tuple[str, ...], owner: Any = None) -> Reader | None:
    """The reader that a method may be, going by its name.

    Args:
        callee: The dotted name of the method.
        owner: The object or class that has it; `None` where that is not known.
    """
    libraries = METHODS.get(callee[-1], ()) if len(callee) > 1 else ()
    if owner is not None:
        kind = owner if isinstance(owner, type) else type(owner)
        libraries = tuple(each for each in libraries if each == _package(kind))
    if not libraries or callee[:-1] in {("self",), ("cls",)}:
        return None
    return Reader(libraries, callee[-1] != "from_formula")


def _package(value: Any) -> str:
    module = getattr(value, "__module__", None)
    return module.partition(".")[0].lstrip("_") if isinstance(module, str) else ""


def texts_in(value: Any, depth: int = _DEPTH) -> Iterator[str]:
    """The strings in a value, also in containers and in the attributes of an object."""
    if isinstance(value, str):
        yield value
    elif depth > 0 and isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each, depth - 1)
    elif depth > 0 and isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from texts_in(each, depth - 1)
    elif depth > 0 and isinstance(getattr(value, "__dict__", None), dict):
        yield from texts_in(vars(value), depth - 1)
