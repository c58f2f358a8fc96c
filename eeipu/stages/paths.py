"""Paths: what a trial does, step by step, under content keys.

A path is a chain of stage calls. A plain stage is one call; an iterative stage is a stretch of
training steps, which falls into the runs of its hyper-parameters (`eeipu.stages.schedules`), and
may be followed by an evaluation. Positions count along the whole path: a plain stage or an
evaluation takes one position, training as many as it has steps.

Every position has a key, Merkle over what leads to it (`eeipu.fingerprints.keys.stage_key`),
whoever asks and however the path is cut: the training step `t` of stage `s` is the call of `"s@t"`,
with the hyper-parameters of the run that it ends or lies in, on the key at which that run began.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import stage_key
from eeipu.stages.schedules import Piecewise, Schedule, as_schedule, cuts

__all__ = ["Call", "Kind", "Path", "Stretch", "common_length"]


# Types that JSON gives back.
_AS_THEY_ARE = {str, int, float, bool, type(None)}


class Kind(StrEnum):
    """What a call is."""

    PLAIN = "plain"
    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Call:
    """What is called along a stretch: a stage and its hyper-parameters, which do not change.

    Attributes:
        stage: The stage's name.
        fingerprint: What stands for its code.
        params: Its hyper-parameters, without the stage's name in front.
        kind: Whether it is trained in steps.
    """

    stage: str
    fingerprint: str
    params: Mapping[str, Any]
    kind: Kind = Kind.PLAIN

    def key(self, step: int, upstream: str) -> str:
        """The key of this call, `step` steps into its stage, on what is upstream."""
        name = self.stage
        if self.kind is Kind.TRAINING:
            name = f"{name}@{step}"
        elif self.kind is Kind.EVALUATION:
            name = f"{name}@evaluation"
        return stage_key(name, self.fingerprint, self.params, upstream)

    def label(self, upstream: str) -> str:
        """Equal for equal calls, and different for others."""
        return stage_key(f"{self.stage}:{self.kind}", self.fingerprint, self.params, upstream)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions `[start, stop)` of a path that one call fills.

    Attributes:
        call: The call.
        origin: The position at which its stage begins.
        label: Equal for equal calls of one stage, and different for others.
    """

    call: Call
    start: int
    stop: int
    origin: int
    label: str = field(repr=False)


