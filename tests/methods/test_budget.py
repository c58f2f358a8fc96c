"""The budget: its amount, what is spent of it and what is left."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from eeipu import ConfigurationError
from eeipu.methods.budget import Budget, spent


def trial(state=TrialState.RUNNING, **attrs):
    values = {"value": 0.0} if state is TrialState.COMPLETE else {}
    return optuna.trial.create_trial(state=state, user_attrs=attrs, **values)


def test_all_trials_are_paid_for_also_while_they_run_and_where_they_failed():
    trials = [
        trial(charged=1.0),
        trial(TrialState.COMPLETE, charged=2.0),
        trial(TrialState.FAIL, charged=4.0),
    ]
    assert spent(trials) == 7.0


def test_trials_without_a_charge_cost_nothing():
    assert spent([trial(), trial(charged=None)]) == spent([]) == 0.0


def test_ten_tenths_are_one():
    assert spent([trial(charged=0.1)] * 10) == 1.0


def test_what_is_left_is_never_negative():
    budget = Budget.of(10)
    assert [budget.remaining(amount) for amount in (0.0, 4.0, 10.0, 11.0)] == [10.0, 6.0, 0.0, 0.0]


def test_a_budget_that_is_met_exactly_is_spent():
    budget = Budget.of(1.0)
    assert [budget.is_spent(amount) for amount in (0.999, 1.0, 1.5)] == [False, True, True]


def test_what_running_trials_will_cost_counts():
    budget = Budget.of(1.0)
    assert not budget.is_spent(0.1, [0.1] * 8)
    assert budget.is_spent(0.1, [0.1] * 9)


@pytest.mark.parametrize("total", [2, 2.0, np.float32(2.0), np.int64(2)])
def test_any_number_is_a_budget(total):
    budget = Budget.of(total)
    assert (budget.total, type(budget.total)) == (2.0, float)
    assert Budget.of(budget) is budget


@pytest.mark.parametrize("total", [0, -1.0, math.inf, math.nan, "60", None, True])
def test_what_is_no_budget_is_refused(total):
    with pytest.raises(ConfigurationError, match="the budget must be a positive, finite number"):
        Budget.of(total)
