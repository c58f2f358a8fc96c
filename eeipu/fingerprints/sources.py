"""The source of functions, classes and modules, and whose it is."""

import ast
import copy
import importlib.util
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["ChangedSourceError", "Home", "Sources", "is_generated"]

_NOT_OWN = [
    Path(os.path.realpath(folder))
    for folder in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        Path(__file__).parent.parent,
    )
]

_INSTALLED = {"site-packages", "dist-packages"}

_IGNORES_HINTS = {
    *("abstractmethod", "cache", "cached_property", "classmethod", "lru_cache", "property"),
    *("setter", "stage", "staticmethod", "wraps"),
}

_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class ChangedSourceError(OSError):
    """A function is not what is in its file any more."""


class Home:
    """Whose code is whose: what is not Python's or an installed package's is the user's own.

    A package installed in editable mode is its author's own, and so is the one that a stage is in.

    Args:
        package: An installed package that is the user's own; "": none.
    """

    def __init__(self, package: str = "") -> None:
        self.package = package
        self._known: dict[str, bool] = {}

    @classmethod
    def of(cls, root: Any) -> str:
        """The installed package that a stage is in, if it is in one."""
        package = (getattr(root, "__module__", None) or "").partition(".")[0]
        is_library = package in sys.stdlib_module_names or package == "eeipu"
        return "" if is_library or cls().owns(root) else package

    def owns(self, part: Any) -> bool:
        """Whether code is the user's own."""
        name = part.__name__ if isinstance(part, ModuleType) else getattr(part, "__module__", None)
        if not isinstance(name, str):
            return True  # made by exec, without a module
        if name not in self._known:
            self._known[name] = self._owns_module(name)
        return self._known[name]

    def _owns_module(self, name: str) -> bool:
        package = name.partition(".")[0]
        if name == "__main__" or package == self.package:
            return True
        module = sys.modules.get(name) or sys.modules.get(package)
        file = getattr(module, "__file__", None)
        if file is None:
            return package not in sys.stdlib_module_names
        return _is_own_file(file)

    def owns_by_name(self, name: str) -> bool:
        """Whether a module is the user's own, which need not be imported yet."""
        package = name.partition(".")[0]
        if package == self.package or package in sys.modules:
            return self._owns_module(name)
        spec = importlib.util.find_spec(package)
        if spec is None:
            return False
        files = [spec.origin, *(spec.submodule_search_locations or ())]
        return any(_is_own_file(each) for each in files if each and Path(each).exists())


def _is_own_file(file: str) -> bool:
    # By its file: the user's own module may be named as one of Python's.
    path = Path(os.path.realpath(file))
    return _INSTALLED.isdisjoint(Path(file).parts) and not any(map(path.is_relative_to, _NOT_OWN))


def is_generated(code: CodeType) -> bool:
    """Whether a decorator (`dataclass`, `attrs.define`) made code, from what else is hashed."""
    file = code.co_filename
    return file.startswith(("<string>", "<attrs generated"))


class Sources:
    """The source that is read in one look; each file is looked for once."""

    def __init__(self) -> None:
        self._texts: dict[str, _Text] = {}

    def read(self, part: Any) -> ast.AST:
        """A definition without the lines around it, or a whole module, as far as it can matter.

        Raises:
            OSError: There is no source, or it is not what was imported.
            TypeError: It is nothing that has source.
            SyntaxError: Its source cannot be told from its neighbours'.
        """
        if isinstance(part, FunctionType):
            return self._function(part)
        if isinstance(part, type):
            return self._class(part)
        if isinstance(part, ModuleType):
            return self._module(part)
        raise TypeError(f"{type(part).__name__} objects have none")

    def _text(self, file: str, scope: dict[str, Any] | None = None) -> "_Text":
        if file not in self._texts:
            linecache.checkcache(file)
            self._texts[file] = _parsed("".join(linecache.getlines(file, scope)), file)
        return self._texts[file]

    def _function(self, function: FunctionType) -> ast.AST:
        code = function.__code__
        text = self._text(code.co_filename, function.__globals__)
        # Others, such as pytest's and beartype's, import something else than what is in the file.
        if type(function.__globals__.get("__loader__")) is SourceFileLoader:
            text.check(code)
        return text.function(code)

    def _module(self, module: ModuleType) -> ast.AST:
        file = getattr(module, "__file__", None) or ""
        if not (file.endswith(".py") and Path(file).exists()):
            raise OSError(f"{file or 'it'} is not Python source")
        return self._text(file).tree

    def _class(self, part: type) -> ast.AST:
        file = getattr(sys.modules.get(part.__module__), "__file__", None)
        codes = [f.__code__ for f in vars(part).values() if isinstance(f, FunctionType)]
        codes = [code for code in codes if not is_generated(code)]
        # The module of a notebook has no file, but the methods' code knows its cell.
        for each in filter(None, (file, *(code.co_filename for code in codes))):
            lines = {code.co_firstlineno for code in codes if code.co_filename == each}
            found = self._text(each).class_(part, lines)
            if found is not None:
                return found
        raise OSError("could not find the class in its source")


