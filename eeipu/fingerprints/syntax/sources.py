"""The source of functions, classes and modules, without what cannot change a result."""

import ast
import hashlib
import linecache
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from functools import cached_property, lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.syntax.free_names import NOTES, Names, arguments_of, read_tree
from eeipu.fingerprints.syntax.wrappers import is_stage, wrapped_function

__all__ = ["ChangedSourceError", "Detail", "Sources", "UnreadableError", "is_without_file"]

# Decorators that do not read the type hints of the function that they decorate.
_IGNORES_HINTS = {
    *("abstractmethod", "cache", "cached_property", "classmethod", "lru_cache", "property"),
    *("contextmanager", "guvectorize", "inference_mode", "jit", "njit", "no_grad", "override"),
    *("setter", "stage", "staticmethod", "vectorize", "wraps"),
}

# Decorators and base classes of libraries that read the docstring of what they are given.
_READS_DOCSTRINGS = {
    *("command", "function_tool", "kernel_function", "prompt", "simple", "tool"),
    *("BaseModel", "BaseSettings", "BaseTool", "RootModel", "Signature", "SQLModel"),
}

_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)

_Function = ast.FunctionDef | ast.AsyncFunctionDef

_DECORATED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class UnreadableError(PipelineError):
    """Code has no source here, such as code that came from another process."""


class ChangedSourceError(OSError):
    """A function differs from what its file says now."""


def is_without_file(code: CodeType) -> bool:
    """Whether code was made from a string, as by `exec`, and not read from a file."""
    return code.co_filename == "<string>"


class Detail(IntEnum):
    """What of the source of a definition counts."""

    CODE = 0  # what runs
    DOCUMENTED = 1  # docstrings and the hints of signatures too, where other code reads them
    TEXT = 2  # each character, where other code reads the source


