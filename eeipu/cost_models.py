"""One Gaussian process for each stage, on the logarithm of the stage's cost.

Notation:
    n: trials.
    d: hyper-parameters.
    K: stages.
    X: `n x d`, points of the unit cube.
    stage_costs: `n x K`, c_k; NaN where stage k was not executed.
    log c_k(x) ~ GP, so that costs are positive and lognormal under the posterior.

A batch size chosen in one stage may determine the duration of the next. Therefore a stage's model
depends either on the stage's own columns or on these and those of all stages that lead to it,
whichever predicts left-out costs better. A single measured cost far from what the others predict
(of a machine that hung, say) is left out of the fit if there are others that could contradict it.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from eeipu.errors import ConfigurationError
from eeipu.models.gaussian_process import ExactGPs

__all__ = ["Inputs", "StageCostModel"]

Inputs = Literal["chosen", "own", "upstream"]

Option = tuple[int, tuple[int, ...]]
"""A stage, and the columns that its model may depend on."""

# Costs may be zero, which has no logarithm. In a stage that has such costs, none counts for less
# than this share of its largest one: that is too little to matter, and not so far away that the
# others could not be told apart beside it.
ZERO_SHARE = 1e-3

# The standard deviation of the log cost of a stage that was never executed: its cost is within a
# factor of e^2, about seven, of the average stage's in 95 % of cases.
PRIOR_STD = 1.0

# A measured cost is left out if its leave-one-out residual is more than OUTLIER_SCORE robust
# standard deviations and a factor of more than three, in a stage that was executed at least
# OUTLIER_LEAST_COUNT times, and if others could contradict it: they have the same categories and
# lie on both sides of it in every column. A choice seen once, or a corner, may well cost more.
OUTLIER_SCORE = 10.0
OUTLIER_FACTOR = math.log(3.0)
OUTLIER_LEAST_COUNT = 6

# From the median of absolute deviations to the standard deviation of a normal distribution.
MAD_TO_STD = 1.4826


class StageCostModel:
    """The log costs of all stages, learnt from the stages that were executed.

    Args:
        X: `n x d`, the configurations; a tensor or an array.
        stage_costs: `n x K`, true costs >= 0; NaN where a stage was not executed.
        stage_indices: For each stage, the columns of `X` that hold its own hyper-parameters.
        categorical: The columns of `X` whose values have no order.
        start: `hyperparameters` of an earlier fit, where this fit starts; `None`: at the prior.
        grown_from: The model of fewer of these trials, whose hyper-parameters are kept as they are.
        focus: The rows of `X` that matter most; see `eeipu.models.gaussian_process.ExactGPs`.
        device: Where to fit; `None`: whichever device is faster.
        inputs: The columns that a stage's model depends on: its `"own"` ones, its own and all
            `"upstream"` ones, or the better of the two (`"chosen"`).
        upstream: For each stage, the stages that lead to it, whose columns are its upstream ones
            (`eeipu.stages.joining.graph.Graph.ancestors`); `None`: all stages before it, as in a
            chain.
        declared: The indices of the stages whose costs are declared: none of these is an error.
        borrowed: How many of the first rows are from earlier studies, whose columns come after
            those of the hyper-parameters (`eeipu.methods.transfer`). A stage's model forgets them
            unless they help to predict its other costs, or there are none.
        study_columns: These columns.

    Attributes:
        hyperparameters: As fitted; see `eeipu.models.gaussian_process.ExactGPs`.
        columns: For each stage, the columns that its model depends on.
        executed: The stages that were executed at least once.
        gps: The GPs of these stages, in the same order; `None` if there is no such stage.

    Raises:
        ConfigurationError: The shapes do not fit, a column or a stage upstream does not exist, or
            a cost is negative or infinite.

    Note:
        A stage that was never executed has a prior instead of a posterior: the mean of all
        other log costs, and a standard deviation of 1.

    >>> X = torch.tensor([[0.1], [0.9]], dtype=torch.double)
    >>> model = StageCostModel(X, torch.tensor([[1.0, 5.0], [2.0, float("nan")]]), [[0], []])
    >>> mean, std = model.log_cost_posterior(X)
    >>> mean.shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        X: Tensor,
        stage_costs: Tensor,
        stage_indices: Sequence[Sequence[int]],
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
        grown_from: "StageCostModel | None" = None,
        focus: Sequence[int] = (),
        device: torch.device | None = None,
        inputs: Inputs = "chosen",
        upstream: Sequence[Sequence[int]] | None = None,
        declared: Collection[int] = (),
        borrowed: int = 0,
        study_columns: Sequence[int] = (),
    ) -> None:
        X, stage_costs = torch.as_tensor(X).double(), torch.as_tensor(stage_costs).double()
        _check(X, stage_costs, stage_indices)
        if upstream is None:
            upstream = [range(k) for k in range(len(stage_indices))]
        _check_upstream(upstream, len(stage_indices))
        logs = _logarithms(stage_costs)
        own = stage_costs[borrowed:] > 0
        known = logs[borrowed:][own] if own.any() else logs[stage_costs > 0]
        self._prior_mean = known.mean().item() if len(known) else 0.0
        self.columns = [tuple(columns) for columns in stage_indices]
        self.hyperparameters: Tensor | None = None
        self.gps: ExactGPs | None = None
        self._forms: ExactGPs | None = None
        self.executed: list[int] = []
        every = _input_options(self.columns, inputs, upstream)
        options = [each for each in every if not logs[borrowed:, each[0]].isnan().all()]
        borrowing = [each for each in every if not logs[:borrowed, each[0]].isnan().all()]
        if options or borrowing:
            fit = partial(ExactGPs, X, categorical=categorical, focus=focus, device=device)
            leave_out = partial(_to_leave_out, categorical=categorical, declared=declared)
            rows = _Rows(options, borrowing, borrowed, study_columns)
            self._fit(X, logs, rows, fit, start, grown_from, leave_out)

    def _fit(
        self,
        X: Tensor,
        logs: Tensor,
        rows: "_Rows",
        fit: Callable[..., ExactGPs],
        start: Tensor | None,
        grown_from: "StageCostModel | None",
        leave_out: Callable[[ExactGPs, list[Option]], Tensor],
    ) -> None:
        """Fit all options in one batch; choose one per stage."""
        options, Y = rows.options, rows.of(logs)
        active = rows.active(X.shape[-1])
        if start is not None and len(start) != len(options):
            start = None  # a stage has been executed for the first time
        earlier = None if grown_from is None or start is None else grown_from._forms
        gps = fit(Y, active, start=start, grown_from=earlier)
        outliers = leave_out(gps, options)
        if outliers.any():
            Y = Y.masked_fill(outliers, math.nan)
            gps = fit(Y, active, start=gps.hyperparameters, grown_from=earlier)
        density = gps.left_out_density(rows.borrowed)
        best: dict[int, int] = {}
        for row, (k, columns) in enumerate(options):
            chosen = best.get(k)
            if chosen is None or density[row] > density[chosen]:
                best[k], self.columns[k] = row, columns
        self.executed = sorted(best)
        self.gps = gps.select([best[k] for k in self.executed])
        self._forms, self.hyperparameters = gps, gps.hyperparameters

    def log_cost_posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the log costs that will be measured at `X`.

        Args:
            X: `... x d`.

        Returns:
            Two tensors, `... x K`.
        """
        X = X.double()
        empty = X.new_empty((0, *X.shape[:-1]))
        moments = (empty, empty) if self.gps is None else self.gps.posterior(X)
        return self.of_all_stages(*moments)

    def of_all_stages(self, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of the log costs of all stages, with the prior's for those never executed.

        Args:
            means: `E x ...`, means of the log costs of the E executed stages.
            variances: `E x ...`, their variances without noise.

        Returns:
            Means and standard deviations, noise included, `... x K`.
        """
        if self.gps is not None:
            variances = variances + self.gps.noise.reshape(-1, *(1,) * (variances.ndim - 1))
        shape, at = (*means.shape[1:], len(self.columns)), (..., self.executed)
        mean, std = means.new_full(shape, self._prior_mean), means.new_full(shape, PRIOR_STD)
        mean[at], std[at] = means.movedim(0, -1), variances.sqrt().movedim(0, -1)
        return mean, std


