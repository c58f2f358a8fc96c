"""What a trial keeps of why it was chosen."""

import json
import math

import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from eeipu import Float, Pipeline
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS, eeipu
from eeipu.methods.history import History
from eeipu.methods.proposals import Proposals
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import independent, no_design
from eeipu.models.objective import middle_value

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def history_of(count, direction="maximize", failures=0):
    study = optuna.create_study(direction=direction)
    sign = 1.0 if direction == "maximize" else -1.0
    for k in range(count):
        x, y = (k * 0.618) % 1.0, (k * 0.755) % 1.0
        has_failed = k < failures
        study.add_trial(
            create_trial(
                params={"prep.x": x, "fit.y": y},
                distributions=PIPELINE.space,
                value=None if has_failed else sign * 100.0 * (x - (y - 0.4) ** 2),
                state=TrialState.FAIL if has_failed else TrialState.COMPLETE,
                user_attrs={
                    "stage_keys": [f"a{k}", f"b{k}"],
                    "stage_costs": [10.0, 1.0],
                    "charged": 11.0,
                },
            )
        )
    return History.of(study, PIPELINE)


def proposals_of(history, method="eeipu", design=no_design, kept=()):
    search = Search(history, Budget(1000.0), 2, len(history), seed=0)
    return Proposals(search, METHODS[method], design, top_q=2, kept=kept)


def test_it_is_what_the_acquisition_is_made_of():
    proposals = proposals_of(history_of(8), kept={f"a{k}" for k in range(8)})
    search = proposals.search
    [params] = proposals.new(1)

    reason = proposals.reason(params)

    assert reason["by"] == "models"
    X = torch.from_numpy(PIPELINE.cube.encode([params])).unsqueeze(-2)
    acquisition = eeipu(search)
    improvement = acquisition.log_ei(X).exp().item() * search.models.standard.unit
    assert reason["improvement"] == pytest.approx(improvement, rel=1e-3)
    assert reason["cost"] == pytest.approx(1.0 if reason["reuses"] else 11.0, rel=0.2)
    posterior = search.models.objective.posterior(X)
    predicted = search.models.standard.unit * posterior.mean.item()
    assert reason["mean"] == pytest.approx(
        predicted + middle_value(search.history.values), rel=1e-3
    )
    assert "success" not in reason


def test_others_have_other_stages_for_free_and_no_higher_score():
    proposals = proposals_of(history_of(8), kept={f"a{k}" for k in range(8)})
    [params] = proposals.new(1)

    reason = proposals.reason(params)

    sets = [reason["reuses"], *(each["reuses"] for each in reason["instead"])]
    assert sorted(sets) == [[], ["prep"]]
    assert all(each["score"] <= 0.0 for each in reason["instead"])


def test_it_is_small_and_can_be_stored():
    proposals = proposals_of(history_of(8), kept={f"a{k}" for k in range(8)})
    text = json.dumps(proposals.reason(proposals.new(1)[0]))

    assert len(text) < 600
    assert "NaN" not in text


def test_where_less_is_better_the_predicted_value_has_the_users_sign():
    up, down = (
        proposals.reason(proposals.new(1)[0])
        for proposals in (
            proposals_of(history_of(8)),
            proposals_of(history_of(8, direction="minimize")),
        )
    )

    assert down["mean"] == pytest.approx(-up["mean"], rel=1e-2)
    assert down["improvement"] == pytest.approx(up["improvement"], rel=1e-2)


def test_where_trials_have_failed_the_chance_of_success_is_told():
    proposals = proposals_of(history_of(12, failures=3))
    reason = proposals.reason(proposals.new(1)[0])

    assert 0.0 < reason["success"] <= 1.0


def test_no_model_is_fitted_for_it():
    proposals = proposals_of(history_of(8), "ei")
    [params] = proposals.new(1)
    fitted = set(proposals.search.fits.made)

    reason = proposals.reason(params)

    assert set(proposals.search.fits.made) == fitted
    assert "cost" not in reason
    assert math.isfinite(reason["improvement"])


def test_a_warm_up_needs_no_reason():
    proposals = proposals_of(history_of(0), design=independent)

    assert proposals.reason(proposals.new(1)[0]) == {"by": "warm-up"}


def test_what_nobody_scored_was_drawn_at_random():
    drawn = {"prep.x": 0.123, "fit.y": 0.456}
    proposals = proposals_of(history_of(8))
    proposals.new(1)

    assert proposals.reason(drawn) == {"by": "random"}
    assert proposals_of(history_of(8), "random").reason(drawn) == {"by": "random"}


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].score is not None])
def test_every_method_has_its_reasons(name):
    proposals = proposals_of(history_of(8), name)

    reason = proposals.reason(proposals.new(1)[0])

    assert reason["by"] == "models"
    json.dumps(reason, allow_nan=False)
