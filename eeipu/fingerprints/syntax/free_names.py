"""The names that a piece of source uses from outside of itself."""

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from eeipu.fingerprints.syntax.text_calls import METHODS, callee_of, is_written

__all__ = ["NOTES", "Names", "arguments_of", "names_in"]

NOTES = "notes"
"""The attribute of a function's tree with what is known of it by now, which its copies share."""


@dataclass(frozen=True)
class Names:
    """Names that source uses and does not define.

    Attributes:
        chains: Dotted names, each as a tuple: `("np", "linalg", "norm")`.
        imports: The imports inside the source. Each has the name in the source, the module, and
            the attribute that is imported. Where there is no attribute, the name refers to the
            module, or to its first package if `import package.module` gave only that a name.
        attributes: All attributes that the source names, whatever they are taken from.
        texts: The strings in the source.
        calls: What is called and may look up names in a text, as a dotted name, and whether all
            texts that it is given are written in the source. The first part is "" where it is
            taken from the result of an expression: `("", "query")` for `g().query("x > 1")`.
    """

    chains: frozenset[tuple[str, ...]]
    imports: tuple[tuple[str, str, str | None], ...] = ()
    attributes: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    calls: tuple[tuple[tuple[str, ...], bool], ...] = ()


def names_in(tree: ast.AST) -> Names:
    """The names that a definition, a lambda or a module uses from outside of itself."""
    found, around = _Found(), _Scope(None)
    found.visit(tree, around)
    return found.names(around)


class _Scope:
    """A function, a class body, a comprehension, or what is around all of them.

    Attributes:
        parent: The scope around it.
        chains: The dotted names that it uses itself.
        inner: Those that scopes inside of it use and do not bind.
        assigned: The names that it binds -> the expressions that they are given. `None` stands
            for one that is not known, such as an argument.
        declared: The names that it declares to be of a scope around it.
        is_class: Whether it is a class body.
    """

    def __init__(self, parent: "_Scope | None", *, is_class: bool = False) -> None:
        self.parent = parent
        self.chains: set[tuple[str, ...]] = set()
        self.inner: set[tuple[str, ...]] = set()
        self.assigned: dict[str, list[ast.expr | None]] = {}
        self.declared: set[str] = set()
        self.is_class = is_class

    def bind(self, name: str, value: ast.expr | None = None) -> None:
        """Note that the scope gives a name a value."""
        self.assigned.setdefault(name, []).append(value)

    def close(self) -> None:
        """Hand what the scope uses and does not bind to the scope around it."""
        if self.parent is None:
            return
        bound = self.assigned.keys() - self.declared
        free = {each for each in self.chains if each[0] not in bound}
        free |= {(name,) for name in self.declared}
        # A class body does not show its names to the functions in it.
        hidden = () if self.is_class else bound
        self.parent.inner |= free
        self.parent.inner |= {each for each in self.inner if each[0] not in hidden}

    def values_of(self, name: str) -> list[ast.expr | None] | None:
        """What a name is given in the scopes around a place; `None` if it is from outside."""
        scope: _Scope | None = self
        while scope is not None and name not in scope.assigned:
            scope = scope.parent
        return None if scope is None else scope.assigned[name]


