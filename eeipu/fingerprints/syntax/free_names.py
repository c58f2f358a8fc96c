"""A piece of source, read once: the text that stands for it, and the names that it uses.

The text is equal for sources that say the same. The names are those from outside of the source.
"""

import ast
import builtins
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eeipu.fingerprints.syntax.text_calls import METHODS, callee_of, is_written

__all__ = ["NOTES", "Names", "arguments_of", "read_tree"]

NOTES = "notes"
"""The attribute of a function's tree with what is known of its body, which its copies share."""


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


class _Scope:
    """A function, a class body, a comprehension, or what is around all of them.

    Attributes:
        parent: The scope around it.
        chains: The dotted names that it uses itself.
        inner: Those that scopes inside of it use and do not bind.
        assigned: The names that it binds -> the expressions that they are given. `None` stands
            for one that is not known, such as an argument.
        declared: The names that it declares to be of a scope around it.
        imported: The names that it imports. It may bind them too, as where an import fails.
        found: The dotted names of what it, or a scope inside of it, imports.
        is_class: Whether it is a class body.
    """

    def __init__(self, parent: "_Scope | None", *, is_class: bool = False) -> None:
        self.parent = parent
        self.chains: set[tuple[str, ...]] = set()
        self.inner: set[tuple[str, ...]] = set()
        self.assigned: dict[str, list[ast.expr | None]] = {}
        self.declared: set[str] = set()
        self.imported: set[str] = set()
        self.found: set[tuple[str, ...]] = set()
        self.is_class = is_class

    def bind(self, name: str, value: ast.expr | None = None) -> None:
        """Note that the scope gives a name a value."""
        self.assigned.setdefault(name, []).append(value)

    def close(self) -> None:
        """Hand what the scope uses and does not bind to the scope around it."""
        if self.parent is None:
            return
        if self.imported:
            used = self.chains | self.inner
            self.found.update([each for each in used if each[0] in self.imported])
            self.found.update([(name,) for name in self.imported if self.is_class])
        self.parent.found |= self.found
        bound = self.assigned.keys() - self.declared if self.declared else self.assigned
        around = self.parent.inner
        around.update([each for each in self.chains if each[0] not in bound])
        around.update([(name,) for name in self.declared])
        # A class body does not show its names to the functions in it.
        hidden = () if self.is_class else bound
        around.update([each for each in self.inner if each[0] not in hidden])

    def values_of(self, name: str) -> list[ast.expr | None] | None:
        """What a name is given in the scopes around a place; `None` if it is from outside."""
        scope: _Scope | None = self
        while scope is not None and name not in scope.assigned:
            scope = scope.parent
        return None if scope is None else scope.assigned[name]


@dataclass(slots=True)
class _Found:
    """What has been found in a tree, besides the names in its scopes.

    Attributes:
        imports: The imports, as in `Names`.
        attributes: The attributes.
        texts: The strings.
        hints: The names in hints that are written as strings.
        calls: What is called, the call, and where it is.
        inner: The names of functions that were read by themselves.
    """

    imports: list[tuple[str, str, str | None]]
    attributes: set[str]
    texts: set[str]
    hints: set[tuple[str, ...]]
    calls: list[tuple[tuple[str, ...], ast.Call, _Scope]]
    inner: list[Names]

    def names(self, around: _Scope) -> Names:
        """All that was found, when everything in a scope has been read."""
        chains = around.chains | around.inner | around.found | self.hints
        own = [(name, is_written(call, scope.values_of)) for name, call, scope in self.calls]
        has_more = own or self.imports or self.attributes or self.texts
        if len(self.inner) == 1 and not has_more and chains == self.inner[0].chains:
            return self.inner[0]  # a function to which its head adds nothing
        return Names(
            frozenset(chains),
            (*self.imports, *(each for names in self.inner for each in names.imports)),
            frozenset(self.attributes.union(*(each.attributes for each in self.inner))),
            frozenset(self.texts.union(*(each.texts for each in self.inner))),
            (*(call for each in self.inner for call in each.calls), *own),
        )


def read_tree(tree: ast.AST) -> tuple[str, Names]:
    """The text of a definition, a lambda or a module, and the names it uses from outside.

    Args:
        tree: Its syntax tree.
    """
    found, around = _nothing(), _Scope(None)
    text = _text(found, tree, around)
    return text, found.names(around)


def _nothing() -> _Found:
    return _Found([], set(), set(), set(), [], [])


# One function for each kind of node that binds or uses names. Each gets what has been found so far,
# the node and the scope that it is in, and returns the text of the node.


def _text(found: _Found, value: Any, scope: _Scope) -> str:
    """The text of a node, of a list or of a constant in a tree, which is read on the way."""
    kind = type(value)
    if kind in _READERS:
        return _READERS[kind](found, value, scope)
    return _list(found, value, scope) if kind is list else repr(value)


