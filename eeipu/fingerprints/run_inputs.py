"""The inputs of a run, as every call of the first stage gets them.

The calls of a process get the user's own objects, since data may be large. If one of the calls
changes them, the next would run on something else than its key says. So they are looked at again
before each call, and once they have changed, calls get copies of what they were.
"""

import threading
import warnings
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import inputs_key
from eeipu.fingerprints.values import Fingerprinted, plain
from eeipu.serialization import transport
from eeipu.serialization.copies import segments_with_room

__all__ = ["RunInputs"]


class RunInputs:
    """The positional arguments of the first stage.

    Args:
        given: The inputs; or a function that makes a copy of them for every call.
        key: Their key, as they are now; `None` where the caller vouches for them.
    """

    def __init__(
        self,
        given: tuple[Any, ...] | Callable[[], tuple[Any, ...]],
        key: str | None = None,
    ) -> None:
        self._make = given if callable(given) else None
        self._given = () if callable(given) else tuple(given)
        self._key = key
        self._is_shared = False
        self._copy: list[bytes] | None = None
        self._was_used = self._have_changed = False
        self._lock = threading.Lock()

    @property
    def is_watched(self) -> bool:
        """Whether calls of this process get the user's own objects, which have to stay the same."""
        return self._key is not None and self._make is None

    @property
    def key(self) -> str:
        """Their key: as it was given, or as `watch` found it; else as they are now.

        Raises:
            PipelineError: An input cannot be hashed.
        """
        if self._key is not None:
            return self._key
        return inputs_key(self._given if self._make is None else self._make())

    def watch(self) -> None:
        """Look at the inputs from now on.

        Raises:
            PipelineError: An input cannot be hashed.
        """
        if self._make is None:
            self._key = self.key

    def share(self) -> None:
        """Let calls run at the same time, so that each gets a copy from the first one on.

        Inputs that are too large for that are looked at after each call too.
        """
        self._is_shared = True

    @property
    def values(self) -> tuple[Any, ...]:
        """The inputs as they are now."""
        return self._make() if self._make is not None else tuple(map(plain, self._given))

    def for_call(self) -> tuple[Any, ...]:
        """The inputs for one call, which have the content that their key stands for.

        Raises:
            PipelineError: They have changed, and are too large to have been copied before.
        """
        if not self.is_watched:
            return self.values
        with self._lock:
            if not self._was_used:  # their key was made just now
                self._was_used, self._copy = True, _copied(self._given)
            elif not self._have_changed:
                self._have_changed = inputs_key(self._given) != self._key
                if self._have_changed:
                    self._warn_or_refuse()
        has_to_copy = self._have_changed or self._is_shared
        return self._loaded(self._copy) if has_to_copy and self._copy is not None else self.values

    def check_after_call(self) -> None:
        """Look whether another call has changed the inputs under this one, unless it had a copy.

        Raises:
            PipelineError: They have changed.
        """
        is_at_risk = self._is_shared and self.is_watched and self._copy is None
        if is_at_risk and inputs_key(self._given) != self._key:
            raise _changed("threads share them, and they are too large to be copied")

    def _warn_or_refuse(self) -> None:
        if self._copy is None:
            raise _changed("they are too large to be copied, or cannot be pickled")
        warnings.warn(
            "a stage has changed the run's inputs in place, or they change when they are read. "
            "Every further call that gets them gets a copy of what they were.",
            RuntimeWarning,
            stacklevel=3,
        )

    def _loaded(self, copy: list[bytes]) -> tuple[Any, ...]:
        """A copy of the inputs, but for those with a fingerprint of the user's own."""
        copies = transport.loads_apart(copy)
        pairs = zip(self._given, copies, strict=True)
        return tuple(g.value if isinstance(g, Fingerprinted) else each for g, each in pairs)


def _copied(given: tuple[Any, ...]) -> list[bytes] | None:
    """The inputs as segments of memory of their own; `None` where that is too much."""
    try:
        parts = segments_with_room(
            [None if isinstance(each, Fingerprinted) else each for each in given]
        )
    except Exception:  # whatever the pickling of the user's own types raises
        return None
    return None if parts is None else [bytes(PickleBuffer(part).raw()) for part in parts]


def _changed(why: str) -> PipelineError:
    return PipelineError(
        f"the run's inputs have changed since it began, and {why}: further calls would get "
        f"something else than their keys say. Let stages work on copies of what they get, or give "
        f'executor="processes", where every call gets its own copy.'
    )