class _Found:
    """Visits a tree once, and collects what it finds.

    As a visitor, it has a method for each kind of node that binds or uses names. They are many, but
    each is short, and `_VISITS` says which kinds it is for.
    """

    def __init__(self) -> None:
        self.imports: list[tuple[str, str, str | None]] = []
        self.attributes: set[str] = set()
        self.texts: set[str] = set()
        self.hints: set[tuple[str, ...]] = set()
        self.calls: list[tuple[tuple[str, ...], ast.Call, _Scope]] = []
        self._inner: list[Names] = []  # of functions that have been visited by themselves

    def names(self, around: _Scope) -> Names:
        """All that was found, when everything in a scope has been visited."""
        calls = [call for each in self._inner for call in each.calls]
        calls += [(name, is_written(call, scope.values_of)) for name, call, scope in self.calls]
        inner = self._inner
        return Names(
            frozenset(around.chains | around.inner | self.hints),
            (*self.imports, *(each for names in inner for each in names.imports)),
            frozenset(self.attributes).union(*(each.attributes for each in inner)),
            frozenset(self.texts).union(*(each.texts for each in inner)),
            tuple(calls),
        )

    def visit(self, node: ast.AST, scope: _Scope) -> None:
        """Visit a node in a scope."""
        kind = type(node)
        if kind in _VISITS:
            _VISITS[kind](self, node, scope)
        else:
            self._visit_fields(node, scope)

    def _visit_fields(self, node: ast.AST, scope: _Scope) -> None:
        values = vars(node)
        for name in _HOLDERS[type(node)]:
            value = values.get(name)
            each: Any
            for each in value if type(value) is list else (value,):
                kind = type(each)
                if kind in _VISITS:
                    _VISITS[kind](self, each, scope)
                elif kind in _HOLDERS:
                    self._visit_fields(each, scope)

    def _visit_all(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        for each in nodes:
            if each is not None:
                self.visit(each, scope)

    def _name(self, node: ast.Name, scope: _Scope) -> None:
        if isinstance(node.ctx, ast.Load):
            scope.chains.add((node.id,))
        else:
            scope.bind(node.id)

    def _attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        parts: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        self.attributes.update(parts)
        if isinstance(base, ast.Name):
            scope.chains.add((base.id, *reversed(parts)))
        else:
            self.visit(base, scope)

    def _constant(self, node: ast.Constant, _: _Scope) -> None:
        if isinstance(node.value, str):
            self.texts.add(node.value)

    def _call(self, node: ast.Call, scope: _Scope) -> None:
        callee = callee_of(node)
        may_read = callee[-1] in METHODS if callee[0] in _NO_READERS else True
        if may_read and (node.args or node.keywords):
            self.calls.append((callee, node, scope))
        self._visit_fields(node, scope)

    def _assign(self, node: ast.Assign, scope: _Scope) -> None:
        for target in node.targets:
            self._target(target, node.value, scope)
        self.visit(node.value, scope)

    def _target(self, target: ast.expr, value: ast.expr | None, scope: _Scope) -> None:
        if isinstance(target, ast.Name):
            scope.bind(target.id, value)
        else:
            self.visit(target, scope)

    def _updated(self, node: ast.AugAssign, scope: _Scope) -> None:
        if isinstance(node.target, ast.Name):
            scope.chains.add((node.target.id,))
        self._target(node.target, node.value, scope)
        self.visit(node.value, scope)

    def _named(self, node: ast.NamedExpr, scope: _Scope) -> None:
        self._target(node.target, node.value, scope)
        self.visit(node.value, scope)

    def _annotated(self, node: ast.AnnAssign, scope: _Scope) -> None:
        self.hints.update(_quoted(node.annotation))
        self.visit(node.annotation, scope)
        self._target(node.target, node.value, scope)
        if node.value is not None:
            self.visit(node.value, scope)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.comprehension, scope: _Scope) -> None:
        self._target(node.target, node.iter, scope)
        inner = [node.ifs] if isinstance(node, ast.comprehension) else [node.body, node.orelse]
        self._visit_all([node.iter, *chain.from_iterable(inner)], scope)

    def _global(self, node: ast.Global | ast.Nonlocal, scope: _Scope) -> None:
        scope.declared.update(node.names)

    def _import(self, node: ast.Import, _: _Scope) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.imports.append((name, alias.name, None))

    def _import_from(self, node: ast.ImportFrom, _: _Scope) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            self.imports.append((alias.asname or alias.name, module, alias.name))

    def _binding(self, node: ast.AST, scope: _Scope) -> None:
        """An `except` or a pattern of `match`, which gives a value to a name that it has."""
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        if name is not None:
            scope.bind(name)
        self._visit_fields(node, scope)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope
    ) -> None:
        if not isinstance(node, ast.Lambda):
            scope.bind(node.name)
            self._visit_all([*node.decorator_list, node.returns], scope)
        taken = node.args
        self._visit_all([*taken.defaults, *taken.kw_defaults], scope)
        arguments = arguments_of(node)
        self._visit_all([each.annotation for each in arguments], scope)
        notes = vars(node).get(NOTES)
        if notes is None or not (scope.is_class or scope.parent is None):
            self._visit_body(node, scope)
            return
        # A method is visited with its class and by itself; it sees no names of the class body.
        if "names" not in notes:
            found, around = _Found(), _Scope(None)
            found._visit_body(node, around)
            notes["names"] = found.names(around)
        self._inner.append(notes["names"])
        scope.inner |= notes["names"].chains

    def _visit_body(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope
    ) -> None:
        inner = _Scope(scope)
        for each in arguments_of(node):
            inner.bind(each.arg)
        if isinstance(node, ast.Lambda):
            self.visit(node.body, inner)
        else:
            self._visit_all([*getattr(node, "type_params", ()), *node.body], inner)
        inner.close()

    def _class(self, node: ast.ClassDef, scope: _Scope) -> None:
        scope.bind(node.name)
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords], scope)
        inner = _Scope(scope, is_class=True)
        self._visit_all([*getattr(node, "type_params", ()), *node.body], inner)
        inner.close()

    def _comprehension(self, node: ast.AST, scope: _Scope) -> None:
        inner = _Scope(scope)
        self._visit_fields(node, inner)
        inner.close()


