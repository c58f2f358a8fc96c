"""How much a search risks that a trial fails."""

import numpy as np
import optuna
import pytest
import torch
from histories import PIPELINE
from optuna.trial import TrialState

from eeipu.methods.history import History
from eeipu.methods.learning.chances import CAUTION, SuccessChances
from eeipu.methods.learning.fits import Fits


def chances_of(failed_cost, succeeded_cost=10.0):
    """Of trials of which those with a large x have failed, at these costs."""
    study = optuna.create_study()
    for x, y in np.random.default_rng(0).random((16, 2)):
        fine = x < 0.6
        cost = succeeded_cost if fine else failed_cost
        study.add_trial(
            optuna.trial.create_trial(
                params={"prep.x": x, "fit.y": y},
                distributions=PIPELINE.space,
                value=x if fine else None,
                state=TrialState.COMPLETE if fine else TrialState.FAIL,
                user_attrs={} if cost is None else {"charged": cost},
            )
        )
    return SuccessChances(History.of(study, PIPELINE), Fits())


@pytest.mark.parametrize(
    ("failed_cost", "caution"),
    [(0.0, 1.0), (5.0, 0.5 * (1.0 + CAUTION)), (10.0, CAUTION), (30.0, CAUTION), (None, CAUTION)],
)
def test_the_cheaper_failures_are_the_more_is_risked(failed_cost, caution):
    assert chances_of(failed_cost, None if failed_cost is None else 10.0).caution == pytest.approx(
        caution
    )


def test_scores_are_cautious_and_the_probability_is_not():
    chances = chances_of(10.0)
    X = torch.tensor([[0.2, 0.5], [0.9, 0.5]], dtype=torch.double)

    plain = chances.probability.log_probability(X)

    assert plain[0].exp() > 0.7 > 0.3 > plain[1].exp()
    torch.testing.assert_close(chances.success.log_probability(X), CAUTION * plain)
    value, gradient = chances.success.value_and_gradient(X)
    torch.testing.assert_close(value, CAUTION * plain)
    torch.testing.assert_close(
        gradient, CAUTION * chances.feasibility.value_and_gradient(X)[1], rtol=1e-9, atol=1e-12
    )


def test_where_nothing_has_failed_there_is_nothing_to_weigh():
    chances = SuccessChances(History.of(optuna.create_study(), PIPELINE), Fits())

    assert chances.success is None
    assert chances.probability is None