@lru_cache(maxsize=16)  # for stages that are looked at one by one
def _parsed(text: str, file: str) -> "_Text":
    return _Text(text, file)


class _Text:
    """A file's source: the tree of it, without what cannot change a result."""

    def __init__(self, text: str, file: str) -> None:
        if not text and not Path(file).exists():
            raise OSError("could not get source code")
        self._source = text
        self._file = file
        self.tree = ast.parse(text)
        self._functions: dict[tuple[int, str], ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self._lambdas: list[ast.Lambda] = []
        self._classes: dict[str, list[ast.ClassDef]] = {}
        for node, path in _definitions(self.tree):
            if isinstance(node, _Function):
                self._functions[_first_line(node), node.name] = node
            elif isinstance(node, ast.ClassDef):
                self._classes.setdefault(path, []).append(node)
            else:
                self._lambdas.append(node)
        _strip(self.tree)

    def check(self, code: CodeType) -> None:
        """Refuse the old code of an edited module, which would go under the name of the new.

        Raises:
            ChangedSourceError: It is not what was imported.
        """
        if (code.co_firstlineno, _unplaced(code)) not in self._codes:
            raise ChangedSourceError(f"{self._file} changed since it was imported: restart")

    @cached_property
    def _codes(self) -> frozenset[tuple[int, CodeType]]:
        """Line and content of every piece of code."""
        found = [compile(self._source, self._file, "exec", dont_inherit=True)]
        for code in found:  # a list that grows meanwhile
            found += [each for each in code.co_consts if isinstance(each, CodeType)]
        return frozenset((code.co_firstlineno, _unplaced(code)) for code in found)

    def function(self, code: CodeType) -> ast.AST:
        """The definition that code was compiled from.

        Raises:
            OSError: There is none.
            SyntaxError: It is a lambda, which cannot be told from others.
        """
        if code.co_name == "<lambda>":
            return self._lambda(code)
        node = self._functions.get((code.co_firstlineno, code.co_name))
        if node is None:
            raise OSError("could not find it in its source")
        # What decorates a function shows in the object that the name stands for; what is inside
        # a definition is part of it.
        definition = copy.copy(node)
        definition.decorator_list = []
        return ast.Module([definition], [])

    def _lambda(self, code: CodeType) -> ast.AST:
        on_line = [each for each in self._lambdas if each.lineno == code.co_firstlineno]
        if len(on_line) > 1:
            # Where the code says to come from; the instruction that starts it has no width.
            places = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
            on_line = [n for n in on_line if places and all(_holds(n.body, p) for p in places)]
            on_line = on_line[-1:]  # the innermost: what is around it holds it too
        if not on_line:
            raise SyntaxError("it cannot be found among its line's lambdas")
        return on_line[0]

    def class_(self, part: type, lines: set[int]) -> ast.AST | None:
        """The definition of a class, which may have methods that begin in these lines."""
        found = self._classes.get(part.__qualname__, [])
        first = vars(part).get("__firstlineno__")  # from Python 3.13 on
        around = [
            node
            for node in found
            if _first_line(node) == first
            or any(node.lineno <= line <= (node.end_lineno or 0) for line in lines)
        ]
        found = around or found
        return ast.Module([found[-1]], []) if found else None


def _definitions(
    tree: ast.AST, path: str = ""
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda, str]]:
    """All definitions in a tree, each with its qualified name; the outer before the inner."""
    for node in ast.iter_child_nodes(tree):
        inner = path
        if isinstance(node, _Function | ast.ClassDef):
            yield node, f"{path}{node.name}"
            inner = f"{path}{node.name}." + ("<locals>." if isinstance(node, _Function) else "")
        elif isinstance(node, ast.Lambda):
            yield node, path
            inner = f"{path}<lambda>.<locals>."
        yield from _definitions(node, inner)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _holds(node: ast.expr, place: tuple[int | None, int | None, int | None, int | None]) -> bool:
    """Whether a place (first line, last line, first column, last column) is in an expression."""
    line, end_line, column, end_column = place
    begin, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    return begin <= (line, column) and (end_line, end_column) <= end


def _unplaced(code: CodeType) -> CodeType:
    """Code without where it is, which also moves when a comment does."""
    consts = tuple(_unplaced(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=consts, co_filename="", co_firstlineno=1, co_linetable=b"")


def _strip(tree: ast.AST) -> None:
    """Take the parts out of a tree that cannot change a result."""
    for node in ast.walk(tree):
        if isinstance(node, _Function) and all(map(_ignores_hints, node.decorator_list)):
            _remove_hints(node)
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]


def _ignores_hints(decorator: ast.expr) -> bool:
    """Whether a decorator is known not to go by a function's type hints, as validators do."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(named, "attr", getattr(named, "id", "")) in _IGNORES_HINTS


def _remove_hints(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    function.returns = None
    taken = function.args
    for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg):
        if each is not None:
            each.annotation = None
