"""The source of functions, classes and modules, and whose it is."""

import ast
import inspect
import linecache
import os
import sys
import sysconfig
import textwrap
import tokenize
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["bare", "check_unchanged", "is_own", "parsed"]

_NOT_OWN = [
    Path(os.path.realpath(folder))
    for folder in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        Path(__file__).parent,
    )
]

_IGNORES_HINTS = {
    *("abstractmethod", "cache", "cached_property", "classmethod", "lru_cache", "property"),
    *("setter", "stage", "staticmethod", "wraps"),
}

_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def is_own(part: Any) -> bool:
    """Whether code is the user's own, not Python's or an installed package's.

    A package installed in editable mode is its author's own.
    """
    name = part.__name__ if isinstance(part, ModuleType) else getattr(part, "__module__", None)
    if not isinstance(name, str):
        return True  # made by exec, without a module
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or name == "__main__":
        return name == "__main__" or name.partition(".")[0] not in sys.stdlib_module_names
    # By its file: the user's own module may be named as one of Python's.
    path = Path(os.path.realpath(file))
    installed = {"site-packages", "dist-packages"}
    return installed.isdisjoint(Path(file).parts) and not any(map(path.is_relative_to, _NOT_OWN))


def parsed(part: Any) -> ast.AST:
    """A definition, without the lines around it; or a whole module.

    Args:
        part: The code of a function, a class or a module.

    Raises:
        OSError: There is no source.
        TypeError: It is nothing that has source.
        SyntaxError: Its source cannot be told from its neighbours'.
    """
    if isinstance(part, CodeType):
        return _parsed_function(part)
    if isinstance(part, type):
        return _parsed_class(part)
    if isinstance(part, ModuleType):
        return _parsed_module(part)
    raise TypeError(f"{type(part).__name__} objects have none")


def _parsed_module(module: ModuleType) -> ast.AST:
    file = getattr(module, "__file__", None) or ""
    if not file.endswith(".py"):
        raise OSError(f"{file or 'it'} is not Python source")
    with tokenize.open(file) as source:  # unlike inspect, it takes empty modules too
        return ast.parse(source.read())


def _parsed_function(code: CodeType) -> ast.AST:
    # Not of the function: that would look through it at what it wraps.
    source = inspect.getsource(code)
    # Not dedented: a string of several lines would not be the same.
    tree = ast.Module([_first_of(source)], []) if source[:1].isspace() else ast.parse(source)
    if code.co_name != "<lambda>":
        return tree
    lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    if len(lambdas) != 1:
        raise SyntaxError("its line has several lambdas")
    return lambdas[0]


def check_unchanged(function: FunctionType) -> None:
    """Refuse the old code of an edited module, which would go under the name of the new.

    Raises:
        OSError: A function's source is not what was imported.
    """
    # Others, such as pytest's and beartype's, import something else than what is in the file.
    if type(function.__globals__.get("__loader__")) is not SourceFileLoader:
        return
    code = function.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    if (code.co_firstlineno, _unplaced(code)) not in _codes_in(text, code.co_filename):
        raise OSError(f"{code.co_filename} changed since it was imported: restart")


@lru_cache(maxsize=16)  # a project's files, each read for all of its functions
def _codes_in(text: str, file: str) -> frozenset[tuple[int, CodeType]]:
    """Line and content of every piece of code in a file."""
    found = [compile(text, file, "exec", dont_inherit=True)]
    for code in found:  # a list that grows meanwhile
        found += [each for each in code.co_consts if isinstance(each, CodeType)]
    return frozenset((code.co_firstlineno, _unplaced(code)) for code in found)


def _unplaced(code: CodeType) -> CodeType:
    """Code without where it is, which also moves when a comment does."""
    consts = tuple(_unplaced(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=consts, co_filename="", co_firstlineno=1, co_linetable=b"")


def _first_of(source: str) -> ast.stmt:
    """The statement in an indented piece of source."""
    (block,) = ast.parse(f"if True:\n{source}").body
    assert isinstance(block, ast.If)
    return block.body[0]


def _parsed_class(part: type) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(part)))
    except (OSError, TypeError):
        # The module of a notebook has no file, but the methods' code knows its cell.
        for each in vars(part).values():
            if isinstance(each, FunctionType):
                return _class_around(each, part.__name__)
        raise


def _class_around(method: FunctionType, name: str) -> ast.AST:
    """The class of a method, found in the text that the method was compiled from."""
    code = method.__code__
    text = "".join(linecache.getlines(code.co_filename))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            assert node.end_lineno is not None
            if node.lineno <= code.co_firstlineno <= node.end_lineno:
                return ast.Module([node], [])
    raise OSError("could not find the class in its source")


def bare(tree: ast.AST) -> ast.AST:
    """The tree without the parts that cannot change a result."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and all(
            map(_ignores_hints, node.decorator_list)
        ):
            _remove_hints(node)
    if isinstance(tree, ast.Module) and len(tree.body) == 1:
        # What decorates a function shows in the object that the name stands for; a class is
        # changed in place, and what is inside a definition is part of it.
        definition = tree.body[0]
        if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
            definition.decorator_list = []
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


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
