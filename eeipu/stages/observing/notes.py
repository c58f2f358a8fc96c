"""What was observed of an output, as a note in the output's entry in the cache.

An entry has a note for each observer that has seen its output, under the fingerprint of the
observer's code. So a pipeline whose observer has changed finds no note of its own, and looks at the
output again, while others that share the cache find theirs. Outputs that are numbers are noted
under the empty name, as they need no observer.
"""

import warnings
from dataclasses import replace
from typing import Any

from eeipu.cache import StageCache
from eeipu.caching.annotations import annotate
from eeipu.errors import CacheMiss
from eeipu.serialization.entry_format import Header
from eeipu.stages.observing.observers import Observer, look_at
from eeipu.stages.runs import StageRun, number_of

__all__ = ["header_of", "notes_of", "observed_again", "recalled"]

# An entry has this many notes at most: those of observers that were edited long ago are dropped.
MAX_NOTES = 5

_ITSELF = ""


def header_of(cache: StageCache, key: str) -> Header | None:
    """The head of the entry of a key; `None` if it is missing, damaged or out of reach."""
    try:
        return cache.place.store.header(key)
    except Exception:
        return None


def notes_of(run: StageRun, observer: Observer | None) -> dict[str, Any]:
    """The notes of an output that was just made, for its entry."""
    is_number = number_of(run.output) is not None
    notes: dict[str, Any] = (
        {_ITSELF: look_at(run.output, None, run.name).observation} if is_number else {}
    )
    if observer is not None and not run.is_unobserved:
        notes[observer.fingerprint] = run.observation
    return notes


def recalled(name: str, key: str, observer: Observer | None, header: Header | None) -> StageRun:
    """The run of a stage that is reused, with what its entry says was observed.

    Args:
        name: The stage's name.
        key: The key of the output.
        observer: The stage's observer.
        header: The head of the output's entry; `None` where that is gone.

    Returns:
        The run. It is marked as unobserved where the observer has to see the output.
    """
    if header is None:
        return StageRun(name, key, memoized=True)
    by = _ITSELF if observer is None else observer.fingerprint
    return StageRun(
        name,
        key,
        memoized=True,
        saved=header.cost or 0.0,
        observation=header.observed.get(by),
        is_unobserved=observer is not None and by not in header.observed,
    )


def observed_again(run: StageRun, observer: Observer | None, cache: StageCache) -> StageRun:
    """The run of a stage that is reused, after its observer has seen the output.

    Args:
        run: The run. If it has no output, this is loaded.
        observer: The stage's observer.
        cache: The cache, where the entry gets another note.
    """
    try:
        output = cache.get(run.key) if run.output is None else run.output
    except CacheMiss:  # it was dropped just now
        return replace(run, is_unobserved=False)
    look = look_at(output, observer, run.name)
    if look.error is None and observer is not None:
        name = observer.fingerprint
        try:
            annotate(cache.place, run.key, lambda head: _with_note(head, name, look.observation))
        except Exception as error:  # the observation is there, but the next hit has to look again
            warnings.warn(
                f"what was observed of the output of stage {run.name!r} could not be noted in "
                f"{cache!r}: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
    return look.added_to(run)


def _with_note(header: Header, name: str, found: Any) -> Header:
    notes = {other: each for other, each in header.observed.items() if other != name}
    others = [other for other in notes if other != _ITSELF]
    for other in others[: max(0, len(others) - MAX_NOTES + 1)]:
        del notes[other]
    return replace(header, observed={**notes, name: found})
