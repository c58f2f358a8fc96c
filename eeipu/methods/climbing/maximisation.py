"""The maximisation of an acquisition over all that candidates can reuse at once.

Notation:
    P: entries of the pool: kept parts, or combinations of them.
    K: stages.
    d: hyper-parameters.
    X: `b x 1 x d`, candidates in the unit cube.
    memoized: `b x K`, which stages each candidate gets for free.

What a candidate reuses (see `eeipu.methods.reuse`) fixes some hyper-parameters; the others are
searched. The same quasi-random points are completed by every entry of the pool and scored together.
The best of them go through a batched L-BFGS-B in their continuous columns and an exchange of values
in their discrete ones. If the pool does not list all combinations of kept parts, the best of them
exchange parts as well, and climb again. In the end all are compared at the values that will run.
Under constraints, everything starts at allowed points and keeps to them (see
`eeipu.methods.climbing.constrained`).
"""

from collections.abc import Iterator

import numpy as np
import torch
from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched
from numpy.typing import NDArray
from torch import Tensor

from eeipu.methods.climbing.ascents import LEAST_GAIN, Ascent
from eeipu.methods.climbing.constrained import WithinConstraints
from eeipu.methods.climbing.scores import RanksCompletions, Score
from eeipu.methods.reuse.candidates import Candidate, Reuse
from eeipu.methods.reuse.exchange import PartExchange
from eeipu.methods.reuse.kept_parts import FULL_EFFORT, KeptParts
from eeipu.space import Space
from eeipu.spaces.feasible import FeasiblePoints

__all__ = ["maximize", "quasi_random"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

# Points scored where nothing is fixed: quasi-random ones, and ones around good trials. An entry of
# the pool that leaves a share of the columns free gets the same share of them.
RAW_SAMPLES = 256
LOCAL_SAMPLES = 128

# Local searches where nothing is fixed, and how many more go to the best points of all. An entry
# that leaves a share of the columns free gets the same share of local searches, but at least two:
# the fewer columns are free, the fewer hills there are. (With four under each entry, the highest
# hill was missed in 5 % of problems, mostly one where nothing is fixed; like this in 2 %.)
RESTARTS_EACH = 16
LEAST_RESTARTS = 2
RESTARTS_SHARED = 10

# The pool of a long pipeline has many entries, most of them of no interest: more than `FULL_EFFORT`
# entries share the points of this number, and local searches are at most so many in all; fewer, if
# an exchange of parts goes on from there.
MOST_RESTARTS = 200
MOST_RESTARTS_BEFORE_EXCHANGE = 120

# Starts under one entry are at least this far apart in some column; otherwise most of them would
# climb the same hill, and other maxima would be missed.
LEAST_SPREAD = 0.15

MAX_ITERATIONS = 100

# Points scored in one call: more do not fit into the processor's cache, where each was measured to
# take five times as long.
SCORED_AT_ONCE = 512

# Rounds of "move the continuous columns, then exchange the discrete ones": an exchange may lead to
# a slope, which the second round climbs.
ROUNDS = 2

# Discrete columns are exchanged one at a time. Of at most MAX_EXCHANGED ordered values each start
# tries all, and of more those at halving distances. Choices have no distance: each start tries all
# of them, or a random selection, so that all starts together try at most MAX_CHOICES.
MAX_EXCHANGED = 32
MAX_CHOICES = 10_000

# A column with more values than halving distances reach is exchanged this many times at once: what
# one exchange misses between its larger steps, the next one finds.
WIDE_EXCHANGES = 3

# Rounds of "exchange kept parts, then climb": each can give up one part in favour of others.
PART_ROUNDS = 2


def maximize(
    score: Score,
    space: Space,
    pool: list[Reuse],
    *,
    seed: int,
    parts: KeptParts | None = None,
    incumbents: Array | None = None,
    bounds: Array | None = None,
    effort: int = 1,
    feasible: FeasiblePoints | None = None,
) -> Iterator[Candidate]:
    """Find maximisers of an acquisition; they come best first, at the values that will run.

    Args:
        score: The acquisition; it may be asked for gradients.
        space: The search space.
        pool: What candidates may reuse, at least one entry.
        seed: Fixes the quasi-random starting points.
        parts: The kept parts, if `pool` is what they list and there are more combinations.
        incumbents: `m x d`, good points to start around as well.
        bounds: `2 x d`, the corners of the box to search; `None`: the whole cube.
        effort: Multiplies the points scored and the local searches.
        feasible: Points that satisfy the constraints of the space; `None`: they are sought now.
    """
    box = np.stack([np.zeros(len(space)), np.ones(len(space))]) if bounds is None else bounds
    steps = _Maximisation(score, space, pool, box, seed, feasible)
    each = effort * min(1.0, FULL_EFFORT / len(pool))
    raw = _raw_points(space, seed, incumbents, box, each)
    most = MOST_RESTARTS if parts is None else MOST_RESTARTS_BEFORE_EXCHANGE
    index, X = steps.starts(raw, effort, most, incumbents)
    if len(X) == 0:  # the constraints allow nothing, or nothing that was found
        return
    for _ in range(ROUNDS):
        X = steps.ascend(index, X)
        X, changed = steps.exchange(index, X)
        if not changed:
            break
    X = steps.polish(index, X)
    values = steps.values(index, X)
    if parts is not None:
        index, X, values = steps.exchange_parts(parts, raw, index, X, values)
    for i in np.argsort(-values, kind="stable"):
        reuse = steps.pool[index[i]]
        # Fixed values are taken as stored, not decoded: a bit lost in the cube is a cache miss.
        params = {**space.decode(X[i]), **reuse.params}
        if space.constraints.allow(params):
            yield Candidate(params, X[i], reuse, float(values[i]))


def quasi_random(d: int, count: int, seed: int, skip: int = 0) -> Array:
    """Points `skip` (included) to `skip + count` of a scrambled Sobol sequence, `count x d`."""
    sobol = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed)
    sobol.fast_forward(skip)
    points: Array = sobol.draw(count, dtype=torch.double).numpy()
    return points


