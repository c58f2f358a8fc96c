r"""The objective by way of what its stages show: one GP for what each observed stage adds.

Notation:
    n: trials; d: hyper-parameters; K: stages; b: candidates.
    N: nodes, which are the observed stages and, as the last of them, the objective.
    z_j: the number at node j; P_j: its parents, the nearest observed stages that lead to it.
    x_j: `d`, the hyper-parameters of all stages that lead to the node, and its own.
    a_jp: how much of a parent's number a node passes on; A_j: how much of it reaches the objective.

The number at a node is linear in those of its parents, but for a GP:

    z_j = sum_p a_jp z_p + u_j(x_j),  u_j ~ GP,  so that  z_N = sum_j A_j u_j(x_j),
    A_N = 1,  A_p = sum_j A_j a_jp.

This is the autoregressive model of Kennedy and O'Hagan (2000) with stages in place of fidelities.
Where trials show the numbers of all nodes, each u_j is observed by itself (Le Gratiet and Garnier
2014), and the objective is normal, with the mean `sum_j A_j mean_j` and the variance
`sum_j A_j^2 variance_j`. If a candidate reuses an output whose number is known, u_j is known too.

The kernel of u_j has one term, over the hyper-parameters that came after the parents, or over x_j,
where something depends on earlier ones otherwise than by the parents' numbers. The slopes a_jp are
1, as where each stage improves the same number, or generalised least squares (Rasmussen and
Williams 2006, section 2.7). As in `eeipu.models.objective`, the tail of bad values may be
compressed, here of u_j. What predicts left-out values best is chosen for each node.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.fantasies import NormalModel
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.observed_stages.increments import (
    Form,
    Node,
    best_forms,
    estimated_again,
    forms_of,
    increments,
    nodes_of,
)

__all__ = ["StageChain"]

Array = NDArray[np.float64]

# Numbers further away than this, which can only be penalties, would leave no digits to the others.
MOST = 1e12

# Points whose projections differ by less than this are the same configuration of the stages.
SAME = 1e-10


class StageChain(NormalModel):
    """The objective as the sum of what its stages add, as a BoTorch model.

    Args:
        X: `n x d`.
        values: `n`, the objective, maximised, of the order of 1; NaN where there is none.
        observed: Stage -> `n`, what it shows, in the unit of `values` if it is one; NaN where
            nothing is known. Some trials have a value and show the numbers of all these stages, and
            no stage's numbers are all equal. The last stage is not among them.
        stage_columns: For each stage, the columns of its hyper-parameters.
        upstream: For each stage, those whose outputs it gets.
        categorical: The columns of `X` without an order.
        start: `hyperparameters` of an earlier fit; `None`: at the prior.
        grown_from: The chain of fewer of these trials, whose hyper-parameters are kept.
        focus: The rows of `X` that matter most.
        device: Where to fit; `None`: whichever device is faster.

    Attributes:
        nodes: The nodes; the objective is the last.
        hyperparameters: As fitted; see `eeipu.models.gaussian_process.ExactGPs`.
        gps: The GPs of the u_j, a batch of N.
        reach: `N`, the A_j.
        best_f: The largest mean at configurations whose numbers are all known. Only the last u_j
            is taken from its GP there: those of other stages are kept with their outputs, noise
            and all.
    """

    def __init__(
        self,
        X: Array,
        values: Array,
        observed: Mapping[int, Array],
        stage_columns: Sequence[Sequence[int]],
        upstream: Sequence[Sequence[int]],
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
        grown_from: "StageChain | None" = None,
        focus: Sequence[int] = (),
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.nodes = nodes_of(observed, stage_columns, upstream)
        numbers = [observed[node.stage] for node in self.nodes[:-1]]
        Z = torch.from_numpy(np.stack([*numbers, values])).clamp(-MOST, MOST)
        points = torch.from_numpy(X)
        if grown_from is not None and grown_from.nodes != self.nodes:
            grown_from = None
        forms = forms_of(self.nodes, points, Z) if grown_from is None else grown_from._forms
        active = torch.zeros(len(forms), 1, X.shape[1], dtype=torch.bool)
        for row, form in enumerate(forms):
            node = self.nodes[form.node]
            active[row, 0, list(node.own if form.is_local else node.columns)] = True
        fit = partial(
            ExactGPs, points, active=active, categorical=categorical, focus=focus, device=device
        )
        U, handicap = increments(self.nodes, forms, Z)
        gps = fit(
            U,
            start=None if start is None or len(start) != len(forms) else start,
            grown_from=None if grown_from is None else grown_from._gps,
        )
        estimated = estimated_again(self.nodes, forms, Z, gps)
        if estimated != forms:
            forms = estimated
            U, handicap = increments(self.nodes, forms, Z)
            gps = fit(U, grown_from=gps)
        self._forms: list[Form] = forms
        self._gps: ExactGPs = gps
        self.hyperparameters = gps.hyperparameters
        chosen = best_forms(len(self.nodes), forms, gps.left_out_density() + handicap)
        self.gps = gps.select(chosen)
        self.reach = _reach(self.nodes, [forms[row].slopes for row in chosen])
        self._known = U[chosen]
        self._project(points)
        self.best_f = self._best(points)

    # --- Which parts of a candidate are known

    def _project(self, X: Tensor) -> None:
        """Prepare to look up known increments by projections of the columns that they depend on."""
        rng = torch.Generator().manual_seed(0)
        drawn = torch.rand(len(self.nodes), X.shape[1], generator=rng, dtype=X.dtype) + 0.5
        mask = torch.zeros_like(drawn)
        for row, node in enumerate(self.nodes):
            mask[row, list(node.columns)] = 1.0
        self._projection = drawn * mask
        table = self._projection @ X.T
        self._table = table.masked_fill(self._known.isnan(), math.inf)
        self._stages = torch.tensor([node.stage for node in self.nodes])

    def known(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        """Which increments of candidates are known since their outputs are reused, and what.

        Args:
            X: `b x d`.
            memoized: `b x K`.

        Returns:
            Flags and increments, `N x b`.
        """
        free = memoized[:, self._stages].T.clone()
        free[-1] = False
        found = torch.zeros(free.shape, dtype=X.dtype)
        if not free.any():
            return free, found
        place = self._projection @ X.T
        same = (place.unsqueeze(-1) - self._table.unsqueeze(1)).abs() < SAME
        is_known = free & same.any(-1)
        at = same.to(torch.uint8).argmax(-1)
        found = torch.where(is_known, self._known.nan_to_num(0.0).gather(1, at), 0.0)
        return is_known, found

    # --- Predictions

    def moments(self, X: Tensor, memoized: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and variances of the objective at `X`, `b x d`.

        Args:
            X: `b x d`.
            memoized: `b x K`, the stages whose outputs are reused; `None`: none.
        """
        means, variances = self.gps.posterior(X)
        if memoized is not None:
            is_known, found = self.known(X, memoized)
            means, variances = (
                torch.where(is_known, found, means),
                variances.masked_fill(is_known, 0.0),
            )
        return self.reach @ means, self.reach.square() @ variances

    def left_out(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each trial's value as all others predict it, `n`.

        NaN for trials without a value, or without the number of a node.
        """
        residual, std = self.gps.leave_one_out()
        mean = self.reach @ (self._known - residual)
        deviation = (self.reach.square() @ std.square()).sqrt()
        return mean, torch.where(mean.isnan(), math.nan, deviation)

    def beside(self, C: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function that predicts beside other points; see `ObjectiveModel.beside`."""
        whitened, square = self.gps.whitened(C), self.reach.square()

        def moments(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            means, variances, covariances = self.gps.posterior_beside(X, C, whitened)
            return (
                self.reach @ means,
                square @ variances,
                torch.tensordot(square, covariances, dims=1),
            )

        return moments

    def joint_moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and covariances at `X`, `batch_shape x q x d`, where nothing is reused."""
        means, covariances = self.gps.joint_posterior(X)
        mean = torch.tensordot(self.reach, means, dims=1)
        return mean, torch.tensordot(self.reach.square(), covariances, dims=1)

    @property
    def noise(self) -> Tensor:
        """The variance of the noise of the objective itself."""
        return self.gps.noise[-1]

    def _best(self, X: Tensor) -> float:
        whole = ~self._known.isnan().any(0)
        means, _ = self.gps.posterior(X[whole])
        parts = torch.cat([self._known[:-1, whole], means[-1:]])
        return float((self.reach @ parts).max())


def _reach(nodes: Sequence[Node], slopes: Sequence[Sequence[float]]) -> Tensor:
    """How much of each node's number reaches the last, `N`."""
    reach = torch.zeros(len(nodes), dtype=torch.double)
    reach[-1] = 1.0
    for j in reversed(range(len(nodes))):
        for parent, slope in zip(nodes[j].parents, slopes[j], strict=True):
            reach[parent] += reach[j] * slope
    return reach
