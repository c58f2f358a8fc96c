"""In which trials of a warm-up the stages get new settings, so that trials share outputs.

Notation:
    K: stages.
    i: a trial's number, from 0.
    v_i: the i-th number of the van der Corput sequence, which fills [0, 1) evenly.
    level: how many kept outputs, of stages with hyper-parameters, lead to a stage at most.

Every stage has *moments*, a part of [0, 1): it gets a new setting in the trials whose v_i lies in
it. The share of a stage's moments grows evenly with its level, from a half to all of [0, 1). The
moments of a stage contain those of all stages that lead to it: if one of these moves, the stage has
to run anyway. What it has beyond them lies elsewhere for each stage of a level, so that a trial
often moves one branch and leaves the others as they are. A stage whose output is not kept moves
with those that need it: to repeat its setting would save nothing.

In a chain there is one stage on each level, and the moments are nested: [0, 1/2) for the first
stage, up to [0, 1) for the last one.
"""

from itertools import pairwise

import numpy as np

from eeipu.pipeline import Pipeline

__all__ = ["settings"]

Moments = tuple[tuple[float, float], ...]
"""Disjoint intervals, ascending; each contains its lower end and not its upper one."""


def settings(pipeline: Pipeline, number: int) -> list[int]:
    """For each stage, the index of the setting that it has in trial `number`, `K`."""
    sequence = [_van_der_corput(i) for i in range(1, number + 1)]
    return [
        sum(any(low <= v < high for low, high in moments) for v in sequence)
        for moments in _moments(pipeline)
    ]


def _van_der_corput(i: int) -> float:
    """The i-th number of an even sequence in [0, 1): the binary digits of i, mirrored."""
    return int(f"{i:b}"[::-1], 2) / (1 << i.bit_length())


def _moments(pipeline: Pipeline) -> list[Moments]:
    """The moments of all stages."""
    upstream = pipeline.graph.upstream
    levels, has_settings = _levels(pipeline)
    count = 1 + max((levels[k] for k in has_settings), default=0)
    shares = np.linspace(0.5, 1.0, count).tolist() if count > 1 else [1.0]
    moments: list[Moments] = []
    for k, level in enumerate(levels):
        before = _union(*(moments[j] for j in upstream[k]))
        beside = [j for j in has_settings if levels[j] == level]
        if k in beside:
            more = shares[level] - _length(before)
            before = _union(before, _among_others(before, beside.index(k) / len(beside), more))
        moments.append(before)
    return _moving_with_users(pipeline, moments)


def _moving_with_users(pipeline: Pipeline, moments: list[Moments]) -> list[Moments]:
    """The moments of all stages, where those not kept move with the ones that need them."""
    graph = pipeline.graph
    while True:
        moved = list(moments)
        for k, stage in enumerate(pipeline.stages):
            others = [moved[j] for j in graph.upstream[k]]
            others += [] if stage.memoize else [moved[j] for j in graph.needed_by[k]]
            moved[k] = _union(moved[k], *others)
        if moved == moments:
            return moved
        moments = moved


def _levels(pipeline: Pipeline) -> tuple[list[int], list[int]]:
    """The level of each stage, and the stages that have settings: hyper-parameters of their own."""
    levels: list[int] = []
    moves: list[bool] = []  # whether a stage, or one before it whose output is not kept, has any
    for given, columns in zip(pipeline.graph.upstream, pipeline.columns.of_stages, strict=True):
        keeps = [pipeline.stages[j].memoize for j in given]
        unkept = (moves[j] for j, kept in zip(given, keeps, strict=True) if not kept)
        moves.append(bool(columns) or any(unkept))
        after = (levels[j] + (kept and moves[j]) for j, kept in zip(given, keeps, strict=True))
        levels.append(max(after, default=0))
    return levels, [k for k, columns in enumerate(pipeline.columns.of_stages) if columns]


def _union(*several: Moments) -> Moments:
    merged: list[tuple[float, float]] = []
    for low, high in sorted(interval for moments in several for interval in moments):
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def _length(moments: Moments) -> float:
    return sum(high - low for low, high in moments)


def _among_others(taken: Moments, start: float, length: float) -> Moments:
    """Moments of this length that are not taken.

    Args:
        taken: What is taken.
        start: Where they begin, as a share of what is not taken. They go on at 0 after the end.
        length: Nothing if it is not positive.
    """
    ends = [0.0, *(end for interval in taken for end in interval), 1.0]
    gaps = [gap for i, gap in enumerate(pairwise(ends)) if i % 2 == 0 and gap[1] > gap[0]]
    skipped, found = start * _length(tuple(gaps)), []
    for low, high in gaps * 2:
        begin = min(low + skipped, high)
        skipped -= begin - low
        end = min(begin + max(length, 0.0), high)
        if end > begin:
            found.append((begin, end))
        length -= end - begin
    return _union(tuple(found))
