"""How much each of two models counts."""

import math

import pytest
import torch

from eeipu.models.observed_stages.shares import share_of_first

Y = torch.randn(40, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def predicted(error, std):
    off = error * torch.randn(40, dtype=Y.dtype, generator=torch.Generator().manual_seed(1))
    return Y + off, torch.full_like(Y, std)


GOOD, BAD = predicted(0.1, 0.1), predicted(1.0, 1.0)


def test_the_model_that_predicts_better_has_nearly_all():
    assert share_of_first(Y, GOOD, BAD, threshold=-9.0) > 0.9
    assert share_of_first(Y, BAD, GOOD, threshold=-9.0) < 0.1


def test_models_that_predict_the_same_share_evenly():
    assert share_of_first(Y, GOOD, GOOD, threshold=-9.0) == pytest.approx(0.5)


def test_a_model_that_is_too_sure_of_itself_has_little():
    mean, std = BAD

    assert share_of_first(Y, (mean, 0.1 * std), BAD, threshold=-9.0) < 0.3


def test_of_values_below_the_threshold_it_does_not_matter_how_low_they_are():
    mean, std = GOOD
    bad = Y < -0.5
    lower = torch.where(bad, mean - 100.0, mean), std

    assert share_of_first(Y, lower, GOOD, threshold=-0.5) == pytest.approx(
        share_of_first(Y, GOOD, GOOD, threshold=-0.5), abs=0.2
    )


def test_few_trials_prove_little():
    first, second = ((m[:6], s[:6]) for m, s in (GOOD, BAD))

    assert 0.5 < share_of_first(Y[:6], first, second, threshold=-9.0) < 0.9


def test_trials_that_a_model_does_not_predict_do_not_count():
    mean, std = GOOD
    mean = torch.where(torch.arange(40) < 36, math.nan, mean)

    assert share_of_first(Y, (mean, std), BAD, threshold=-9.0) == 0.0