class Path:
    """A chain of stage calls, built from the front; every method returns a longer path.

    Args:
        upstream: The key of the run's inputs (`eeipu.fingerprints.keys.inputs_key`).

    Attributes:
        upstream: The key at position 0.
        stretches: What fills the positions.
        cuts: The positions, ascending, at which something steady begins or ends; the last is
            the path's length.

    >>> from eeipu.stages.schedules import MultiStep
    >>> path = Path().call("prep", "v1", {"dims": 8})
    >>> path = path.train("fit", "v1", {"lr": MultiStep(0.1, [30])}, steps=90)
    >>> path.cuts
    (1, 31, 91)
    """

    __slots__ = ("_ends", "_keys", "cuts", "stretches", "upstream")

    def __init__(
        self, upstream: str = "", stretches: Sequence[Stretch] = (), cuts: Sequence[int] = ()
    ) -> None:
        self.upstream = upstream
        self.stretches = tuple(stretches)
        self.cuts = tuple(cuts)
        self._ends = [stretch.stop for stretch in self.stretches]
        self._keys = [upstream]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __repr__(self) -> str:
        names = dict.fromkeys(stretch.call.stage for stretch in self.stretches)
        return f"Path({' -> '.join(names)}, {len(self)} positions)"

    def call(self, stage: str, fingerprint: str, params: Mapping[str, Any]) -> "Path":
        """The path followed by a plain stage.

        Raises:
            PipelineError: The path has a stage of this name.
        """
        return self._with([(Call(stage, fingerprint, dict(params)), 1)])

    def evaluate(self, stage: str, fingerprint: str) -> "Path":
        """The path followed by the evaluation of the iterative stage that it ends with."""
        return self._with([(Call(stage, fingerprint, {}, Kind.EVALUATION), 1)])

    def train(
        self,
        stage: str,
        fingerprint: str,
        schedules: Mapping[str, Any],
        steps: int,
        checkpoint_every: int | None = None,
    ) -> "Path":
        """The path followed by an iterative stage.

        A stage that follows without an evaluation in between gets what was saved of the training.

        Args:
            stage: The stage's name.
            fingerprint: What stands for its code.
            schedules: Hyper-parameter -> schedule, function of the step, or constant value.
            steps: How many steps to train.
            checkpoint_every: Cut also at every multiple of so many steps.

        Raises:
            PipelineError: The path has a stage of this name, or `steps` or `checkpoint_every` is no
                whole number of at least 1.

        Note:
            A schedule that moves with every step takes about 15 microseconds and 50 bytes of a
            stored plan a step. Where there are millions, count steps in epochs, or in hundreds.
        """
        if steps < 1 or steps != int(steps):
            raise PipelineError(
                f"stage {stage!r} must train for at least 1 step, got {steps!r}; steps are whole."
            )
        if checkpoint_every is not None and checkpoint_every < 1:
            raise PipelineError(
                f"stage {stage!r}: checkpoint_every must be at least 1, got {checkpoint_every!r}."
            )
        runs = {name: as_schedule(value).runs(steps) for name, value in schedules.items()}
        changes = sorted({0, steps, *(run.start for each in runs.values() for run in each)})
        values = {name: iter(each) for name, each in runs.items()}
        current = {name: next(each) for name, each in values.items()}
        parts = []
        for start, stop in pairwise(changes):
            for name, run in current.items():
                if run.stop <= start:
                    current[name] = next(values[name])
            params = {name: run.value for name, run in current.items()}
            parts.append((Call(stage, fingerprint, params, Kind.TRAINING), stop - start))
        inner = {cut for each in runs.values() for cut in cuts(each)}
        if checkpoint_every is not None:
            inner.update(range(checkpoint_every, steps, checkpoint_every))
        return self._with(parts, sorted(inner))

    def _with(self, parts: Sequence[tuple[Call, int]], inner: Sequence[int] = ()) -> "Path":
        origin = start = len(self)
        first = parts[0][0]
        if any((s.call.stage, s.call.kind) == (first.stage, first.kind) for s in self.stretches):
            raise PipelineError(f"the path has the stage {first.stage!r} twice; rename one.")
        added = []
        for call, length in parts:
            # Paths on other inputs are other paths from their first position on.
            label = call.label("" if start else self.upstream)
            added.append(Stretch(call, start, start + length, origin, label))
            start += length
        cuts_ = (*self.cuts, *(origin + cut for cut in inner), start)
        return Path(self.upstream, (*self.stretches, *added), cuts_)

    def to_json(self) -> str:
        """The path as text, which `from_json` reads back with the same keys.

        Raises:
            PipelineError: A hyper-parameter is of a type that JSON does not have, or makes another
                of, as of a tuple.
        """
        parts = [
            [c.stage, c.fingerprint, c.params, c.kind, s.stop, s.origin]
            for s in self.stretches
            for c in [s.call]
        ]
        try:
            for stretch in self.stretches:
                _check_stored(stretch.call)
            return json.dumps([self.upstream, self.cuts, parts], separators=(",", ":"))
        except TypeError as error:
            raise PipelineError(
                f"the hyper-parameters of {self!r} cannot be stored ({error}); use numbers, "
                f"strings, bools or None as choices."
            ) from error

    @classmethod
    def from_json(cls, text: str) -> "Path":
        """The path that `to_json` wrote."""
        upstream, cuts_, parts = json.loads(text)
        start, stretches = 0, []
        for stage, fingerprint, params, kind, stop, origin in parts:
            call = Call(stage, fingerprint, params, Kind(kind))
            label = call.label("" if start else upstream)
            stretches.append(Stretch(call, start, stop, origin, label))
            start = stop
        return cls(upstream, stretches, cuts_)

    def index(self, position: int) -> int:
        """Which stretch holds the step from `position` to the next."""
        return bisect_right(self._ends, position)

    def label(self, position: int) -> str:
        """What is done from `position` to the next, as a string."""
        return self.stretches[self.index(position)].label

    def key(self, position: int) -> str:
        """The content key of what is there at a position."""
        whole = bisect_right(self._ends, position)  # stretches that end at or before it
        for stretch in self.stretches[len(self._keys) - 1 : whole]:
            steps = stretch.stop - stretch.origin
            self._keys.append(stretch.call.key(steps, self._keys[-1]))
        if position == (self._ends[whole - 1] if whole else 0):
            return self._keys[whole]
        stretch = self.stretches[whole]
        return stretch.call.key(position - stretch.origin, self._keys[whole])

    def between(self, start: int, stop: int) -> Iterator[Stretch]:
        """The stretches of positions `[start, stop)`, the first and last cut to fit."""
        for stretch in self.stretches[self.index(start) :]:
            if stretch.start >= stop:
                return
            yield Stretch(
                stretch.call,
                max(stretch.start, start),
                min(stretch.stop, stop),
                stretch.origin,
                stretch.label,
            )

    def steps(self, start: int, stop: int) -> int:
        """What positions `[start, stop)` count: a plain stage as one step, an evaluation as none.

        An evaluation is what a request asks for at the end of training, not a part of it.
        """
        return sum(
            stretch.stop - stretch.start
            for stretch in self.between(start, stop)
            if stretch.call.kind is not Kind.EVALUATION
        )

    def next_cut(self, position: int) -> int:
        """The first cut after a position."""
        return self.cuts[bisect_right(self.cuts, position)]

    def schedules(self, position: int) -> dict[str, Schedule]:
        """The hyper-parameters of the stage at a position, as functions of the stage's steps."""
        here = self.stretches[self.index(position)]
        same = [s for s in self.stretches if s.origin == here.origin]
        boundaries = list(accumulate(s.stop - s.start for s in same))[:-1]
        return {
            name: Piecewise([s.call.params[name] for s in same], boundaries)
            for name in here.call.params
        }


def _check_stored(call: Call) -> None:
    """What is read back must have the same key.

    Raises:
        TypeError: It would not.
    """
    others = {name: v for name, v in call.params.items() if type(v) not in _AS_THEY_ARE}
    if not others:  # as nearly always; keys take time
        return
    read = Call(call.stage, call.fingerprint, json.loads(json.dumps(others)), call.kind)
    if read.label("") != Call(call.stage, call.fingerprint, others, call.kind).label(""):
        raise TypeError(f"{others!r} would come back as {dict(read.params)!r}")


def common_length(path: Path, other: Path, start: int, stop: int) -> int:
    """The position up to which two paths do the same, at most `stop`; they do up to `start`."""
    position, limit = start, min(stop, len(path), len(other))
    while position < limit:
        one, two = path.stretches[path.index(position)], other.stretches[other.index(position)]
        if one.label != two.label:
            return position
        position = min(one.stop, two.stop)
    return min(position, limit)
