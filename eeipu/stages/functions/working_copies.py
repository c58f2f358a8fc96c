"""What a call works on, where its stage is a method of an object, or an object that can be called.

What a call sets in its object would not be there where the call's output is reused. So the object
itself stays as it is, and a call works on a copy of it. A call that leaves its copy as it was hands
it on to the next, together with what the object has computed and cached.
"""

import copy
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any
from weakref import WeakValueDictionary

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import content_digest
from eeipu.serialization.copies import segments_with_room
from eeipu.stages.functions.methods import BoundStages, object_of

__all__ = ["ObjectChangedError", "working_function"]


class ObjectChangedError(PipelineError):
    """A call has changed its object, of which there is no copy."""


class WorkingCopies:
    """The copies of an object that calls of this process work on.

    Args:
        original: The object. It stays as the user left it.
    """

    def __init__(self, original: Any) -> None:
        self.original = original
        self._digest = ""
        self._free: list[tuple[Any, str, str]] = []  # with its digest, and who used it last
        self._lock = threading.Lock()
        self._has_warned = False

    @contextmanager
    def for_call(self, stage_name: str) -> Iterator[Any]:
        """The object as it is now, for one call, which is alone in having it.

        Raises:
            ObjectChangedError: The call has changed the object, which could not be copied.
        """
        try:
            digest = content_digest(self.original)
        except Exception:  # it has no digest, so the stage has a version that vouches for it
            yield self.original
            return
        found = self._taken(digest)
        if found is None:
            yield self.original
            if content_digest(self.original) != digest:
                raise ObjectChangedError(
                    f"{_changes(stage_name, self.original)}, which is too large to be copied for "
                    f"it, or cannot be. An output that is reused would leave that change out: "
                    f"return what later stages need, and leave the object as it is."
                )
            return
        working, as_copied = found
        yield working
        with self._lock:
            if digest == self._digest:
                self._free.append((working, as_copied, stage_name))

    def _taken(self, digest: str) -> tuple[Any, str] | None:
        """A copy and its digest; `None` where there can be none."""
        with self._lock:
            if digest != self._digest:  # the user has changed the object
                self._free.clear()
                self._digest = digest
            while self._free:
                working, as_copied, last_user = self._free.pop()
                if content_digest(working) == as_copied:
                    return working, as_copied
                self._warn(last_user)
        try:
            if _is_large(self.original):
                return None
            working = copy.deepcopy(self.original)
            return working, content_digest(working)
        except Exception:  # whatever the copying of the user's own types raises
            return None

    def _warn(self, stage_name: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{_changes(stage_name, self.original)}. Each call works on a copy of the object "
                f"as it was, so this is lost: let the stage return what later stages need. What "
                f"is only computed once belongs into a functools.cached_property.",
                RuntimeWarning,
                stacklevel=3,
            )


def _changes(stage_name: str, changed: Any) -> str:
    return f"stage {stage_name!r} changes its object, a {type(changed).__qualname__} (`self`)"


def _is_large(value: Any) -> bool:
    try:
        return segments_with_room(value) is None
    except Exception:  # such as a class with a lock, which may be copied without its class
        return False


# By the id of the object, so that all of its stages work on the same copies.
_copies: WeakValueDictionary[int, WorkingCopies] = WeakValueDictionary()


@contextmanager
def working_function(function: Any, bound: BoundStages, stage_name: str) -> Iterator[Any]:
    """What a call of a stage calls: its function, on a copy of the object where there is one.

    Args:
        function: The stage's function.
        bound: What the stage knows of its object.
        stage_name: The stage's name.

    Raises:
        ObjectChangedError: The call has changed the object, which could not be copied.
    """
    original = object_of(function)
    if original is None:
        yield function
        return
    copies = _copies.get(id(original))
    if copies is None:
        copies = _copies.setdefault(id(original), WorkingCopies(original))
    bound.copies = copies  # which keeps them, and the object, as long as the stage
    with copies.for_call(stage_name) as working:
        is_of_object = isinstance(function, MethodType)
        yield MethodType(function.__func__, working) if is_of_object else working
