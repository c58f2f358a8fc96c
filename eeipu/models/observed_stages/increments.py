"""What each observed stage adds to the numbers before it, in the forms that a GP may learn it in.

Notation:
    n: trials; d: hyper-parameters; N: nodes; B: forms of all nodes together.
    Z: `N x n`, the numbers at the nodes; NaN where nothing is known.
    a, u: slopes and increments, as in `eeipu.models.observed_stages.chain`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.conditioning import MAX_EXACT
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.kernels import Matern52
from eeipu.models.objective import LEAST_EVIDENCE, compressed

__all__ = [
    "Form",
    "Node",
    "best_forms",
    "estimated_again",
    "forms_of",
    "increments",
    "most_telling",
    "nodes_of",
]

Array = NDArray[np.float64]

# Before a GP is fitted, slopes are estimated with the prior's lengthscales (in units of the root of
# the dimension) and this share of noise.
LENGTHSCALE, NOISE = 0.3, 5e-2

# Slopes are estimated where so many standard errors away from 1, and are 1 no longer where so many.
PERHAPS_OTHER, CLEARLY_OTHER = 2.0, 6.0

# Numbers further from the median than so many times the median distance are not asked for slopes.
FAR = 6.0

# The least norm of a column, and the least standard error, so that nothing is divided by zero.
LEAST_NORM = 1e-300

# Estimated slopes are in the trials that judge them: they have to predict better by this, for each
# slope, than slopes of 1.
LEAST_EVIDENCE_OF_SLOPE = 2.0

# Compression is tried if a value is this many times as far below the middle as the best is above.
HEAVY = 2.0

# A stage counts if it has shown so many different numbers, and if so many trials have shown the
# numbers of all stages that count, and have a value.
LEAST_NUMBERS, LEAST_WHOLE = 3, 5

# Numbers that spread over more than so many units of the objective, or over less than the inverse
# of it, are not of its kind.
OTHER_SIZE = 1e6


@dataclass(frozen=True)
class Node:
    """A number in the chain.

    Attributes:
        stage: The stage that shows it.
        own: The columns that came after the parents.
        columns: The columns of the stage and all that lead to it.
        parents: The nodes from whose numbers it goes on.
    """

    stage: int
    own: tuple[int, ...]
    columns: tuple[int, ...]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """A form that the GP of a node may have.

    Attributes:
        node: The node.
        slopes: `P_j` numbers, the a_jp.
        is_estimated: Whether they are estimated.
        is_local: Whether the increment depends on nothing but the columns after the parents.
        tail: On which side values are compressed: -1 below, 1 above, 0 nowhere.
    """

    node: int
    slopes: tuple[float, ...]
    is_estimated: bool = False
    is_local: bool = False
    tail: int = 0


def most_telling(
    shown: Sequence[tuple[int, Array]], values: Array, unit: float
) -> dict[int, Array]:
    """Of what each stage shows, the numbers that go best with the objective.

    Stages are left out whose numbers hardly vary, or are known of fewer than half of the trials
    that have a value; and all of them if too few trials show everything.

    Args:
        shown: Stages, and numbers that they show, `n`; NaN where nothing is known.
        values: `n`, the objective; NaN where there is none.
        unit: How much of the objective is 1 in `values`.

    Returns:
        Stage -> numbers around 0, in the same unit unless they are of quite another size.
    """
    best: dict[int, tuple[float, Array]] = {}
    succeeded = ~np.isnan(values)
    for stage, numbers in shown:
        known = numbers[~np.isnan(numbers)]
        both = succeeded & ~np.isnan(numbers)
        if len(np.unique(known)) < LEAST_NUMBERS or 2 * both.sum() < succeeded.sum():
            continue
        together = abs(_rank_covariance(torch.from_numpy(numbers), torch.from_numpy(values)))
        if stage not in best or together > best[stage][0]:
            best[stage] = together, _scaled(numbers, unit)
    whole = succeeded & ~np.isnan(np.array([numbers for _, numbers in best.values()])).any(axis=0)
    if whole.sum() < LEAST_WHOLE:
        return {}
    return {stage: numbers for stage, (_, numbers) in sorted(best.items())}


def _scaled(numbers: Array, unit: float) -> Array:
    """Numbers around 0, in a unit, or in their own spread if that is of quite another size."""
    with np.errstate(over="ignore"):
        away = numbers - np.nanmedian(numbers)
        spread = float(np.nanmax(np.abs(away)))
        scaled: Array = away / (unit if 1 / OTHER_SIZE < spread / unit < OTHER_SIZE else spread)
    return scaled


def _rank_covariance(first: Tensor, second: Tensor) -> float:
    """The covariance of the ranks of two rows of numbers (`n`), of which some may be NaN."""
    both = ~(first.isnan() | second.isnan())
    ranks = [part[both].argsort().argsort().double() for part in (first, second)]
    centre = (len(ranks[0]) - 1) / 2
    return float((ranks[0] - centre) @ (ranks[1] - centre)) / max(len(ranks[0]), 1) ** 3


def nodes_of(
    observed: Mapping[int, Array],
    stage_columns: Sequence[Sequence[int]],
    upstream: Sequence[Sequence[int]],
) -> tuple[Node, ...]:
    """The nodes in the order of their stages."""
    nodes: list[Node] = []
    near: list[list[int]] = []  # of each stage: the nodes from which the next ones go on,
    since: list[list[int]] = []  # the columns that came after these,
    every: list[list[int]] = []  # and all columns up to there
    for k, own in enumerate(stage_columns):
        parents = sorted({p for j in upstream[k] for p in near[j]})
        after = _union(*(since[j] for j in upstream[k]), own)
        every.append(_union(*(every[j] for j in upstream[k]), own))
        if k in observed or k == len(stage_columns) - 1:
            nodes.append(Node(k, tuple(after), tuple(every[k]), tuple(parents)))
            near.append([len(nodes) - 1])
            since.append([])
        else:
            near.append(parents)
            since.append(after)
    return tuple(nodes)


def _union(*columns: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(c for each in columns for c in each))


def forms_of(nodes: Sequence[Node], X: Tensor, Z: Tensor) -> list[Form]:
    """The forms that the GPs of the nodes may have."""
    forms = []
    for j, node in enumerate(nodes):
        own = [*_passing_on(node, X, Z, j)]
        if node.own != node.columns:
            own += [replace(form, is_local=True) for form in own]
        forms += own
    return [each for form in forms for each in _with_tail(nodes[form.node], form, Z)]


def _passing_on(node: Node, X: Tensor, Z: Tensor, j: int) -> Iterator[Form]:
    """The forms by slopes: 1, or estimated, or both where it is not clear."""
    as_one = Form(j, (1.0,) * len(node.parents))
    estimate = _first_slopes(node, X, Z, j)
    away = 0.0 if estimate is None else max(abs(a - 1.0) / error for a, error in estimate)
    if away < CLEARLY_OTHER:
        yield as_one
    if estimate is not None and away > PERHAPS_OTHER:
        yield replace(as_one, slopes=tuple(a for a, _ in estimate), is_estimated=True)


def _with_tail(node: Node, form: Form, Z: Tensor) -> list[Form]:
    """The form, and the one that compresses the tail of bad values, if there is such a tail."""
    u = _increment(node, form, Z)
    tail = 1 if _rank_covariance(u, Z[-1]) < 0 else -1
    y = -tail * u[~u.isnan()]
    is_heavy = y.median() - y.min() > HEAVY * (y.max() - y.median())
    return [form, replace(form, tail=tail)] if is_heavy else [form]


def _increment(node: Node, form: Form, Z: Tensor) -> Tensor:
    """What the node adds to its parents' numbers, `n`, not compressed."""
    slopes = Z.new_tensor(form.slopes)
    return Z[form.node] - slopes @ Z[list(node.parents)]


