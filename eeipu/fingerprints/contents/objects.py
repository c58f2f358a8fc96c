"""Objects that count by what pickle takes them apart into, without what they have only computed.

A cached property is computed once and then kept in the object. It is part of the content only where
it differs from what the property gives: where it was set, or the object has changed since. A
library is trusted to keep its own up to date.
"""

import copyreg
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from eeipu.fingerprints.contents.library_state import kept_state
from eeipu.fingerprints.first_party import FirstParty

__all__ = ["reduced_content"]


def reduced_content(obj: Any, digest: Callable[[Any], bytes]) -> tuple[Any, ...]:
    """What stands for an object that can be pickled.

    Args:
        obj: The object.
        digest: Gives the digest of a value, to compare values by.

    Raises:
        Exception: Whatever the object's own methods for pickle raise.
    """
    reduce: Any = copyreg.dispatch_table.get(type(obj))
    reduced: Any = obj.__reduce_ex__(5) if reduce is None else reduce(obj)
    if isinstance(reduced, str):
        return ("a name", getattr(obj, "__module__", None), reduced)
    parts: tuple[Any, ...] = (*reduced, None, None, None, None)
    make, args, state, items, pairs, setter = parts[:6]
    return (
        "reduced",
        make,
        args,
        _kept(obj, state, digest),
        None if items is None else list(items),
        None if pairs is None else list(pairs),
        setter,
    )


def _kept(obj: Any, state: Any, digest: Callable[[Any], bytes]) -> Any:
    """The part of a state that counts."""
    if isinstance(state, tuple) and len(state) == 2:  # the attributes, and those in slots
        return (_kept(obj, state[0], digest), state[1])
    if type(state) is not dict:
        return kept_state(obj, state) if isinstance(state, tuple) else state
    kept = kept_state(obj, state)
    kind: Any = type(obj)
    properties = _cached_properties(kind)
    if not properties.keys().isdisjoint(kept):
        kept = {
            name: value
            for name, value in list(kept.items())
            if name not in properties or not _is_computed(obj, value, properties[name], digest)
        }
    return kept if kept or not state else None  # as if it had never been used


@lru_cache(maxsize=1024)
def _cached_properties(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The cached properties of a class, and of each whether it is the user's own."""
    first_party = FirstParty()
    return {
        name: (member, first_party.owns(owner))
        for owner in reversed(kind.__mro__)
        for name, member in vars(owner).items()
        if _is_cached_property(member)
    }


def _is_cached_property(member: Any) -> bool:
    """Whether it is `functools.cached_property`, or one that a library made like it."""
    name = type(member).__name__.replace("_", "").lower()
    return isinstance(member, cached_property) or (
        name.endswith(("cachedproperty", "lazyproperty")) and not hasattr(type(member), "__set__")
    )


def _is_computed(
    obj: Any, value: Any, cached: tuple[Any, bool], digest: Callable[[Any], bytes]
) -> bool:
    member, is_own = cached
    if not is_own:
        return True
    compute = getattr(member, "func", None)
    if compute is None:
        return False
    try:
        return digest(compute(obj)) == digest(value)
    except Exception:  # the user's own code, or a value that cannot be hashed
        return False
