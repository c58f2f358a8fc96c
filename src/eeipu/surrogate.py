"""Gaussian processes over the unit cube, with numbers and categories."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from botorch.exceptions import BotorchWarning, ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels.categorical import CategoricalKernel
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["fit_gp", "fit_objective"]


def fit_objective(
    X: NDArray[np.float64], values: NDArray[np.float64], categorical: Sequence[int] = ()
) -> SingleTaskGP:
    """The GP of the objective.

    Args:
        X: `n x d`, points of the unit cube.
        values: `n`, to be maximised; NaN where a trial failed. Failures are put at the worst
            value seen, which keeps the search away from them without inventing a scale.
        categorical: The columns of `X` without an order.
    """
    filled = np.where(np.isnan(values), np.nanmin(values), values)
    return fit_gp(torch.from_numpy(X), torch.from_numpy(filled), categorical=categorical)


def fit_gp(X: Tensor, y: Tensor, *, categorical: Sequence[int] = ()) -> SingleTaskGP:
    """Fit an exact GP by its marginal likelihood, with BoTorch's dimension-scaled priors.

    Args:
        X: `n x d`, points of the unit cube.
        y: `n`, standardised inside.
        categorical: The columns of `X` whose values are either equal or not.
    """
    # BoTorch warns of small standardised data and of restarts of its own optimiser, neither of
    # which a user can act on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BotorchWarning)
        model = SingleTaskGP(
            X,
            y.unsqueeze(-1),
            covar_module=_kernel(X.shape[-1], sorted(categorical)),
            outcome_transform=Standardize(m=1),
        )
        prior = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:  # degenerate data; the prior is the honest model of it
            model.load_state_dict(prior)
        model.eval()
    return model


def _kernel(d: int, categorical: Sequence[int]) -> Kernel:
    """A product over the columns: Matern-5/2 over numbers, equality over categories."""
    numeric = [column for column in range(d) if column not in categorical]
    factors: list[Kernel] = []
    if numeric:
        factors.append(
            get_covar_module_with_dim_scaled_prior(
                ard_num_dims=len(numeric), active_dims=numeric, use_rbf_kernel=False
            )
        )
    if categorical:
        factors.append(
            CategoricalKernel(ard_num_dims=len(categorical), active_dims=list(categorical))
        )
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return ScaleKernel(product)
