"""Places in libraries where the user's code puts values that other code finds by a name.

An accessor that is registered with pandas is an attribute of every frame from then on, and a scorer
that is registered with scikit-learn is found by a string.
"""

import sys
from collections.abc import Collection, Iterator
from types import MappingProxyType
from typing import Any

from eeipu.fingerprints.reading.definitions import Lookup

__all__ = ["accessors", "operator_definition", "registered"]

# Module -> classes that their library, or many users, give new attributes.
_CLASSES = {
    "pandas": ("DataFrame", "Series", "Index"),
    "polars": ("DataFrame", "LazyFrame", "Expr", "Series"),
    "torch": ("Tensor",),
    "torch.nn": ("Module",),
    "xarray": ("Dataset", "DataArray"),
}

# Module -> the dictionary in it in which the library keeps what was registered.
_REGISTRIES = {
    "fsspec.registry": "_registry",
    "gymnasium.envs.registration": "registry",
    "keras.src.saving.object_registration": "GLOBAL_CUSTOM_OBJECTS",
    "sklearn.metrics._scorer": "_SCORERS",
}

# The namespaces of `torch.ops` that installed libraries fill.
_OPERATORS = {
    *("aten", "c10d", "c10d_functional", "_c10d_functional", "prim", "prims", "profiler"),
    *("quantized", "rngprims", "torchvision", "torchaudio", "inductor", "higher_order"),
}


def accessors(names: Collection[str]) -> Iterator[tuple[Lookup, Any]]:
    """The attributes of these names that classes of libraries have, and what each leads to."""
    for module, classes in _CLASSES.items() if names else ():
        loaded = vars(sys.modules[module]) if module in sys.modules else {}
        for each in classes:
            scope = vars(loaded[each]) if each in loaded else MappingProxyType({})
            for name in sorted(each for each in names if each in scope):
                value = scope[name]
                held = vars(value) if hasattr(value, "__dict__") else {}
                # The first is of polars, the second of pandas and xarray.
                yield (scope, name, value), held.get("_ns") or held.get("_accessor", value)


def registered(names: Collection[str]) -> Iterator[Lookup]:
    """What was registered with libraries under these names."""
    for module, registry in _REGISTRIES.items() if names else ():
        scope = getattr(sys.modules.get(module), registry, {})
        for name in sorted(each for each in names if each in scope):
            yield scope, name, scope[name]


def operator_definition(path: str) -> Any:
    """The definition in Python of an operator of torch, such as `torch.ops.mine.scale`.

    Returns:
        The definition; `None` for anything but an operator, and for one of torch itself.

    Raises:
        LookupError: Its definition is not known: it was made in C++, or by other means than
            `torch.library.custom_op`.
    """
    namespace, _, name = path.removeprefix("torch.ops.").partition(".")
    if not path.startswith("torch.ops.") or namespace in _OPERATORS:
        return None
    known = getattr(sys.modules.get("torch._library.custom_ops"), "OPDEFS", {})
    definition = known.get(f"{namespace}::{name.partition('.')[0]}")
    if definition is None:
        raise LookupError(path)
    return definition