def _raw_points(
    space: Space, seed: int, incumbents: Array | None, box: Array, effort: float
) -> Array:
    low, high = box
    count = max(1, round(effort * RAW_SAMPLES))
    points = [low + (high - low) * quasi_random(len(space), count, seed)]
    if incumbents is not None and len(incumbents):
        # At many scales, from the whole cube down to a late refinement.
        rng = np.random.default_rng(seed)
        count = max(1, round(effort * LOCAL_SAMPLES))
        centres = incumbents[rng.integers(len(incumbents), size=count)]
        widths = 10.0 ** rng.uniform(-2.5, -0.5, size=(count, 1))
        points.append(np.clip(centres + widths * rng.standard_normal(centres.shape), low, high))
    # The first part of them is to hold the same share of each kind.
    place = np.concatenate([np.arange(1, len(part) + 1) / len(part) for part in points])
    return space.snap(np.concatenate(points)[np.argsort(place, kind="stable")])


def _spread(X: Array, index: Indices, count: int) -> Indices:
    """The first `count` points that are far apart, so that no hill is climbed twice.

    Args:
        X: `m x d`.
        index: `m`, the pool's entries of the points; those under two entries are far apart.
        count: The number of points; fewer come if there are no more.
    """
    chosen: list[int] = []
    for i in range(len(X)):
        same = [j for j in chosen if index[j] == index[i]]
        if not same or np.abs(X[same] - X[i]).max(axis=1).min() > LEAST_SPREAD:
            chosen.append(i)
        if len(chosen) == count:
            break
    return np.array(chosen, dtype=np.intp)