@dataclass(frozen=True)
class _Rows:
    """The GPs of a batch: each option from the present study alone, and with earlier ones.

    Attributes:
        alone: The options from the present study alone.
        borrowing: The options with earlier studies.
        borrowed: How many of the first observations are from these.
        study_columns: The columns that say from which.
    """

    alone: list[Option]
    borrowing: list[Option]
    borrowed: int
    study_columns: Sequence[int]

    @property
    def options(self) -> list[Option]:
        """The option of each GP."""
        return [*self.alone, *self.borrowing]

    def of(self, logs: Tensor) -> Tensor:
        """The log costs that each GP observes, of `n x K`: `B x n`."""
        Y = logs[:, [k for k, _ in self.options]].T.clone()
        Y[: len(self.alone), : self.borrowed] = math.nan
        return Y

    def active(self, d: int) -> Tensor:
        """The columns that the terms of each GP's kernel depend on, `B x T x d`, boolean.

        With earlier studies there is a second term, over the columns of studies alone: a factor
        between studies. It is constant in GPs of the present study.
        """
        options = self.options
        active = torch.zeros(len(options), 1 + bool(self.borrowed), d, dtype=torch.bool)
        for row, (_, columns) in enumerate(options):
            active[row, 0, list(columns)] = True
        active[len(self.alone) :, :, list(self.study_columns)] = True
        return active