def increments(nodes: Sequence[Node], forms: Sequence[Form], Z: Tensor) -> tuple[Tensor, Tensor]:
    """What the nodes add, `B x n`, and what is to be added to the density of left-out values, `B`.

    This is the logarithm of the slope of a compression, less the evidence that it, estimated
    slopes, and a dependence on earlier columns have to bring.
    """
    rows, handicaps = [], []
    for form in forms:
        u = _increment(nodes[form.node], form, Z)
        evidence = u.new_zeros(())
        if form.tail:
            known = ~u.isnan()
            flipped, log_slope = compressed(-form.tail * u[known])
            u[known], evidence = -form.tail * flipped, log_slope.sum() - LEAST_EVIDENCE
        if form.is_estimated:
            evidence = evidence - LEAST_EVIDENCE_OF_SLOPE * len(form.slopes)
        if not form.is_local:
            evidence = evidence - LEAST_EVIDENCE
        rows.append(u)
        handicaps.append(evidence)
    return torch.stack(rows), torch.stack(handicaps)


def _first_slopes(node: Node, X: Tensor, Z: Tensor, j: int) -> list[tuple[float, float]] | None:
    """Slopes, and their standard errors, before there is a fit; `None` with too few trials."""
    parents = Z[list(node.parents)]
    known = _usual(torch.cat([Z[j : j + 1], parents]))
    if not node.parents or int(known.sum()) < len(parents) + LEAST_WHOLE:
        return None
    if (parents[:, known].amax(-1) == parents[:, known].amin(-1)).any():
        return None
    x = X[known][:, list(node.own)]
    squares = torch.cdist(x, x).square() / (LENGTHSCALE**2 * max(len(node.own), 1))
    covariance = Matern52.apply(squares)  # type: ignore[no-untyped-call]
    return _least_squares(_whitening(covariance, NOISE), parents[:, known], Z[j, known])