class _Maximisation:
    """The steps of a maximisation, each for many pairs of a pool's index and a point at once."""

    def __init__(
        self,
        score: Score,
        space: Space,
        pool: list[Reuse],
        box: Array,
        seed: int,
        feasible: FeasiblePoints | None,
    ) -> None:
        self._score = score
        self._rng = np.random.default_rng(seed)
        self._box = box
        self._space = space
        self._within: WithinConstraints | None = None
        if space.constraints:
            feasible = FeasiblePoints(space) if feasible is None else feasible
            self._within = WithinConstraints(feasible, [], box, seed)
        self.pool: list[Reuse] = []
        self._memoized = torch.empty(0, len(pool[0].memoized), dtype=torch.bool)
        self._fixed = np.empty((0, len(space)))
        self._add(pool)
        self._continuous = np.array([cells is None for cells in space.cells])

    def _add(self, reuses: list[Reuse]) -> Indices:
        """Add entries to the pool; their indices."""
        names = self._space.names
        fixed = np.full((len(reuses), len(names)), np.nan)
        for row, reuse in zip(fixed, reuses, strict=True):
            columns = [c for c, name in enumerate(names) if name in reuse.params]
            axes = Space({names[c]: self._space.distributions[names[c]] for c in columns})
            row[columns] = axes.encode([reuse.params])[0]
        self.pool = [*self.pool, *reuses]
        self._fixed = np.concatenate([self._fixed, fixed])
        memoized = torch.tensor([reuse.memoized for reuse in reuses])
        self._memoized = torch.cat([self._memoized, memoized])
        if self._within is not None:
            self._within.add([reuse.params for reuse in reuses])
        return np.arange(len(self.pool) - len(reuses), len(self.pool))

    def values(self, index: Indices, X: Array) -> Array:
        """Scores without gradients; -inf where the score is not a number."""
        return self._values(self._memoized[torch.from_numpy(index)], X)

    def _values(self, memoized: Tensor, X: Array) -> Array:
        points = torch.from_numpy(X).split(SCORED_AT_ONCE)
        masks = memoized.split(SCORED_AT_ONCE)
        with torch.no_grad():
            parts = [
                self._score(part.unsqueeze(-2), mask).numpy()
                for part, mask in zip(points, masks, strict=True)
            ]
        values: Array = np.nan_to_num(np.concatenate(parts), nan=-np.inf)
        return values

    def starts(
        self, raw: Array, effort: int, most: int, incumbents: Array | None = None
    ) -> tuple[Indices, Array]:
        """The best raw points under every entry of the pool, and the best of all others.

        Args:
            raw: `m x d`.
            effort: Multiplies the numbers of starts.
            most: The largest number of them, before that.
            incumbents: `m x d`, around which points are sought that constraints allow.

        Returns:
            The pool's index and the point of each start.
        """
        shares = np.isnan(self._fixed).mean(axis=1)
        # Where all columns are fixed there is one completion.
        counts = np.ceil(shares * len(raw)).astype(np.intp).clip(min=1)
        index = np.repeat(np.arange(len(counts)), counts)
        row = np.concatenate([np.arange(count) for count in counts])
        values = self._rough_values(raw, counts, index, row)
        X = self._completed(index, raw[row])
        if self._within is not None:
            allowed = self._within.allows(index, X)
            index, X, values = index[allowed], X[allowed], values[allowed]
            lacking = counts - np.bincount(index, minlength=len(counts))
            more, more_X = self._within.completions(lacking, incumbents)
            if len(more):
                values = np.concatenate([values, self.values(more, more_X)])
                index, X = np.concatenate([index, more]), np.concatenate([X, more_X])
        order = np.argsort(-values, kind="stable")

        def apart(candidates: Indices, count: int) -> Indices:
            """The best of some pairs of an index and a row that are not close to one another."""
            some = candidates[: 20 * count]
            return some[_spread(X[some], index[some], count)]

        each = RESTARTS_EACH * shares
        each *= min(1.0, most / max(1.0, each.sum()))
        least = LEAST_RESTARTS if LEAST_RESTARTS * len(shares) <= most else 1
        own = [
            apart(order[index[order] == entry], effort * max(least, round(count)))
            for entry, count in enumerate(each)
        ]
        chosen = np.concatenate(own)
        others = order[~np.isin(order, chosen)]
        chosen = np.concatenate([chosen, apart(others, effort * RESTARTS_SHARED)])
        return index[chosen], X[chosen]

    def _completed(self, index: Indices, X: Array) -> Array:
        """Points with the columns that are fixed."""
        fixed = self._fixed[index]
        return self._space.settled_points(np.where(np.isnan(fixed), X, fixed))

    def _rough_values(self, raw: Array, counts: Indices, index: Indices, row: Indices) -> Array:
        """What each entry is worth with each of its first raw points, roughly at least."""
        if not isinstance(self._score, RanksCompletions):
            return self.values(index, self._completed(index, raw[row]))
        values = np.empty(len(index))
        memoized = self._memoized.numpy()
        # Entries are of one kind if all that may differ between them are the values that they fix.
        # What decides which parameters are active does not differ, or not in a way that matters.
        switches = self._fixed[:, self._space.switches]
        alike = [np.isnan(self._fixed), memoized, np.nan_to_num(switches)]
        kinds, kind = np.unique(np.concatenate(alike, axis=1), axis=0, return_inverse=True)
        for i in range(len(kinds)):
            members = np.flatnonzero(kind.ravel() == i)
            one = members[0]
            # With conditions, what is inactive depends on what is fixed.
            completions = raw[: counts[one]]
            if self._space.conditions:
                completions = self._completed(np.full(counts[one], one), completions)
            found = self._score.rank_completions(
                torch.from_numpy(np.nan_to_num(self._fixed[members])),
                torch.from_numpy(~np.isnan(self._fixed[one])),
                self._memoized[one],
                torch.from_numpy(completions),
            )
            values[np.isin(index, members)] = found.numpy().ravel()
        return np.nan_to_num(values, nan=-np.inf)

    def ascend(self, index: Indices, X: Array) -> Array:
        """Climb in the continuous columns that are free, all starts in one batch."""
        free = np.isnan(self._fixed[index]) & self._continuous & self._space.active(X)
        if not free.any():
            return X

        ascent = Ascent(self._score, self._memoized[torch.from_numpy(index)], free)
        best, _, _ = fmin_l_bfgs_b_batched(
            ascent.negative,
            X,
            bounds=list(zip(*self._box, strict=True)),
            maxiter=MAX_ITERATIONS,
            factr=None,
            ftol=LEAST_GAIN,
            callback=ascent.end_if_hopeless,
            pass_batch_indices=True,
        )
        climbed: Array = np.clip(best, *self._box)
        if self._within is None:
            return climbed
        return self._within.taken_back(index, X, np.where(free, climbed, X))

    def polish(self, index: Indices, X: Array) -> Array:
        """Search on along the constraints, where there are any."""
        if self._within is None:
            return X
        return self._within.polished(self.values, index, X, np.isnan(self._fixed[index]))

    def exchange(self, index: Indices, X: Array) -> tuple[Array, bool]:
        """Replace each discrete coordinate by its best value, one column after another.

        Returns:
            The points, and whether any of them has changed.
        """
        X = X.copy()
        before = X.copy()
        columns = np.flatnonzero(~self._continuous)
        is_wide = [(self._space.cells[c] or 0) > 2 ** (MAX_EXCHANGED // 2) for c in columns]
        for column in np.repeat(columns, np.where(is_wide, WIDE_EXCHANGES, 1)):
            is_free = np.isnan(self._fixed[index, column]) & self._space.active(X)[:, column]
            free = np.flatnonzero(is_free)
            if len(free) == 0:
                continue
            options = self._options(int(column), X[free, column])
            trials = np.repeat(X[free], options.shape[1], axis=0)
            trials[:, column] = options.ravel()
            trials = self._space.settled_points(trials)
            under = np.repeat(index[free], options.shape[1])
            values = self.values(under, trials)
            if self._within is not None:
                values = self._within.masked(under, trials, values, options.shape[1])
            best = values.reshape(options.shape).argmax(axis=1)
            X[free, column] = options[np.arange(len(free)), best]
        return X, not np.array_equal(X, before)

    def exchange_parts(
        self, parts: KeptParts, raw: Array, index: Indices, X: Array, values: Array
    ) -> tuple[Indices, Array, Array]:
        """Add candidates with other combinations of parts, which come from the best so far.

        Args:
            parts: The kept parts; `parts.rows` are the entries of the pool.
            raw: `m x d`, points that complete candidates which give up a part.
            index: The pool's indices of the candidates so far.
            X: Their points.
            values: Their scores.

        Returns:
            The indices, points and scores of these and of further candidates.
        """
        rows = parts.rows[index]
        settled = self._space.settled_points
        exchange = PartExchange(
            parts, lambda r, x: self._values(torch.from_numpy(parts.memoized(r)), settled(x)), raw
        )
        for change in (*(exchange.better,) * PART_ROUNDS, exchange.elsewhere):
            new_rows, new_X = change(rows, X, values)
            if len(new_rows) == 0:
                continue
            new_X = settled(new_X)
            new = self._add(parts.reuses(new_rows))
            if self._within is not None:
                allowed = self._within.allows(new, new_X)
                new, new_rows, new_X = new[allowed], new_rows[allowed], new_X[allowed]
                if len(new) == 0:
                    continue
            new_X, _ = self.exchange(new, self.ascend(new, new_X))
            rows = np.concatenate([rows, new_rows])
            index, X = np.concatenate([index, new]), np.concatenate([X, new_X])
            values = np.concatenate([values, self.values(new, new_X)])
        return index, X, values

    def _options(self, column: int, current: Array) -> Array:
        """Values to try in a discrete column, the current one first: `len(current) x options`."""
        box, space = self._box[:, column], self._space
        first, last = space.index(column, box)
        # The cells that contain the box's walls count if their centres are inside.
        first += space.centres(column, first) < box[0]
        last -= space.centres(column, last) > box[1]
        count = int(last - first) + 1
        current = current.clip(*space.centres(column, np.array([first, last])))
        if column in space.categorical_columns:
            values = space.centres(column, first + np.arange(count))
            others = self._choices(values, len(current))
        elif count <= MAX_EXCHANGED:
            values = space.centres(column, first + np.arange(count))
            others = np.broadcast_to(values, (len(current), count))
        else:
            # From half of the values down to one, by halves or by larger factors.
            most, steps = float(count // 2), MAX_EXCHANGED // 2 - 1
            halves = most // 2.0 ** np.arange(steps)
            reach = halves if halves[-1] <= 1 else np.geomspace(1.0, most, steps)
            reach = np.unique(np.round(reach))
            reach = reach[reach > 0]
            offsets = np.concatenate([-reach, reach])
            place = space.index(column, current)[:, None] + offsets
            others = space.centres(column, place.clip(first, last))
        return np.concatenate([current[:, None], others], axis=1)

    def _choices(self, values: Array, starts: int) -> Array:
        """Choices for each start: all, or a random selection of its own if there are too many."""
        count = max(MAX_EXCHANGED, MAX_CHOICES // starts)
        if len(values) <= count:
            return np.broadcast_to(values, (starts, len(values)))
        order = self._rng.random((starts, len(values))).argsort(axis=1)
        return values[order[:, :count]]
