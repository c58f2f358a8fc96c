"""A tuner's cost models as priors of a plan."""

import optuna
import pytest

from eeipu import Categorical, Float, Pipeline
from eeipu.errors import ConfigurationError
from eeipu.methods.cost_priors import cost_prior
from eeipu.methods.history import History
from eeipu.stage_tree.cost_estimates import CostEstimates
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Call, Kind, Path

PIPELINE = Pipeline.declare(
    {
        "prep": {"kind": Categorical(["cheap", "dear"])},
        "fit@10": {"size": Float(0.0, 1.0)},
        "fit@30": {"size": Float(0.0, 1.0)},
        "fit@evaluation": {},
    }
)


def history(trials=12):
    study = optuna.create_study()
    for i in range(trials):
        size, kind = (i + 0.5) / trials, ["cheap", "dear"][i % 2]
        params = {"prep.kind": kind, "fit@10.size": size, "fit@30.size": 1.0 - size}
        costs = [1.0 if kind == "cheap" else 8.0, 10 * (1 + size), 20 * (2 - size), 3.0]
        study.add_trial(
            optuna.trial.create_trial(
                value=0.0,
                params=params,
                distributions=PIPELINE.space,
                user_attrs={"stage_costs": costs, "charged": sum(costs)},
            )
        )
    return History.of(study, PIPELINE)


def fit(size):
    return Call("fit", "v", {"size": size}, Kind.TRAINING)


def test_a_plain_stage_costs_what_its_parameters_did():
    prior = cost_prior(history())
    assert prior(Call("prep", "v", {"kind": "cheap"})) == pytest.approx(1.0, rel=0.2)
    assert prior(Call("prep", "v", {"kind": "dear"})) == pytest.approx(8.0, rel=0.2)


def test_segments_tell_what_a_step_of_training_costs():
    prior = cost_prior(history())
    assert prior(fit(0.1)) == pytest.approx(1.1, rel=0.1)
    assert prior(fit(0.9)) == pytest.approx(1.9, rel=0.1)


def test_an_evaluation_is_known_by_its_stage():
    prior = cost_prior(history())
    assert prior(Call("fit", "v", {}, Kind.EVALUATION)) == pytest.approx(3.0, rel=0.2)


def test_choices_and_parameters_that_the_tuner_did_not_have_are_averaged_over():
    prior = cost_prior(history())
    assert 1.0 < prior(Call("prep", "v", {"kind": "new"})) < 8.0
    assert 1.0 < prior(Call("fit", "v", {}, Kind.TRAINING)) < 2.0


def test_unknown_stages_take_a_second_a_step():
    prior = cost_prior(history())
    assert prior(Call("other", "v", {})) == 1.0
    assert prior(Call("other", "v", {}, Kind.TRAINING)) == 1.0
    assert prior(Call("other", "v", {}, Kind.EVALUATION)) == 0.0


def test_estimates_begin_with_the_prior():
    path = Path().train("fit", "v", {"size": 0.5}, 20)
    (node,) = SearchPlan().request("study", 0, path).node.ancestry()
    assert CostEstimates(cost_prior(history()))(node) == pytest.approx(30.0, rel=0.1)


def test_a_study_without_trials_knows_nothing():
    with pytest.raises(ConfigurationError, match="none that has run"):
        cost_prior(history(trials=0))