def _usual(Z: Tensor) -> Tensor:
    """The trials whose numbers (`* x n`) are all known, and none far from its median, `n`.

    A few numbers that are far away would decide on the slopes alone.
    """
    away = (Z - Z.nanmedian(-1, keepdim=True).values).abs()
    typical = away.nanmedian(-1, keepdim=True).values
    # Where more than half of the numbers are equal, no other one is unusual.
    return ((away <= FAR * typical) | ((typical == 0) & ~Z.isnan())).all(0)


def estimated_again(
    nodes: Sequence[Node], forms: Sequence[Form], Z: Tensor, gps: ExactGPs
) -> list[Form]:
    """The forms with slopes by generalised least squares, with the covariances of the GPs."""
    found, X = [], gps.observations.X
    noise = gps.noise / gps.scale.square()
    for row, form in enumerate(forms):
        if form.is_estimated and len(X) <= MAX_EXACT:
            parents = list(nodes[form.node].parents)
            usual = _usual(Z[[form.node, *parents]])
            kernel = gps.kernel.select(slice(row, row + 1))
            covariance = kernel(X[usual], X[usual])[0]
            pairs = _least_squares(
                _whitening(covariance, noise[row]), Z[parents][:, usual], Z[form.node, usual]
            )
            form = replace(form, slopes=tuple(slope for slope, _ in pairs))
        found.append(form)
    return found


def _whitening(covariance: Tensor, noise: float | Tensor) -> Tensor:
    """The inverse of the Cholesky factor of the covariance of observations."""
    noises = noise * torch.eye(len(covariance), dtype=covariance.dtype)
    inverse: Tensor = torch.linalg.inv(torch.linalg.cholesky(covariance + noises))
    return inverse


def _least_squares(whitening: Tensor, parents: Tensor, z: Tensor) -> list[tuple[float, float]]:
    """The slopes of `z` (`m`) in `parents` (`P x m`) beside a constant, and their errors."""
    design = whitening @ torch.cat([torch.ones_like(z)[None], parents]).T
    scale = design.norm(dim=0).clamp_min(LEAST_NORM)
    inverse = torch.linalg.pinv(design / scale)
    slopes = inverse @ (whitening @ z)
    left = (whitening @ z - design / scale @ slopes).square().sum() / (len(z) - len(slopes))
    errors = (left * inverse.square().sum(-1)).sqrt() / scale
    pairs = zip((slopes / scale)[1:].tolist(), errors[1:].tolist(), strict=True)
    return [(slope, max(error, LEAST_NORM)) for slope, error in pairs]


def best_forms(nodes: int, forms: Sequence[Form], density: Tensor) -> list[int]:
    """The row of each node's best form."""
    best: dict[int, int] = {}
    for row, form in enumerate(forms):
        if form.node not in best or density[row] > density[best[form.node]]:
            best[form.node] = row
    return [best[j] for j in range(nodes)]
