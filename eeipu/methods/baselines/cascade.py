r"""Multi-stage Bayesian optimisation: one GP for each stage, chained through the stages' outputs.

Notation:
    S: samples; b: candidates; d: hyper-parameters.
    y_k: the output of stage k, if it is a number; x_k: the stage's hyper-parameters.
    y_k = g_k(y_{k-1}, x_k), g_k ~ GP; the last y is the objective; f*: the best value so far.

The expected improvement of the chain (Kusakawa et al. 2021, arXiv 2111.08330, section 4) averages
over samples of the outputs of all stages but the last; for the last stage it has a closed form:

    EI(x) = E_{y_1 .. y_{K-1}} [ EI(g_K(y_{K-1}, x_K); f*) ].
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.utils.sampling import draw_sobol_normal_samples
from botorch.utils.transforms import t_batch_mode_transform
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.pending_improvement import log_improvement

__all__ = ["CascadeEI"]

Array = NDArray[np.float64]

NUM_SAMPLES = 64


class _Link:
    """The GP of a stage's output as a function of the observed output before it.

    The hyper-parameters of all stages after that output are inputs as well.

    Args:
        stage: The stage whose output is modelled.
        X: `n x d`.
        before: `n`, the observed output before this one; `None` for the first.
        output: `n`; NaN where it is not known.
        columns: The columns of the hyper-parameters that are inputs.
        categorical: The columns of `X` without an order.
        device: Where to fit; `None`: whichever device is faster.
    """

    def __init__(
        self,
        stage: int,
        X: Array,
        before: Array | None,
        output: Array,
        columns: Sequence[int],
        categorical: Sequence[int],
        device: torch.device | None,
    ) -> None:
        self.stage = stage
        known = ~np.isnan(output)
        if before is not None:
            known &= ~np.isnan(before)
        self._columns = list(columns)
        self._low, self._span = 0.0, 1.0
        inputs = X[known][:, self._columns]
        if before is not None:
            self._low = float(before[known].min())
            self._span = float(np.ptp(before[known])) or 1.0
            inputs = np.column_stack([inputs, (before[known] - self._low) / self._span])
        self._gp = ExactGPs(
            torch.from_numpy(np.ascontiguousarray(inputs)),
            torch.from_numpy(output[known])[None],
            torch.ones(1, 1, inputs.shape[1], dtype=torch.bool),
            categorical=[i for i, column in enumerate(self._columns) if column in categorical],
            device=device,
        )

    def posterior(self, X: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the output.

        Args:
            X: `b x d`.
            before: `b x S`, samples of the output before this one; `None` for the first.

        Returns:
            Two tensors, `b x S`; `b x 1` without `before`.
        """
        inputs = X[:, None, self._columns]
        if before is not None:
            scaled = ((before - self._low) / self._span).unsqueeze(-1)
            inputs = torch.cat([inputs.expand(-1, before.shape[1], -1), scaled], dim=-1)
        mean, variance = self._gp.posterior(inputs)
        return mean[0], variance[0].sqrt()


class CascadeEI(AcquisitionFunction):
    """The logarithm of the expected improvement of a chain of GPs.

    Args:
        X: `n x d`.
        outputs: `n x K`, the outputs of the stages; NaN where an output is not a number or not
            known. The last one is the objective, maximised.
        stage_columns: For each stage, the columns of its hyper-parameters.
        categorical: The columns without an order.
        pending: `m x d`, points that are being evaluated: the chain is fitted as if its own means
            had been observed there.
        seed: Fixes the samples.
        device: Where to fit; `None`: whichever device is faster.

    Note:
        A stage whose output is not a number is merged with the stages after it, up to one whose
        output is a number; if no output is a number, this is plain EI. The paper's second
        acquisition, by credible intervals, and its setting in which evaluations are suspended are
        not implemented.
    """

    def __init__(
        self,
        X: Array,
        outputs: Array,
        stage_columns: Sequence[Sequence[int]],
        *,
        categorical: Sequence[int] = (),
        pending: Array | None = None,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(model=None)
        self._best = float(np.nanmax(outputs[:, -1]))
        self._links = _chain(X, outputs, stage_columns, categorical, device)
        if pending is not None and len(pending):
            believed = self._means(pending, outputs.shape[1])
            both = np.concatenate([X, pending]), np.concatenate([outputs, believed])
            self._links = _chain(*both, stage_columns, categorical, device)
        self._normal = draw_sobol_normal_samples(
            d=max(1, len(self._links) - 1), n=NUM_SAMPLES, seed=seed, dtype=torch.double
        )

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: Tensor) -> Tensor:
        """Score candidates, `b x 1 x d -> b`."""
        points = X.squeeze(-2)
        drawn: Tensor | None = None
        for link, normal in zip(self._links[:-1], self._normal.T, strict=False):
            mean, std = link.posterior(points, drawn)
            drawn = mean + std * normal
        mean, std = self._links[-1].posterior(points, drawn)
        log_ei = log_improvement(mean, std, self._best)
        average: Tensor = log_ei.logsumexp(-1) - math.log(log_ei.shape[-1])
        return average

    def _means(self, X: Array, stages: int) -> Array:
        """The means of the outputs at `X` (`m x d`), `m x K`; NaN for a stage without a link."""
        means = np.full((len(X), stages), math.nan)
        drawn: Tensor | None = None
        for link in self._links:
            drawn, _ = link.posterior(torch.from_numpy(X), drawn)
            means[:, link.stage] = drawn.squeeze(-1).numpy()
        return means


def _chain(
    X: Array,
    outputs: Array,
    stage_columns: Sequence[Sequence[int]],
    categorical: Sequence[int],
    device: torch.device | None,
) -> list[_Link]:
    """A link for every stage whose output was observed often enough, and for the last stage."""
    links: list[_Link] = []
    columns: list[int] = []
    known = np.ones(len(X), dtype=bool)  # where the output of the link before is known
    for k, own in enumerate(stage_columns):
        columns += own
        both = known & ~np.isnan(outputs[:, k])
        is_last = k == len(stage_columns) - 1
        # A link needs inputs, and at least two trials in which its inputs and output are known.
        if not is_last and (not columns or both.sum() < 2):
            continue
        before = outputs[:, links[-1].stage] if links else None
        links.append(_Link(k, X, before, outputs[:, k], columns, categorical, device))
        known, columns = ~np.isnan(outputs[:, k]), []
    return links
