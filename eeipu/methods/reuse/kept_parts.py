"""The stage outputs that are kept, and how a candidate can use several of them.

Notation:
    K: stages; d: hyper-parameters.
    P: parts. A part is a kept output of a trial's stage. It fixes the hyper-parameters of that
        stage and of all stages that lead to it at the values of the trial.
    R: combinations of parts.
    codes: `... x d`, the values that a part or a combination fixes; see
        `eeipu.methods.reuse.value_codes`.

Parts go together if they agree wherever both fix a value, in type and to the last bit. In a chain
one of two such parts then contains the other, and a combination is no more than its longest part.
In a graph the branches of a combination may come from different trials: with five kept outputs in
each of four branches there are 6^4 combinations.
"""

from collections.abc import Callable, Container, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from eeipu.methods.reuse.candidates import Reuse
from eeipu.methods.reuse.value_codes import FREE, Codes, ValueCodes, only
from eeipu.pipeline import Pipeline
from eeipu.space import Params

__all__ = ["FULL_EFFORT", "KeptParts", "nothing_reused"]

Flags = NDArray[np.bool_]

# So many combinations are searched with full effort each, and all of them are listed. If there are
# more, they are listed only if there are no more of them than parts, as in a chain.
FULL_EFFORT = 48


def nothing_reused(pipeline: Pipeline) -> Reuse:
    """What a candidate reuses that fixes nothing and gets no stage for free."""
    return Reuse({}, (False,) * len(pipeline.stages))


class KeptParts:
    """The kept outputs of some trials.

    Args:
        pipeline: The pipeline that is tuned.
        trials: The trials whose outputs to offer, best first (the paper: the top Q).
        kept: The content keys whose outputs can be loaded now.
        is_new: Whether a configuration has neither run nor is running. A combination that fixes
            every hyper-parameter is offered only if it is new.

    Attributes:
        codes: `P x d`, the values that the parts fix.
        values: The values by their codes.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        trials: Iterable[FrozenTrial],
        kept: Container[str],
        is_new: Callable[[Params], bool],
    ) -> None:
        self._pipeline = pipeline
        self._is_new = is_new
        self.values = ValueCodes(pipeline)
        self._columns = [pipeline.columns.up_to(k) for k in range(len(pipeline.stages))]
        memoizes = pipeline.memoizes
        found: dict[tuple[int, bytes], Codes] = {}
        self._frontiers: list[list[tuple[int, bytes]]] = []
        for trial in trials:
            # The last stage's output is that of a whole trial.
            keys = (trial.user_attrs.get("stage_keys") or ())[: len(self._columns) - 1]
            stages = [k for k, key in enumerate(keys) if memoizes[k] and key in kept]
            whole = self.values.of(trial.params)
            own = [(k, only(self._columns[k], whole)) for k in stages]
            self._frontiers.append([(k, codes.tobytes()) for k, codes in own])
            found.update(zip(self._frontiers[-1], (codes for _, codes in own), strict=True))
        self._place = {identity: place for place, identity in enumerate(found)}
        codes = np.array([*found.values()], dtype=np.int64)
        self.codes = codes.reshape(len(found), len(self.values))
        self._free_stages: dict[bytes, tuple[bool, ...]] = {}

    # --- Which combinations there are

    @cached_property
    def rows(self) -> Codes:
        """The combinations that a search begins with, `R x d`, nothing fixed first.

        They are all if there are not too many; otherwise each part alone, all kept parts of one
        trial and, of the best trials, all but one.
        """
        rows = self._first if self._all is None else self._all
        return rows[self.are_offered(rows)]

    @property
    def are_all_listed(self) -> bool:
        """Whether there are no other combinations than `rows`."""
        return self._all is not None

    @property
    def listed(self) -> list[Reuse]:
        """What candidates with the combinations of `rows` reuse."""
        return self.reuses(self.rows)

    @cached_property
    def _all(self) -> Codes | None:
        nothing = np.full((1, len(self.values)), FREE, dtype=np.int64)
        if self._is_linear:
            distinct = {row.tobytes(): row for row in (*nothing, *self.codes)}
            return np.array([*distinct.values()])
        limit = max(FULL_EFFORT, 1 + len(self.codes))
        rows, seen = nothing, {nothing.tobytes()}
        for part in self.codes:
            joined = np.where(part == FREE, rows[self.agree(rows, part)], part)
            new = {row.tobytes(): row for row in joined if row.tobytes() not in seen}
            if len(rows) + len(new) > limit:
                return None
            seen.update(new)
            rows = np.concatenate([rows, *(row[None] for row in new.values())])
        return rows

    @property
    def _is_linear(self) -> bool:
        """Whether of two parts that go together one contains the other."""
        before = self._pipeline.graph.ancestors[:-1]
        return all(stages == tuple(range(k)) for k, stages in enumerate(before))

    @property
    def _first(self) -> Codes:
        nothing = np.full((1, len(self.values)), FREE, dtype=np.int64)
        frontiers = [self.codes[[self._place[part] for part in own]] for own in self._frontiers]
        whole = (parts.max(axis=0, initial=FREE) for parts in frontiers)
        rows = {row.tobytes(): row for row in (*nothing, *self.codes, *whole)}
        for parts in frontiers:
            if len(rows) >= 2 * FULL_EFFORT:
                break
            for i in range(len(parts)):
                fewer = self.without(parts, i).max(axis=0, initial=FREE)
                rows.setdefault(fewer.tobytes(), fewer)
        return np.array([*rows.values()])

    def are_offered(self, rows: Codes) -> Flags:
        """Which combinations leave something to choose, or fix a configuration that is new."""
        return np.array(
            [(row == FREE).any() or self._is_new(self.values.params(row)) for row in rows],
            dtype=np.bool_,
        )

    @staticmethod
    def agree(rows: Codes, part: Codes) -> Flags:
        """Which of some parts or combinations, `R x d`, go together with a part, `R`."""
        columns = (rows == FREE) | (part == FREE) | (rows == part)
        agree: Flags = columns.all(axis=1)
        return agree

    @staticmethod
    def without(parts: Codes, i: int) -> Codes:
        """Those of some parts that go together which do not contain the i-th of them."""
        left: Codes = parts[((parts[i] != FREE) & (parts == FREE)).any(axis=1)]
        return left

    # --- What combinations mean

    def held(self, rows: Codes) -> Flags:
        """Which parts combinations contain, `R x P`."""
        within = (self.codes == FREE) | (rows[:, None] == self.codes)
        held: Flags = within.all(axis=-1)
        return held

    def memoized(self, rows: Codes) -> Flags:
        """Which stages combinations give for free, `R x K`."""
        kept = np.zeros((len(rows), len(self._pipeline.stages)), dtype=np.bool_)
        for k, columns in enumerate(self._columns[:-1]):
            own = only(columns, rows)
            kept[:, k] = [(k, row.tobytes()) in self._place for row in own]
        return np.array([self._free(flags) for flags in kept], dtype=np.bool_).reshape(kept.shape)

    def _free(self, kept: Flags) -> tuple[bool, ...]:
        found = self._free_stages.get(kept.tobytes())
        if found is None:
            found = self._free_stages[kept.tobytes()] = self._pipeline.graph.free(kept.tolist())
        return found

    def reuses(self, rows: Codes) -> list[Reuse]:
        """What candidates with these combinations reuse."""
        return [
            Reuse(self.values.params(row), tuple(free))
            for row, free in zip(rows, self.memoized(rows).tolist(), strict=True)
        ]
