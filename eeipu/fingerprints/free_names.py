"""The names that a piece of source uses from outside of itself."""

import ast
import symtable
import textwrap
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Names", "names_in"]


@dataclass(frozen=True)
class Names:
    """Names that source uses and does not define.

    Attributes:
        chains: Dotted names, each as a tuple: `("np", "linalg", "norm")`.
        imports: The imports inside the source. Each has the name in the source, the module, and
            the attribute that is imported. Where there is no attribute, the name refers to the
            module, or to its first package if `import package.module` gave only that a name.
    """

    chains: frozenset[tuple[str, ...]]
    imports: tuple[tuple[str, str, str | None], ...]


def names_in(tree: ast.AST, free: Collection[str] = ()) -> Names:
    """The names that a definition, a lambda or a module uses from outside of itself.

    Args:
        tree: The source.
        free: The variables that it uses from the functions around it.

    Raises:
        SyntaxError: The source is not valid by itself.
    """
    imports = tuple(_imports(tree))
    source = ast.unparse(tree)
    if free:  # `nonlocal` needs an outer function that has the variables
        source = f"def around({', '.join(free)}):\n{textwrap.indent(source, ' ')}"
    outside = _outside(symtable.symtable(source, "source", "exec"))
    outside |= {name for name, _, _ in imports} | _defined(tree) | set(free)
    finder = _Chains()
    for quoted in _quoted(tree):
        finder.visit(quoted)
    outside |= {first for first, *_ in finder.chains}
    finder.visit(tree)
    return Names(frozenset(c for c in finder.chains if c[0] in outside), imports)


def _defined(tree: ast.AST) -> set[str]:
    """The name of a definition, which it may use to call itself."""
    body = tree.body if isinstance(tree, ast.Module) else []
    return {getattr(each, "name", "") for each in body}


def _outside(table: symtable.SymbolTable) -> set[str]:
    is_top = table.get_type() == "module"
    names = {s.get_name() for s in table.get_symbols() if is_top or s.is_global()}
    return names.union(*map(_outside, table.get_children()))


def _imports(tree: ast.AST) -> Iterator[tuple[str, str, str | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name, None
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield alias.asname or alias.name, module, alias.name


def _quoted(tree: ast.AST) -> Iterator[ast.expr]:
    """The hints of fields that are written as strings, as for a class that is defined later."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            for each in ast.walk(node.annotation):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    with suppress(SyntaxError):  # a string that is no hint
                        yield ast.parse(each.value, mode="eval").body


class _Chains(ast.NodeVisitor):
    """Collects dotted names such as `a`, `a.b` and `a.b.c`, each in full."""

    def __init__(self) -> None:
        self.chains: set[tuple[str, ...]] = set()

    def visit_Name(self, node: ast.Name) -> None:
        self.chains.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            self.chains.add((base.id, *reversed(parts)))
        else:
            self.visit(base)
