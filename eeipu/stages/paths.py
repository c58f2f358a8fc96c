"""Paths: the chain of calls that a trial makes, with a content key for every position.

A plain stage is one call and takes one position of the path. An iterative stage is training, which
takes one position for each step, and may be followed by an evaluation, which takes one position.
Training consists of stretches over which its hyper-parameters do not change
(`eeipu.stages.schedules`). Where a stage gets several outputs, as in a graph, a path ends at each
of them, and another one begins that has these paths as its *sources* (`Path.joining`).

The key of a position is a digest of the calls that lead to it
(`eeipu.fingerprints.keys.stage_key`). It depends neither on who asks nor on where the path is cut:
the state after `t` training steps of stage `s` has the key of a call of `"s@t"`, with the
hyper-parameters of the stretch that it lies in or ends, on the key at which that stretch begins.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import joined, stage_key
from eeipu.stages.schedules import Piecewise, Schedule, as_schedule, cuts

__all__ = ["Call", "Kind", "Path", "Stretch", "common_length", "steps_in_all"]


class Kind(StrEnum):
    """The kind of a call."""

    PLAIN = "plain"
    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a stage with constant hyper-parameters.

    Attributes:
        stage: The stage's name.
        fingerprint: The identity of the stage's code.
        params: The stage's hyper-parameters, without the stage's name in front.
        kind: Whether the call is a plain stage, training, or an evaluation.
    """

    stage: str
    fingerprint: str
    params: Mapping[str, Any]
    kind: Kind = Kind.PLAIN

    def key(self, step: int, upstream: str) -> str:
        """Return the key of the output of this call.

        Args:
            step: The number of steps since the beginning of the stage.
            upstream: The key of the call's input.
        """
        name = self.stage
        if self.kind is Kind.TRAINING:
            name = f"{name}@{step}"
        elif self.kind is Kind.EVALUATION:
            name = f"{name}@evaluation"
        return stage_key(name, self.fingerprint, self.params, upstream)

    def label(self, upstream: str) -> str:
        """Return a string that is equal for equal calls, and differs for different calls."""
        return stage_key(f"{self.stage}:{self.kind}", self.fingerprint, self.params, upstream)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions `[start, stop)` of a path that belong to one call.

    Attributes:
        call: The call.
        start: The first position.
        stop: The position after the last one.
        origin: The position at which the call's stage begins.
        label: A string that is equal for equal calls of one stage, and differs for others.
    """

    call: Call
    start: int
    stop: int
    origin: int
    label: str = field(repr=False)


class Path:
    """A chain of stage calls, which `call`, `train` and `evaluate` extend to a new, longer path.

    Args:
        upstream: The key of the run's inputs (`eeipu.fingerprints.keys.inputs_key`).
        stretches: The stretches from the front; by default the path is empty.
        cuts: The cuts that belong to them.
        sources: See below.

    Attributes:
        upstream: The key at position 0.
        sources: The paths at whose ends are what the first call gets, in order; `None` stands for
            the run's inputs. Empty: it gets these alone.
        stretches: The stretches, which cover all positions.
        cuts: The positions, ascending, at which nodes of a stage tree may end: where stages end,
            where schedules change, or are declared to although the next value is equal, as others
            may part there; where they begin and end to move; and where checkpoints were requested.
            The last one is the path's length.
        depth: How many joins there are one after another before the first call.

    >>> from eeipu.stages.schedules import MultiStep
    >>> path = Path().call("prep", "v1", {"dims": 8})
    >>> path = path.train("fit", "v1", {"lr": MultiStep(0.1, [30])}, steps=90)
    >>> path.cuts
    (1, 31, 91)
    """

    __slots__ = ("_ends", "_keys", "cuts", "depth", "sources", "stretches", "upstream")

    def __init__(
        self,
        upstream: str = "",
        stretches: Sequence[Stretch] = (),
        cuts: Sequence[int] = (),
        sources: "Sequence[Path | None]" = (),
    ) -> None:
        self.upstream = upstream
        self.sources = tuple(sources)
        self.depth: int = 1 + max((p.depth for p in self.sources if p), default=-1)
        self.stretches = tuple(stretches)
        self.cuts = tuple(cuts)
        self._ends = [stretch.stop for stretch in self.stretches]
        self._keys = [upstream]

    @classmethod
    def joining(cls, sources: "Sequence[Path | None]", upstream: str) -> "Path":
        """Return an empty path whose first call will get the outputs at the ends of other paths.

        Args:
            sources: These paths, in the order of the arguments; `None` for the run's inputs.
            upstream: The key of the run's inputs.
        """
        keys = [upstream if path is None else path.key(len(path)) for path in sources]
        return cls(joined(keys), sources=sources)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def parts(self) -> "Iterator[Path]":
        """Yield this path and those that lead to it, each after those that it joins."""
        yield from dict.fromkeys(_parts_of(self))

    def __repr__(self) -> str:
        names = dict.fromkeys(stretch.call.stage for stretch in self.stretches)
        return f"Path({' -> '.join(names)}, {len(self)} positions)"

    def call(self, stage: str, fingerprint: str, params: Mapping[str, Any]) -> "Path":
        """Return the path followed by a plain stage.

        Args:
            stage: The stage's name.
            fingerprint: The identity of the stage's code.
            params: The stage's hyper-parameters.

        Raises:
            PipelineError: The path already has a stage of this name.
        """
        return _extended(self, [(Call(stage, fingerprint, dict(params)), 1)])

    def evaluate(self, stage: str, fingerprint: str) -> "Path":
        """Return the path followed by the evaluation of the iterative stage that it ends with.

        Args:
            stage: The stage's name.
            fingerprint: The identity of the stage's code.

        Raises:
            PipelineError: The path already has an evaluation of this stage.
        """
        return _extended(self, [(Call(stage, fingerprint, {}, Kind.EVALUATION), 1)])

    def train(
        self,
        stage: str,
        fingerprint: str,
        schedules: Mapping[str, Any],
        steps: int,
        checkpoint_every: int | None = None,
    ) -> "Path":
        """Return the path followed by the training of an iterative stage.

        If a stage follows without an evaluation in between, its input is the saved training.

        Args:
            stage: The stage's name.
            fingerprint: The identity of the stage's code.
            schedules: Hyper-parameter -> schedule, function of the step, or constant value.
            steps: The number of steps to train.
            checkpoint_every: If given, the path is also cut at each multiple of this number.

        Raises:
            PipelineError: The path already has a stage of this name, or `steps` or
                `checkpoint_every` is not a whole number of at least 1.

        Note:
            A schedule that changes with every step takes about 15 microseconds for each step, and
            50 bytes for each in a stored plan. With millions of steps, count epochs instead, or
            hundreds of steps.
        """
        if steps < 1 or steps != int(steps):
            raise PipelineError(
                f"stage {stage!r} must train for at least 1 step, got {steps!r}; steps are whole."
            )
        if checkpoint_every is not None and checkpoint_every < 1:
            raise PipelineError(
                f"stage {stage!r}: checkpoint_every must be at least 1, got {checkpoint_every!r}."
            )
        given = {name: as_schedule(value) for name, value in schedules.items()}
        runs = {name: schedule.runs(steps) for name, schedule in given.items()}
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
        inner.update(at for schedule in given.values() for at in schedule.declared_ends(int(steps)))
        if checkpoint_every is not None:
            inner.update(range(checkpoint_every, steps, checkpoint_every))
        return _extended(self, parts, sorted(inner))

    def index(self, position: int) -> int:
        """Return the index of the stretch that holds the step from `position` to the next one."""
        return bisect_right(self._ends, position)

    def label(self, position: int) -> str:
        """Return the label of the call from `position` to the next one."""
        return self.stretches[self.index(position)].label

    def key(self, position: int) -> str:
        """Return the content key of the state at a position."""
        whole = bisect_right(self._ends, position)  # how many stretches end at or before it
        for stretch in self.stretches[len(self._keys) - 1 : whole]:
            steps = stretch.stop - stretch.origin
            self._keys.append(stretch.call.key(steps, self._keys[-1]))
        if position == (self._ends[whole - 1] if whole else 0):
            return self._keys[whole]
        stretch = self.stretches[whole]
        return stretch.call.key(position - stretch.origin, self._keys[whole])

    def between(self, start: int, stop: int) -> Iterator[Stretch]:
        """Yield the stretches of positions `[start, stop)`, the first and the last cut to fit."""
        for stretch in self.stretches[self.index(start) :]:
            if stretch.start >= stop:
                return
            if start <= stretch.start and stretch.stop <= stop:
                yield stretch
                continue
            yield Stretch(
                stretch.call,
                max(stretch.start, start),
                min(stretch.stop, stop),
                stretch.origin,
                stretch.label,
            )

    def steps(self, start: int, stop: int) -> int:
        """Return the number of steps in positions `[start, stop)`.

        A plain stage counts as one step. An evaluation counts as none, because it is only what a
        request asks for at the end of training.
        """
        return sum(
            stretch.stop - stretch.start
            for stretch in self.between(start, stop)
            if stretch.call.kind is not Kind.EVALUATION
        )

    def next_cut(self, position: int) -> int:
        """Return the first cut after a position."""
        return self.cuts[bisect_right(self.cuts, position)]

    def schedules(self, position: int) -> dict[str, Schedule]:
        """Return the hyper-parameters of the stage at a position, as schedules over its steps."""
        here = self.stretches[self.index(position)]
        same = [s for s in self.stretches if s.origin == here.origin]
        boundaries = list(accumulate(s.stop - s.start for s in same))[:-1]
        return {
            name: Piecewise([s.call.params[name] for s in same], boundaries)
            for name in here.call.params
        }


def _extended(path: Path, parts: Sequence[tuple[Call, int]], inner: Sequence[int] = ()) -> Path:
    """Return a path followed by one more stage.

    Args:
        path: The path.
        parts: The calls of the stage and the number of positions of each.
        inner: The cuts inside the stage, as positions of the stage.

    Raises:
        PipelineError: The path already has this stage.
    """
    origin = start = len(path)
    first = parts[0][0]
    if any((s.call.stage, s.call.kind) == (first.stage, first.kind) for s in path.stretches):
        raise PipelineError(f"the path has the stage {first.stage!r} twice; rename one.")
    added = []
    for call, length in parts:
        # Paths on other inputs are other paths from their first position on.
        label = call.label("" if start else path.upstream)
        added.append(Stretch(call, start, start + length, origin, label))
        start += length
    cuts_ = (*path.cuts, *(origin + cut for cut in inner), start)
    return Path(path.upstream, (*path.stretches, *added), cuts_, path.sources)


def _parts_of(path: Path) -> Iterator[Path]:
    """Yield a path after those that lead to it; one that is joined twice comes twice."""
    for source in path.sources:
        if source is not None:
            yield from _parts_of(source)
    yield path


def steps_in_all(path: Path, stop: int) -> int:
    """Return the number of steps up to a position of a path, with those of all that leads to it.

    Args:
        path: The path.
        stop: The position.
    """
    if not path.sources:
        return path.steps(0, stop)
    longest: dict[str, int] = {}
    for part in path.parts():
        counts = Counter[str]()
        for stretch in part.between(0, stop if part is path else len(part)):
            if stretch.call.kind is not Kind.EVALUATION:
                counts[stretch.call.stage] += stretch.stop - stretch.start
        for stage, count in counts.items():
            longest[stage] = max(count, longest.get(stage, 0))
    return sum(longest.values())


def common_length(path: Path, other: Path, start: int, stop: int) -> int:
    """Return the position up to which two paths make the same calls.

    Args:
        path: One path.
        other: The other one.
        start: A position up to which both are known to be the same.
        stop: An upper limit of the result.
    """
    position, limit = start, min(stop, len(path), len(other))
    while position < limit:
        one, two = path.stretches[path.index(position)], other.stretches[other.index(position)]
        if one.label != two.label:
            return position
        position = min(one.stop, two.stop)
    return min(position, limit)
