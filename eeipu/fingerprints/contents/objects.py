"""Objects that count by what pickle takes them apart into, without what they have only computed.

A cached property is computed once and then kept in the object. It is part of the content only where
it differs from what the property gives: where it was set, or the object has changed since. A
library is trusted to keep its own up to date.
"""

import copyreg
import gc
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import FunctionType
from typing import Any

import numpy as np

from eeipu.fingerprints.contents.library_state import kept_state
from eeipu.fingerprints.first_party import FirstParty
from eeipu.serialization.main_module import home_of

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
        module = getattr(obj, "__module__", None)
        home = home_of(module) if isinstance(module, str) else module
        return ("a name", home, reduced, *_behind_name(obj))
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


def _behind_name(obj: Any) -> tuple[Any, ...]:
    """What an object does that pickle takes for the name under which it is imported.

    Its code and state may be another one under the same name.
    """
    if isinstance(obj, type | FunctionType):
        return ()
    if type(obj) is np.ufunc:  # of `frompyfunc`, which hides the function that it calls
        return tuple(each for each in gc.get_referents(obj) if isinstance(each, FunctionType))
    wrapped = getattr(obj, "__wrapped__", None)
    found = () if wrapped is None else (wrapped,)
    is_own = FirstParty().owns(type(obj))
    return (*found, type(obj), object.__getstate__(obj)) if is_own else found


def _kept(obj: Any, state: Any, digest: Callable[[Any], bytes]) -> Any:
    """The part of a state that counts."""
    if isinstance(state, tuple) and len(state) == 2:  # the attributes, and those in slots
        slots = state[1]
        kept_slots = kept_state(obj, slots) if type(slots) is dict else slots
        return (_kept(obj, state[0], digest), kept_slots)
    if type(state) is not dict:
        return kept_state(obj, state) if isinstance(state, tuple) else state
    kept = kept_state(obj, state)
    if type(kept.get("__dict__")) is dict:  # pydantic has further attributes beside it
        kept = {**kept, "__dict__": _without_computed(obj, kept["__dict__"], digest)}
    kept = _without_computed(obj, kept, digest)
    return kept if kept or not state else None  # as if it had never been used


def _without_computed(
    obj: Any, state: dict[str, Any], digest: Callable[[Any], bytes]
) -> dict[str, Any]:
    """The attributes without those that cached properties give."""
    kind: Any = type(obj)
    properties = _cached_properties(kind)
    found = [name for name in state if name in properties]
    own = [name for name in found if properties[name][1]]
    computed = set(found) - set(own)
    if own:
        state = dict(state)  # to compute one property may fill others
        computed |= _computed_now(
            obj, {n: (properties[n][0], state[n]) for n in own}, state, digest
        )
    return {name: value for name, value in state.items() if name not in computed}


def _computed_now(
    obj: Any,
    properties: dict[str, tuple[Any, Any]],
    state: dict[str, Any],
    digest: Callable[[Any], bytes],
) -> frozenset[str]:
    """`_computed`, or what it found when the object last had this state."""
    try:
        seen = (type(obj), digest(state))
    except Exception:  # a part of it counts by its type, such as a lock
        return _computed(obj, properties, digest)
    if seen not in _COMPUTED:
        _COMPUTED[seen] = _computed(obj, properties, digest)
        while len(_COMPUTED) > _MOST_COMPUTED:
            _COMPUTED.pop(next(iter(_COMPUTED)), None)
    return _COMPUTED.get(seen, frozenset())


# Which properties of the user's own have what they give, by class and state. To compute them once
# more with each look might take long.
_COMPUTED: dict[tuple[type, bytes], frozenset[str]] = {}
_MOST_COMPUTED = 1000


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


def _computed(
    obj: Any, properties: dict[str, tuple[Any, Any]], digest: Callable[[Any], bytes]
) -> frozenset[str]:
    """The names of the properties whose value is what they give."""
    found = set()
    for name, (member, value) in properties.items():
        try:
            if digest(member.func(obj)) == digest(value):
                found.add(name)
        except Exception:  # noqa: S112 - the user's own code, or a value that cannot be hashed
            continue
    return frozenset(found)