def _list(found: _Found, values: list[Any], scope: _Scope) -> str:
    texts = [
        _READERS[type(each)](found, each, scope) if type(each) in _READERS else repr(each)
        for each in values
    ]
    return f"[{','.join(texts)}]"


def _node(found: _Found, node: ast.AST, scope: _Scope) -> str:
    """Any node, field by field. What is empty is left out, as versions of Python add fields."""
    name, fields = _FIELDS[type(node)]
    values, parts = vars(node), []
    for field, start in fields:
        value = values.get(field)
        kind = type(value)
        if kind in _READERS:  # most of them, without one more call
            parts.append(start + _READERS[kind](found, value, scope))
        elif kind is list:
            if value:
                parts.append(start + _list(found, value, scope))
        elif value is not None:
            parts.append(start + repr(value))
    return f"{name}({','.join(parts)})"


def _leaf(_: _Found, node: ast.AST, __: _Scope) -> str:
    return f"{type(node).__name__}()"


def _written(kind: str, **parts: str) -> str:
    """The text of a node whose fields have been read; "" and "[]" stand for empty ones."""
    inner = [f"{name}={text}" for name, text in parts.items() if text and text != "[]"]
    return f"{kind}({','.join(inner)})"


def _name(_: _Found, node: ast.Name, scope: _Scope) -> str:
    if type(node.ctx) is ast.Load:
        scope.chains.add((node.id,))
    else:
        scope.bind(node.id)
    return f"Name({node.id})"


def _attribute(found: _Found, node: ast.Attribute, scope: _Scope) -> str:
    parts = [node.attr]
    base = node.value
    while type(base) is ast.Attribute:
        parts.append(base.attr)
        base = base.value
    parts.reverse()
    found.attributes.update(parts)
    if type(base) is ast.Name:
        scope.chains.add((base.id, *parts))
        text = f"Name({base.id})"
    else:
        text = _text(found, base, scope)
    for each in parts:
        text = f"Attribute(value={text},attr={each!r})"
    return text


def _constant(found: _Found, node: ast.Constant, _: _Scope) -> str:
    value = node.value
    if value is None:
        return "Constant()"
    if isinstance(value, str):
        found.texts.add(value)
    return f"Constant(value={value!r})"


def _call(found: _Found, node: ast.Call, scope: _Scope) -> str:
    callee = callee_of(node)
    may_read = callee[-1] in METHODS if callee[0] in _NO_READERS else True
    if may_read and (node.args or node.keywords):
        found.calls.append((callee, node, scope))
    return _node(found, node, scope)


def _assign(found: _Found, node: ast.Assign, scope: _Scope) -> str:
    targets = [_target(found, each, node.value, scope) for each in node.targets]
    value = _text(found, node.value, scope)
    return f"Assign(targets=[{','.join(targets)}],value={value})"


def _target(found: _Found, target: ast.expr, value: ast.expr | None, scope: _Scope) -> str:
    if type(target) is not ast.Name:
        return _text(found, target, scope)
    scope.bind(target.id, value)
    return f"Name({target.id})"


def _updated(found: _Found, node: ast.AugAssign, scope: _Scope) -> str:
    if isinstance(node.target, ast.Name):
        scope.chains.add((node.target.id,))
    target = _target(found, node.target, node.value, scope)
    operator = _text(found, node.op, scope)
    return f"AugAssign(target={target},op={operator},value={_text(found, node.value, scope)})"


def _named(found: _Found, node: ast.NamedExpr, scope: _Scope) -> str:
    target = _target(found, node.target, node.value, scope)
    return f"NamedExpr(target={target},value={_text(found, node.value, scope)})"


def _annotated(found: _Found, node: ast.AnnAssign, scope: _Scope) -> str:
    found.hints.update(_quoted(node.annotation))
    annotation = _text(found, node.annotation, scope)
    target = _target(found, node.target, node.value, scope)
    value = "" if node.value is None else _text(found, node.value, scope)
    return _written(
        "AnnAssign", target=target, annotation=annotation, value=value, simple=repr(node.simple)
    )


def _loop(found: _Found, node: ast.For | ast.AsyncFor | ast.comprehension, scope: _Scope) -> str:
    parts = {"target": _target(found, node.target, node.iter, scope)}
    kind, fields = _FIELDS[type(node)]
    for name, _ in fields[1:]:
        value = getattr(node, name)
        parts[name] = "" if value is None else _text(found, value, scope)
    return _written(kind, **parts)


def _global(found: _Found, node: ast.Global | ast.Nonlocal, scope: _Scope) -> str:
    scope.declared.update(node.names)
    return _node(found, node, scope)


def _import(found: _Found, node: ast.Import, scope: _Scope) -> str:
    for alias in node.names:
        name = alias.asname or alias.name.partition(".")[0]
        scope.imported.add(name)
        found.imports.append((name, alias.name, None))
    return _node(found, node, scope)


