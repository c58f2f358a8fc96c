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


def chances_of(failed_cost, succeeded_cost=10.0, fails=lambda x: x >= 0.6):
    """Of trials of which those with a large x have failed, or others, at these costs."""
    study = optuna.create_study()
    for x, y in np.random.default_rng(0).random((16, 2)):
        fine = not fails(x)
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


def exponent_of(chances):
    X = torch.tensor([[0.9, 0.5]], dtype=torch.double)
    return (chances.success.log_probability(X) / chances.probability.log_probability(X)).item()


@pytest.mark.parametrize(
    ("failed_cost", "share"), [(0.0, 0.0), (5.0, 0.5), (10.0, 1.0), (30.0, 1.0), (None, 1.0)]
)
def test_the_cheaper_failures_are_the_more_is_risked(failed_cost, share):
    chances = chances_of(failed_cost, None if failed_cost is None else 10.0)
    explained = chances.feasibility.explained
    assert explained > 0.5
    assert exponent_of(chances) == pytest.approx(1.0 + (CAUTION - 1.0) * share * explained)


def test_bad_luck_is_not_kept_away_from():
    rng = np.random.default_rng(1)
    chances = chances_of(10.0, fails=lambda x: rng.random() < 0.3)
    assert chances.feasibility.explained < 0.2
    assert exponent_of(chances) < 0.3 * exponent_of(chances_of(10.0))


def test_scores_are_cautious_and_the_probability_is_not():
    chances = chances_of(10.0)
    X = torch.tensor([[0.2, 0.5], [0.9, 0.5]], dtype=torch.double)

    plain = chances.probability.log_probability(X)

    assert plain[0].exp() > 0.7 > 0.3 > plain[1].exp()
    exponent = exponent_of(chances)
    torch.testing.assert_close(chances.success.log_probability(X), exponent * plain)
    value, gradient = chances.success.value_and_gradient(X)
    torch.testing.assert_close(value, exponent * plain)
    torch.testing.assert_close(
        gradient, exponent * chances.feasibility.value_and_gradient(X)[1], rtol=1e-9, atol=1e-12
    )


def test_where_nothing_has_failed_there_is_nothing_to_weigh():
    chances = SuccessChances(History.of(optuna.create_study(), PIPELINE), Fits())

    assert chances.success is None
    assert chances.probability is None