class Sources:
    """Reads source at one moment. Each file is read once.

    Attributes:
        detail: What of the source counts.
    """

    def __init__(self, detail: Detail = Detail.CODE) -> None:
        self.detail = detail
        self._texts: dict[str, _Text] = {}

    def read(self, code: Any) -> tuple[Names, str]:
        """The names that a function, a class or a module uses, and a digest of its text.

        Both are without what cannot change a result.

        Raises:
            OSError: There is no source, or it differs from what was imported.
            TypeError: The object is of a kind that has no source.
            SyntaxError: A lambda cannot be told from others on its line.
        """
        text, tree = self._found(code)
        written, names = text.read(tree)
        return names, hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()

    def tree(self, code: Any) -> ast.AST:
        """The syntax tree of a function, a class or a module; raises as `read`."""
        return self._found(code)[1]

    def _found(self, code: Any) -> tuple["_Text", ast.AST]:
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
            text = "".join(linecache.getlines(file, scope))
            self._texts[file] = _parsed(text, file, self.detail)
        return self._texts[file]

    def _function(self, function: FunctionType) -> tuple["_Text", ast.AST]:
        code = function.__code__
        text = self._text(code.co_filename, function.__globals__)
        # Other loaders, such as those of pytest and beartype, change what they read from the file.
        if type(function.__globals__.get("__loader__")) is SourceFileLoader:
            text.check(code)
        return text, text.function(code)

    def _module(self, module: ModuleType) -> tuple["_Text", ast.AST]:
        file = getattr(module, "__file__", None) or ""
        if not (file.endswith(".py") and Path(file).exists()):
            raise OSError(f"{file or 'it'} is not Python source")
        return self._text(file), self._text(file).tree

    def _class(self, class_: type) -> tuple["_Text", ast.AST]:
        file = getattr(sys.modules.get(class_.__module__), "__file__", None)
        members = [wrapped_function(m) if is_stage(m) else m for m in vars(class_).values()]
        codes = [f.__code__ for f in members if isinstance(f, FunctionType)]
        codes = [code for code in codes if not is_without_file(code)]
        # The module of a notebook has no file, but the methods' code knows its cell.
        for each in filter(None, (file, *(code.co_filename for code in codes))):
            lines = {code.co_firstlineno for code in codes if code.co_filename == each}
            text = self._text(each)
            found = text.class_(class_, lines)
            if found is not None:
                return text, found
        found_in_cell = self._in_cells(class_) if file is None else None
        if found_in_cell is not None:
            return found_in_cell
        raise OSError("could not find the class in its source")

    def _in_cells(self, class_: type) -> tuple["_Text", ast.AST] | None:
        """The definition of a class without methods, whose cell of a notebook is not known.

        It is the one of its name in all cells that were run. If there are several, or if the class
        does not have its fields, nobody knows where it comes from.
        """
        found: dict[str, tuple[_Text, ast.AST]] = {}
        for file in [each for each in linecache.cache if _CELL.search(each)]:
            with suppress(OSError, SyntaxError):
                text = self._text(file)
                for tree in text.classes(class_.__qualname__):
                    found[text.read(tree)[0]] = (text, tree)
        if len(found) != 1:
            return None
        ((text, tree),) = found.values()
        hints = {
            each.target.id
            for each in tree.body[0].body  # type: ignore[attr-defined]
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
        return (text, tree) if hints == set(vars(class_).get("__annotations__", ())) else None


# The names of files that stand for cells of IPython and Jupyter.
_CELL = re.compile(r"^<ipython-input-|[/\\]ipykernel_\d+[/\\]")


@lru_cache(maxsize=16)  # for stages that are read one by one
def _parsed(text: str, file: str, detail: Detail) -> "_Text":
    return _Text(text, file, detail)


class _Text:
    """The source of a file.

    Attributes:
        tree: Its syntax tree, without what cannot change a result.
    """

    def __init__(self, text: str, file: str, detail: Detail) -> None:
        if not text and not Path(file).exists():
            raise OSError("could not get source code")
        self._source = text
        self._file = file
        self._detail = detail
        self.tree = ast.parse(text)
        self._functions: dict[tuple[int, str], ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self._classes: dict[str, list[ast.ClassDef]] = {}
        self._index(self.tree, "")

    def _index(self, tree: ast.AST, path: str) -> None:
        """Note all functions and classes, and remove what does not count."""
        for node in _inner_statements(tree):
            inner = path
            if isinstance(node, _Function):
                self._functions[_first_line(node), node.name] = node
                vars(node)[NOTES] = {}
                inner = f"{path}{node.name}.<locals>."
            elif isinstance(node, ast.ClassDef):
                self._classes.setdefault(f"{path}{node.name}", []).append(node)
                inner = f"{path}{node.name}."
            self._index(node, inner)
        if self._detail is Detail.CODE:
            _strip(tree)

    @cached_property
    def _lambdas(self) -> list[ast.Lambda]:
        """All lambdas, outer ones before inner ones."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Lambda)]

    def read(self, tree: ast.AST) -> tuple[str, Names]:
        """The text that stands for a definition, and the names that it uses."""
        text, names = read_tree(tree)
        return text if self._detail is not Detail.TEXT else self._lines(tree), names

    def _lines(self, tree: ast.AST) -> str:
        inner = tree.body[0] if isinstance(tree, ast.Module) and tree.body else tree
        first = _first_line(inner) if isinstance(inner, _DECORATED) else 1
        last = getattr(inner, "end_lineno", None)
        return "\n".join(self._source.splitlines()[first - 1 : last])

    def check(self, code: CodeType) -> None:
        """Refuse code of a module that was edited after its import.

        Raises:
            ChangedSourceError: The file does not contain this code.
        """
        for each in self._codes.get((code.co_firstlineno, code.co_name), ()):
            if each == code or _unplaced(each) == _unplaced(code):
                return
        raise ChangedSourceError(f"{self._file} changed since it was imported: restart")

    @cached_property
    def _codes(self) -> dict[tuple[int, str], list[CodeType]]:
        """First line and name of every code object in the file."""
        module = compile(self._source, self._file, "exec", dont_inherit=True)
        found: dict[tuple[int, str], list[CodeType]] = {}
        for each in _with_inner(module):
            found.setdefault((each.co_firstlineno, each.co_name), []).append(each)
        return found

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
        definition = _copied(node)
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

    def classes(self, name: str) -> list[ast.AST]:
        """The definitions of all classes of a qualified name."""
        return [ast.Module([each], []) for each in self._classes.get(name, [])]

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
        stages = {name for name, member in vars(class_).items() if is_stage(member)}
        return ast.Module([_without_declarations(found[-1], stages)], []) if found else None


def _without_declarations(definition: ast.ClassDef, stages: set[str]) -> ast.ClassDef:
    """A class without the declarations of stages above its methods, such as their spaces."""
    if not stages:
        return definition
    definition = _copied(definition)
    definition.body = [
        _undecorated(each, "stage") if getattr(each, "name", None) in stages else each
        for each in definition.body
    ]
    return definition


def _copied(node: Any) -> Any:
    copied = type(node)()
    vars(copied).update(vars(node))
    return copied


def _undecorated(node: Any, decorator: str) -> Any:
    """A copy of a function's tree without a decorator; it shares the notes."""
    node = _copied(node)
    node.decorator_list = [each for each in node.decorator_list if _last_name(each) != decorator]
    return node


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """A code object and all code objects inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _inner_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements right below a node: only they may be, or hold, functions and classes."""
    values = vars(tree)
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for each in values.get(name, ()):
            if "body" in each.__dict__ or "cases" in each.__dict__:
                yield each


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


def _strip(node: ast.AST) -> None:
    """Remove from a definition what cannot change a result: its docstring and hints."""
    if isinstance(node, _DOCUMENTED) and _has_docstring(node.body) and not _is_read(node):
        node.body = node.body[1:] or [ast.Pass()]
    if isinstance(node, _Function) and all(map(_ignores_hints, node.decorator_list)):
        _remove_hints(node)


def _is_read(node: ast.AST) -> bool:
    """Whether a library is known to read the docstring of a definition."""
    around = [*getattr(node, "decorator_list", ()), *getattr(node, "bases", ())]
    return any(_last_name(each) in _READS_DOCSTRINGS for each in around)


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def _ignores_hints(decorator: ast.expr) -> bool:
    """Whether a decorator is known not to read a function's type hints, as validators do."""
    return _last_name(decorator) in _IGNORES_HINTS


def _last_name(node: ast.expr) -> str:
    """The last part of a dotted name that may be called."""
    named = node.func if isinstance(node, ast.Call) else node
    return str(getattr(named, "attr", getattr(named, "id", "")))


def _remove_hints(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    function.returns = None
    for each in arguments_of(function):
        each.annotation = None