def _import_from(found: _Found, node: ast.ImportFrom, scope: _Scope) -> str:
    module = "." * node.level + (node.module or "")
    for alias in node.names:
        scope.imported.add(alias.asname or alias.name)
        found.imports.append((alias.asname or alias.name, module, alias.name))
    return _node(found, node, scope)


def _binding(found: _Found, node: ast.AST, scope: _Scope) -> str:
    """An `except` or a pattern of `match`, which gives a value to a name that it has."""
    name = getattr(node, "name", None) or getattr(node, "rest", None)
    if name is not None:
        scope.bind(name)
    return _node(found, node, scope)


def _function(found: _Found, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: _Scope) -> str:
    scope.bind(node.name)
    decorators = _text(found, node.decorator_list, scope)
    arguments = _text(found, node.args, scope)
    returns = "" if node.returns is None else _text(found, node.returns, scope)
    notes = vars(node).get(NOTES)
    if notes is None or not (scope.is_class or scope.parent is None):
        body, kinds = _body(found, node, scope)
    else:
        # A method is read with its class and by itself; it sees no names of the class body.
        if "body" not in notes:
            inner, around = _nothing(), _Scope(None)
            notes["body"] = (_body(inner, node, around), inner.names(around), around.found)
        (body, kinds), names, imported = notes["body"]
        found.inner.append(names)
        scope.inner |= names.chains
        scope.found |= imported
    text = _written(
        type(node).__name__,
        name=repr(node.name),
        args=arguments,
        body=body,
        returns=returns,
        type_params=kinds,
    )
    return decorators + text


def _body(
    found: _Found, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: _Scope
) -> tuple[str, str]:
    """The texts of a function's body and of its type parameters."""
    inner = _with_arguments(node, scope)
    kinds = _text(found, getattr(node, "type_params", []), inner)
    body = _text(found, node.body, inner)
    inner.close()
    return body, kinds


def _lambda(found: _Found, node: ast.Lambda, scope: _Scope) -> str:
    arguments = _text(found, node.args, scope)
    inner = _with_arguments(node, scope)
    body = _text(found, node.body, inner)
    inner.close()
    return f"Lambda(args={arguments},body={body})"


def _with_arguments(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope
) -> _Scope:
    inner = _Scope(scope)
    for each in arguments_of(node):
        inner.bind(each.arg)
    return inner


def _class(found: _Found, node: ast.ClassDef, scope: _Scope) -> str:
    scope.bind(node.name)
    parts = {name: _text(found, getattr(node, name), scope) for name in _AROUND_CLASS}
    inner = _Scope(scope, is_class=True)
    kinds = _text(found, getattr(node, "type_params", []), inner)
    body = _text(found, node.body, inner)
    inner.close()
    return _written(
        "ClassDef",
        name=repr(node.name),
        bases=parts["bases"],
        keywords=parts["keywords"],
        body=body,
        decorator_list=parts["decorator_list"],
        type_params=kinds,
    )


def _comprehension(found: _Found, node: ast.AST, scope: _Scope) -> str:
    inner = _Scope(scope)
    text = _node(found, node, inner)
    inner.close()
    return text


def arguments_of(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
) -> Sequence[ast.arg]:
    """The arguments of a function, of all kinds."""
    taken = node.args
    found = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
    return found + [each for each in (taken.vararg, taken.kwarg) if each is not None]


def _quoted(annotation: ast.expr) -> Iterator[tuple[str, ...]]:
    """The names in a hint that is written as a string, as for a class that is defined later."""
    for each in ast.walk(annotation):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            with suppress(SyntaxError):  # a string that is no hint
                yield from read_tree(ast.parse(each.value, mode="eval"))[1].chains


# An expression, whose methods are known by their names only; and what looks up no other names.
_NO_READERS = {"", "self", "cls", *vars(builtins)}

_AROUND_CLASS = ("decorator_list", "bases", "keywords")

# What follows from the rest, or only says how a string was written.
_UNWRITTEN = {"ctx", "kind", "type_comment"}

# Kind of node -> its name, and its fields that have a text with what stands in front of that.
_FIELDS: dict[type, tuple[str, tuple[tuple[str, str], ...]]] = {
    kind: (name, tuple((each, f"{each}=") for each in kind._fields if each not in _UNWRITTEN))
    for name, kind in vars(ast).items()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}

_READERS: dict[type, Callable[[_Found, Any, _Scope], str]] = {
    **{kind: _node if fields else _leaf for kind, (_, fields) in _FIELDS.items()},
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.Assign: _assign,
    ast.AugAssign: _updated,
    ast.NamedExpr: _named,
    ast.AnnAssign: _annotated,
    ast.For: _loop,
    ast.AsyncFor: _loop,
    ast.comprehension: _loop,
    ast.Global: _global,
    ast.Nonlocal: _global,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), _binding),
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.Lambda: _lambda,
    ast.ClassDef: _class,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), _comprehension),
}