def _input_options(
    stage_indices: Sequence[tuple[int, ...]], inputs: Inputs, upstream: Sequence[Sequence[int]]
) -> list[Option]:
    """One or two options per stage."""
    options = []
    for k, own in enumerate(stage_indices):
        before = tuple(column for j in upstream[k] for column in stage_indices[j])
        if inputs != "upstream" or not before:
            options.append((k, own))
        if inputs != "own" and before:
            options.append((k, before + own))
    return options


def _logarithms(stage_costs: Tensor) -> Tensor:
    """The logarithms of costs, `n x K`; those of zero are at a finite distance from the others."""
    if stage_costs.numel() == 0:
        return stage_costs
    largest = stage_costs.nan_to_num(0.0).amax(0)
    unit = torch.where(largest > 0, largest, largest.amax())  # of a stage that costs nothing
    least = torch.where((stage_costs == 0).any(0), ZERO_SHARE * unit, 0.0)
    logs: Tensor = torch.maximum(stage_costs, least).log()
    return torch.where(stage_costs.isnan() | (unit > 0), logs, 0.0)


def _could_be_contradicted(
    X: Tensor, is_known: Tensor, columns: Sequence[int], categorical: Sequence[int]
) -> Tensor:
    """For each point, whether others with its categories lie on both sides of it in all columns.

    Args:
        X: `n x d`.
        is_known: `n`, boolean: where there is an observation.
        columns: The columns that count.
        categorical: The columns without an order.

    Returns:
        `n`, boolean.
    """
    others = is_known & ~torch.eye(len(X), dtype=torch.bool)
    apart = X.unsqueeze(0) - X.unsqueeze(1)  # how far each other point, in columns, is above
    for column in set(columns) & set(categorical):
        others = others & (apart[..., column].abs() < 1e-9)
    enclosed = others.sum(-1) >= 2
    for column in set(columns) - set(categorical):
        above, below = apart[..., column] >= 0, apart[..., column] <= 0
        enclosed &= (others & above).any(-1) & (others & below).any(-1)
    return enclosed


def _to_leave_out(
    gps: ExactGPs,
    options: Sequence[Option],
    categorical: Sequence[int],
    declared: Collection[int],
) -> Tensor:
    """The observations that the models should not learn from, `B x n`, boolean.

    All options of a stage leave out the same ones, which none of them explains: otherwise their
    densities could not be compared.
    """
    data, outliers = gps.observations, _outliers(gps)
    for row, (k, columns) in enumerate(options):
        if k in declared:
            outliers[row] = False
        elif outliers[row].any():
            outliers[row] &= _could_be_contradicted(
                data.X, data.is_known[row], columns, categorical
            )
    for k in {k for k, _ in options}:
        rows = [row for row, (stage, _) in enumerate(options) if stage == k]
        outliers[rows] = outliers[rows].all(0)
    return outliers


def _outliers(gps: ExactGPs) -> Tensor:
    """The observations that are far from what the others predict, `B x n`, boolean."""
    residual, _ = gps.leave_one_out()
    size = residual.abs()
    typical = MAD_TO_STD * size.nanmedian(-1, keepdim=True).values
    enough = (~residual.isnan()).sum(-1, keepdim=True) >= OUTLIER_LEAST_COUNT
    return enough & (size > OUTLIER_SCORE * typical) & (size > OUTLIER_FACTOR)


def _check(X: Tensor, stage_costs: Tensor, stage_indices: Sequence[Sequence[int]]) -> None:
    expected = (len(X), len(stage_indices))
    if X.ndim != 2 or stage_costs.shape != expected:
        raise ConfigurationError(
            f"X must be n x d and stage_costs n x K with K={len(stage_indices)} stages, but got "
            f"{tuple(X.shape)} and {tuple(stage_costs.shape)}."
        )
    strangers = [c for columns in stage_indices for c in columns if not 0 <= c < X.shape[1]]
    if strangers:
        raise ConfigurationError(
            f"stage_indices names column {strangers[0]}, but X has the columns 0 to "
            f"{X.shape[1] - 1}."
        )
    wrong = stage_costs.isinf() | (stage_costs < 0)
    if wrong.any():
        raise ConfigurationError(
            f"stage costs must be finite and not negative (NaN where a stage was not executed), "
            f"but got {stage_costs[wrong][0].item()!r}."
        )


def _check_upstream(upstream: Sequence[Sequence[int]], count: int) -> None:
    strangers = [j for k, stages in enumerate(upstream) for j in stages if not 0 <= j < k]
    if strangers or len(upstream) != count:
        raise ConfigurationError(
            f"upstream must name, for each of the {count} stages, earlier ones by their numbers "
            f"from 0, but got {[list(stages) for stages in upstream]}."
        )