def arguments_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    """The arguments of a function, of all kinds."""
    taken = node.args
    found = (*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg)
    return [each for each in found if each is not None]


def _quoted(annotation: ast.expr) -> Iterator[tuple[str, ...]]:
    """The names in a hint that is written as a string, as for a class that is defined later."""
    for each in ast.walk(annotation):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            with suppress(SyntaxError):  # a string that is no hint
                yield from names_in(ast.parse(each.value, mode="eval")).chains


# An expression, whose methods are known by their names only; and what looks up no other names.
_NO_READERS = {"", "self", "cls", *vars(builtins)}

# Kind of node -> its fields that may hold other nodes.
_HOLDERS: dict[type, list[str]] = {
    kind: [each for each in kind._fields if each not in {"ctx", "id", "kind", "op", "ops", "attr"}]
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}

_VISITS: dict[type, Callable[[_Found, Any, _Scope], None]] = {
    ast.Name: _Found._name,
    ast.Attribute: _Found._attribute,
    ast.Constant: _Found._constant,
    ast.Call: _Found._call,
    ast.Assign: _Found._assign,
    ast.AugAssign: _Found._updated,
    ast.NamedExpr: _Found._named,
    ast.AnnAssign: _Found._annotated,
    ast.For: _Found._loop,
    ast.AsyncFor: _Found._loop,
    ast.comprehension: _Found._loop,
    ast.Global: _Found._global,
    ast.Nonlocal: _Found._global,
    ast.Import: _Found._import,
    ast.ImportFrom: _Found._import_from,
    ast.ExceptHandler: _Found._binding,
    ast.MatchAs: _Found._binding,
    ast.MatchStar: _Found._binding,
    ast.MatchMapping: _Found._binding,
    ast.FunctionDef: _Found._function,
    ast.AsyncFunctionDef: _Found._function,
    ast.Lambda: _Found._function,
    ast.ClassDef: _Found._class,
    ast.ListComp: _Found._comprehension,
    ast.SetComp: _Found._comprehension,
    ast.DictComp: _Found._comprehension,
    ast.GeneratorExp: _Found._comprehension,
}
