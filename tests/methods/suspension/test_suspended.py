"""The trials that were suspended, as the search sees them."""

import math

import numpy as np
import optuna
import pytest
from histories import PIPELINE, history_of, trial
from optuna.trial import TrialState

from eeipu.methods.history import History
from eeipu.methods.search_models import SearchModels
from eeipu.methods.suspension.suspended import OFFERED, as_if_suspended, most_promising
from eeipu.methods.trials.ledger import Ledger


def suspended(x, expected=0.0, **attrs):
    stopped = trial(x=x, suspended={"expected": expected}, **attrs)
    stopped.state, stopped.values = TrialState.PRUNED, None
    return stopped


@pytest.mark.parametrize(("direction", "first"), [("maximize", 0.7), ("minimize", 0.0)])
def test_those_are_offered_from_which_the_best_is_expected(direction, first):
    expected = [0.1, 0.7, 0.0, 0.3, 0.2, 0.5, 0.6]
    trials = [suspended(0.1 * i, value) for i, value in enumerate(expected)]

    offered = most_promising(history_of(*trials, trial(), direction=direction))

    assert len(offered) == OFFERED
    assert offered[0].user_attrs["suspended"]["expected"] == first


def test_a_configuration_is_offered_once_and_not_when_it_has_run():
    again = [suspended(0.75, expected) for expected in (9.0, 9.0, 1.0)]
    history = history_of(*again, suspended(0.25, 2.0), suspended(0.5, 8.0), trial(x=0.5))

    offered = [each.user_attrs["suspended"]["expected"] for each in most_promising(history)]

    assert offered == [2.0, 1.0]


def test_a_suspended_trial_has_neither_failed_nor_succeeded_nor_a_value_for_the_models():
    history = history_of(trial(value=1.0), suspended(0.1), trial(value=3.0), trial(value=2.0))

    assert not history.objectives.failed[1]
    assert not history.objectives.succeeded[1]
    assert math.isnan(SearchModels(history).standard.values[1])


@pytest.mark.parametrize("is_remembered", [False, True])
def test_a_suspended_configuration_may_run_again(is_remembered):
    study = optuna.create_study()
    ledger = Ledger(PIPELINE) if is_remembered else None
    study.add_trials([trial(x=0.25), suspended(0.75)])

    history = History.of(study, PIPELINE, ledger=ledger)

    assert not history.configurations.is_new({"prep.x": 0.25, "fit.y": 0.5})
    assert history.configurations.is_new({"prep.x": 0.75, "fit.y": 0.5})
    assert len(history.configurations.begun) == 1


def test_a_running_trial_becomes_one_that_ended_with_what_it_has_shown():
    study = optuna.create_study()
    study.add_trial(trial(x=0.1, value=1.0, observations={"prep": 1.0}))
    running = study.ask(PIPELINE.space)
    study.add_trial(trial(x=0.3, value=3.0, observations={"prep": 3.0}))
    history = History.of(study, PIPELINE)

    then = as_if_suspended(history, history.running[0], {"prep": 2.0})

    assert [each.number for each in then.ended] == [0, running.number, 2]
    assert then.running == ()
    np.testing.assert_array_equal(then.stages.observations["prep"].values, [1.0, 2.0, 3.0])
    assert [each.number for each in then.suspended] == [running.number]
    assert len(history.running) == 1
