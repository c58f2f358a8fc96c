"""The source of functions, classes and modules, without what cannot change a result."""

import ast
import copy
import linecache
import sys
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["ChangedSourceError", "Sources", "is_generated"]

# Decorators that do not read the type hints of the function that they decorate.
_IGNORES_HINTS = {
    *("abstractmethod", "cache", "cached_property", "classmethod", "lru_cache", "property"),
    *("setter", "stage", "staticmethod", "wraps"),
}

_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class ChangedSourceError(OSError):
    """A function differs from what its file says now."""


def is_generated(code: CodeType) -> bool:
    """Whether a decorator such as `dataclass` made code, from values that are hashed anyway."""
    file = code.co_filename
    return file.startswith(("<string>", "<attrs generated"))


class Sources:
    """Reads source at one moment. Each file is read once."""

    def __init__(self) -> None:
        self._texts: dict[str, _Text] = {}

    def read(self, code: Any) -> ast.AST:
        """The syntax tree of a function, a class or a module, as far as it can change a result.

        Raises:
            OSError: There is no source, or it differs from what was imported.
            TypeError: The object is of a kind that has no source.
            SyntaxError: A lambda cannot be told from others on its line.
        """
        if isinstance(code, FunctionType):
            return self._function(code)
        if isinstance(code, type):
            return self._class(code)
        if isinstance(code, ModuleType):
            return self._module(code)
        raise TypeError(f"{type(code).__name__} objects have none")

    def _text(self, file: str, scope: dict[str, Any] | None = None) -> "_Text":
        if file not in self._texts:
            linecache.checkcache(file)
            self._texts[file] = _parsed("".join(linecache.getlines(file, scope)), file)
        return self._texts[file]

    def _function(self, function: FunctionType) -> ast.AST:
        code = function.__code__
        text = self._text(code.co_filename, function.__globals__)
        # Other loaders, such as those of pytest and beartype, change what they read from the file.
        if type(function.__globals__.get("__loader__")) is SourceFileLoader:
            text.check(code)
        return text.function(code)

    def _module(self, module: ModuleType) -> ast.AST:
        file = getattr(module, "__file__", None) or ""
        if not (file.endswith(".py") and Path(file).exists()):
            raise OSError(f"{file or 'it'} is not Python source")
        return self._text(file).tree

    def _class(self, class_: type) -> ast.AST:
        file = getattr(sys.modules.get(class_.__module__), "__file__", None)
        codes = [f.__code__ for f in vars(class_).values() if isinstance(f, FunctionType)]
        codes = [code for code in codes if not is_generated(code)]
        # The module of a notebook has no file, but the methods' code knows its cell.
        for each in filter(None, (file, *(code.co_filename for code in codes))):
            lines = {code.co_firstlineno for code in codes if code.co_filename == each}
            found = self._text(each).class_(class_, lines)
            if found is not None:
                return found
        raise OSError("could not find the class in its source")


@lru_cache(maxsize=16)  # for stages that are read one by one
def _parsed(text: str, file: str) -> "_Text":
    return _Text(text, file)


class _Text:
    """The source of a file.

    Attributes:
        tree: Its syntax tree, without what cannot change a result.
    """

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
        """Refuse code of a module that was edited after its import.

        Raises:
            ChangedSourceError: The file does not contain this code.
        """
        if (code.co_firstlineno, _unplaced(code)) not in self._codes:
            raise ChangedSourceError(f"{self._file} changed since it was imported: restart")

    @cached_property
    def _codes(self) -> frozenset[tuple[int, CodeType]]:
        """First line and content of every code object in the file."""
        module = compile(self._source, self._file, "exec", dont_inherit=True)
        return frozenset((code.co_firstlineno, _unplaced(code)) for code in _with_inner(module))

    def function(self, code: CodeType) -> ast.AST:
        """The definition that a code object was compiled from.

        Raises:
            OSError: The file has no such definition.
            SyntaxError: The code is a lambda that cannot be told from others on its line.
        """
        if code.co_name == "<lambda>":
            return self._lambda(code)
        node = self._functions.get((code.co_firstlineno, code.co_name))
        if node is None:
            raise OSError("could not find it in its source")
        # The effect of the decorators shows in the object that the name refers to. Decorators
        # inside of the definition stay.
        definition = copy.copy(node)
        definition.decorator_list = []
        return ast.Module([definition], [])

    def _lambda(self, code: CodeType) -> ast.AST:
        on_line = [each for each in self._lambdas if each.lineno == code.co_firstlineno]
        if len(on_line) > 1:
            # The places that the code comes from; its first instruction has an empty one.
            places = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
            on_line = [n for n in on_line if places and all(_holds(n.body, p) for p in places)]
            on_line = on_line[-1:]  # the innermost: the lambdas around it hold the places too
        if not on_line:
            raise SyntaxError("it cannot be found among its line's lambdas")
        return on_line[0]

    def class_(self, class_: type, lines: set[int]) -> ast.AST | None:
        """The definition of a class, or `None`.

        Args:
            class_: The class.
            lines: The first lines of its methods, by which classes of one name are told apart.
        """
        found = self._classes.get(class_.__qualname__, [])
        first = vars(class_).get("__firstlineno__")  # from Python 3.13 on
        around = [
            node
            for node in found
            if _first_line(node) == first
            or any(node.lineno <= line <= (node.end_lineno or 0) for line in lines)
        ]
        found = around or found
        return ast.Module([found[-1]], []) if found else None


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """A code object and all code objects inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _definitions(
    tree: ast.AST, path: str = ""
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda, str]]:
    """All definitions in a tree with their qualified names, outer ones before inner ones."""
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
    """A code object without its lines and file, which change with every comment above it."""
    consts = tuple(_unplaced(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=consts, co_filename="", co_firstlineno=1, co_linetable=b"")


def _strip(tree: ast.AST) -> None:
    """Remove from a tree what cannot change a result: docstrings, and hints of signatures."""
    for node in ast.walk(tree):
        if isinstance(node, _Function) and all(map(_ignores_hints, node.decorator_list)):
            _remove_hints(node)
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]


def _ignores_hints(decorator: ast.expr) -> bool:
    """Whether a decorator is known not to read a function's type hints, as validators do."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(named, "attr", getattr(named, "id", "")) in _IGNORES_HINTS


def _remove_hints(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    function.returns = None
    taken = function.args
    for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg):
        if each is not None:
            each.annotation = None
