"""The Matern term of the kernel."""

import pytest
import torch

from eeipu.models.kernels import Matern52


def test_matern_has_the_right_slope_down_to_zero():
    squares = torch.tensor([0.0, 1e-12, 0.3, 5.0], dtype=torch.double, requires_grad=True)

    assert torch.autograd.gradcheck(Matern52.apply, squares[2:])
    (gradient,) = torch.autograd.grad(Matern52.apply(squares).sum(), squares)
    assert gradient[0] == pytest.approx(-5 / 6)
