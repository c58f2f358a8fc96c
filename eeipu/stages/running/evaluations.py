"""Evaluations should leave the training state as it is, and some do not.

A worker goes on from the state in its memory after it was evaluated. If the evaluation has changed
it, as by a draw from a generator in the state, the training would become another one than from the
checkpoint. So the first evaluation of a stage in each process is watched: where it changes what
`save` gives, the state is not gone on from, but loaded. The modes of torch's modules, which
`model.eval()` changes and no `state_dict` has, are put back each time.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eeipu.fingerprints.values import digest

__all__ = ["digest_of_saved", "same_modes"]


def digest_of_saved(save: Callable[[Any], Any], state: Any) -> str | None:
    """A digest of what would be saved of a state; `None` where that cannot be pickled."""
    try:
        return digest(save(state))  # by content, as `save` may make copies each time
    except Exception:  # then no checkpoint can be kept either, and the state is used up
        return None


@contextmanager
def same_modes(state: Any) -> Iterator[None]:
    """Put the modes of torch's modules back, which a state holds directly or one level below."""
    torch = sys.modules.get("torch")
    module = getattr(getattr(torch, "nn", None), "Module", None)
    modes = [] if module is None else [(m, m.training) for m in _modules(state, module)]
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


def _modules(state: Any, kind: type) -> Iterator[Any]:
    if isinstance(state, Mapping):
        held = [*state.values()]
    elif isinstance(state, list | tuple):
        held = [*state]
    else:
        held = [state, *getattr(state, "__dict__", {}).values()]
    for each in held:
        if isinstance(each, kind):
            yield from each.modules()  # type: ignore[attr-defined]
