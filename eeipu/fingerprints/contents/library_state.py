"""What objects of libraries note down while they are used, and which does not change what they do.

Libraries are recognised by the names of their classes, so that none is imported.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eeipu.fingerprints.contents.torch_values import module_state

__all__ = ["kept_state"]

Keep = Callable[[Any, dict[str, Any]], dict[str, Any]]


def kept_state(obj: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The part of an object's state that counts."""
    for keep in _rules(type(obj)):
        state = keep(obj, state)
    return state


def _without(*names: str) -> Keep:
    """A rule that leaves out attributes."""
    return lambda _, state: {name: each for name, each in state.items() if name not in names}


_RULES: dict[tuple[str, str], Keep] = {
    ("torch", "Module"): module_state,
    ("pandas", "PandasObject"): _without("_cache"),
    ("pandas", "ExtensionDtype"): _without("_cache"),
    # The address of the stop words that were checked last.
    ("sklearn", "_VectorizerMixin"): _without("_stop_words_id"),
}


@lru_cache(maxsize=1024)
def _rules(kind: type) -> tuple[Keep, ...]:
    names = [(each.__module__.partition(".")[0], each.__name__) for each in kind.__mro__]
    return tuple(_RULES[name] for name in names if name in _RULES)
