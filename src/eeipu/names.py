"""The names that a piece of source takes from outside of itself."""

import ast
import importlib
import symtable
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Names", "names_in"]


@dataclass(frozen=True)
class Names:
    """Names that source uses and does not define.

    Attributes:
        chains: Dotted names, as tuples of their parts.
        imports: The imports inside the source: name in the source, module, and the attribute of
            the module that the name is for. Without one it is for the module itself, or where
            the name is the first part of the module's, for the package of that name.
    """

    chains: frozenset[tuple[str, ...]]
    imports: tuple[tuple[str, str, str | None], ...]

    def imported(self, scope: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Name -> what each import inside the source gives it, where that can be imported.

        Args:
            scope: The globals of the source, for relative imports.
        """
        found: dict[str, list[Any]] = {}
        for name, module_name, attribute in self.imports:
            try:
                module = importlib.import_module(module_name, scope.get("__package__"))
                is_package = attribute is None and module_name.startswith(f"{name}.")
                taken = sys.modules[name] if is_package else _taken(module, attribute)
            except (ImportError, AttributeError, TypeError):
                continue  # the source can live without it, or fails when it runs
            found.setdefault(name, []).append(taken)  # `if` and `else` may import one name each
        return found


def _taken(module: Any, attribute: str | None) -> Any:
    if attribute is None:
        return module
    if not hasattr(module, attribute):
        return importlib.import_module(f"{module.__name__}.{attribute}")
    return getattr(module, attribute)


def names_in(tree: ast.AST, free: Collection[str] = ()) -> Names:
    """The names that a definition, a lambda or a module uses from outside of itself.

    Args:
        tree: The source.
        free: The variables of functions around it that it uses.

    Raises:
        SyntaxError: It is not whole without what is around it.
    """
    imports = tuple(_imports(tree))
    source = ast.unparse(tree)
    if free:  # `nonlocal` needs a function around it that has the variables
        source = f"def around({', '.join(free)}):\n{textwrap.indent(source, ' ')}"
    outside = _outside(symtable.symtable(source, "source", "exec"))
    outside |= {name for name, _, _ in imports} | _defined(tree) | set(free)
    finder = _Chains()
    finder.visit(tree)
    return Names(frozenset(c for c in finder.chains if c[0] in outside), imports)


def _defined(tree: ast.AST) -> set[str]:
    """The name of a definition, by which it may call itself."""
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


class _Chains(ast.NodeVisitor):
    """Collects `a`, `a.b` and `a.b.c`, each at its full length."""

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
