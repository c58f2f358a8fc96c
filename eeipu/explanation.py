"""Why an output is not found: which parts of its key differ from those of the nearest entry.

Of the entries of the same stage, the nearest is one whose hyper-parameters differ least; of these,
one of which the fewest other parts differ; of these, the last one that was made. An entry under
another stage's name is only looked at where there is no other, and if its code is the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from eeipu.caching.inventory import StoredOutput, inventory
from eeipu.caching.locations import Place
from eeipu.fingerprints.parts import OUTPUT, PARAM, Parts, concerns_code, differences

__all__ = ["Explanation", "Nearest", "StageLook", "Wanted", "explain", "explain_entry"]

# A longer list is hard to read, and says that nearly everything differs.
_SHOWN = 6


@dataclass(frozen=True)
class Wanted:
    """An output that a run would look for.

    Attributes:
        stage: The stage's name.
        key: Its content key.
        params: The hyper-parameters of the stage.
        parts: The parts of the key.
        unkept: The name of the first stage, up to this one, that is not memoized; `None` where all
            are. What comes after such a stage is not reused either.
        before: The name of the stage whose output it gets; `None` where that is not known, or where
            it gets several.
    """

    stage: str
    key: str
    params: Mapping[str, Any]
    parts: Parts
    unkept: str | None = None
    before: str | None = None


@dataclass(frozen=True)
class Nearest:
    """The entry that is most like an output that is not there.

    Attributes:
        key: Its key.
        created_s: When it was written, in seconds since 1970.
        params: Its hyper-parameters.
        differences: The parts that differ, by name.
    """

    key: str
    created_s: int
    params: Mapping[str, Any]
    differences: tuple[str, ...]

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.created_s).astimezone().strftime("%Y-%m-%d %H:%M")
        shown = list(self.differences[:_SHOWN])
        if len(self.differences) > _SHOWN:
            shown.append(f"{len(self.differences) - _SHOWN} further parts")
        what = " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
        if not what:
            what = "something that its parts do not name; perhaps another version of eeipu made it"
        return f"the nearest entry, {self.key[:12]} of {when}, differs in {what}"


@dataclass(frozen=True)
class StageLook:
    """What a run would do about one stage, and why.

    Attributes:
        stage: The stage's name.
        key: The content key of its output.
        would_run: Whether the stage would run.
        reason: Why it would, or why it would not.
        nearest: The entry that is most like it, where it would run and there is one.
    """

    stage: str
    key: str
    would_run: bool
    reason: str
    nearest: Nearest | None = None

    @property
    def differences(self) -> tuple[str, ...]:
        """The names of the parts that differ from the nearest entry's."""
        return () if self.nearest is None else self.nearest.differences

    def __str__(self) -> str:
        return f"{self.stage}: {'would run' if self.would_run else 'is reused'}; {self.reason}"

    def as_json(self) -> dict[str, Any]:
        """All of it in values that JSON writes."""
        return json.loads(json.dumps(asdict(self), default=repr))  # type: ignore[no-any-return]


class Explanation(tuple[StageLook, ...]):
    """What a run would do about each stage. As text, it has a line for each."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


class Needs(Protocol):
    """Which stages run, given which outputs are kept (`eeipu.stages.joining.graph.Graph`)."""

    def free(self, kept: Sequence[bool]) -> Sequence[bool]:
        """Which stages need not run."""

    def to_load(self, kept: Sequence[bool]) -> Sequence[int]:
        """The stages whose kept outputs are asked for."""


def explain(wanted: Sequence[Wanted], place: Place | None, needs: Needs) -> Explanation:
    """Say which stages of a pipeline would run, and why.

    Args:
        wanted: The outputs of its stages.
        place: The place of a cache (`StageCache.place`); `None` where there is none.
        needs: Says which stages run, given which outputs are kept.
    """
    kept = [
        place is not None and each.unkept is None and place.store.contains(each.key)
        for each in wanted
    ]
    free, loaded = needs.free(kept), needs.to_load(kept)
    entries = inventory(place) if place is not None and not all(free) else []
    looks = []
    for k, each in enumerate(wanted):
        if not free[k]:
            looks.append(_missed(each, entries, has_cache=place is not None))
        elif k in loaded:
            looks.append(StageLook(each.stage, each.key, False, "its output is kept"))
        else:
            later = " and of ".join(wanted[j].stage for j in loaded if j > k)
            reason = f"nobody needs it, since the output of {later} is kept"
            looks.append(StageLook(each.stage, each.key, False, reason))
    return Explanation(looks)


def explain_entry(entry: StoredOutput, entries: Sequence[StoredOutput]) -> StageLook:
    """Say why an entry was made, and none of the entries that were there before it was reused.

    Args:
        entry: The entry.
        entries: All entries of the cache.
    """
    earlier = [
        each for each in entries if each.created_s <= entry.created_s and each.key != entry.key
    ]
    upstream = entry.parts.get("upstream")
    before = next((each.stage for each in entries if each.key == upstream), None)
    wanted = Wanted(entry.stage or "-", entry.key, entry.params, entry.parts, before=before)
    if not entry.parts:
        return StageLook(wanted.stage, entry.key, True, "it was put without the parts of its key")
    return _missed(wanted, earlier, has_cache=True)


def _missed(wanted: Wanted, entries: Sequence[StoredOutput], *, has_cache: bool) -> StageLook:
    nearest = None
    if not has_cache:
        reason = "no cache was given"
    elif wanted.unkept == wanted.stage:
        reason = "it is not memoized"
    elif wanted.unkept is not None:
        reason = f"it comes after {wanted.unkept}, which is not memoized"
    else:
        nearest, count = _nearest(wanted, entries)
        reason = str(nearest) if nearest is not None else f"there is no entry of {wanted.stage}"
        if nearest is None and count:
            own = f"the entry of {wanted.stage} was"
            if count > 1:
                own = f"the {count} entries of {wanted.stage} were"
            reason = f"{own} put without the parts of keys"
    return StageLook(wanted.stage, wanted.key, True, reason, nearest)


def _nearest(wanted: Wanted, entries: Sequence[StoredOutput]) -> tuple[Nearest | None, int]:
    """The nearest entry with parts, and the number of entries of the stage."""
    own = [each for each in entries if each.stage == wanted.stage]
    compared = [(each, differences(wanted.parts, each.parts)) for each in own if each.parts]
    if not own and wanted.parts["code"]:
        others = ((each, differences(wanted.parts, each.parts)) for each in entries if each.parts)
        compared = [(each, found) for each, found in others if not concerns_code(found)]
    if not compared:
        return None, len(own)
    entry, found = min(compared, key=lambda each: (*_distance(each[1]), -each[0].created_s))
    named = tuple(_named(name, wanted, entry.params) for name in found)
    return Nearest(entry.key, entry.created_s, entry.params, named), len(own)


def _distance(found: Sequence[str]) -> tuple[int, int]:
    of_params = sum(name.startswith(PARAM) for name in found)
    return of_params, len(found) - of_params


def _named(name: str, wanted: Wanted, others: Mapping[str, Any]) -> str:
    """The name of a difference, with both values where it is in a hyper-parameter."""
    param = name.removeprefix(PARAM)
    if param != name and param in wanted.params and param in others:
        return f"{name} ({others[param]!r} there, {wanted.params[param]!r} here)"
    if name == OUTPUT and wanted.before is not None:
        return f"its input, the output of {wanted.before}"
    return name
