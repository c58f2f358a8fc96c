"""The budget: its amount, what is spent of it and what is left."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from eeipu import ConfigurationError, EEIPUSampler, Float, Pipeline, PipelineError, Tuner, stage
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


# --- what else ends a run, and what choosing is charged


class Clock:
    def __init__(self):
        self.s = 100.0

    def __call__(self):
        return self.s


def test_a_run_may_begin_some_trials_and_take_some_time():
    clock = Clock()
    bounds = Budget(timeout_s=10.0).begin_run(2, clock)
    bounds.count_trial()
    clock.s += 9.5
    assert not bounds.is_reached
    clock.s += 0.5
    assert bounds.is_reached
    assert bounds.is_out_of_time

    bounds = Budget().begin_run(1, clock)
    bounds.count_trial()
    assert bounds.is_reached
    assert not bounds.is_out_of_time


def test_every_run_has_the_whole_time():
    clock, budget = Clock(), Budget(timeout_s=10.0)
    budget.begin_run(None, clock)
    clock.s += 20.0
    budget.end_run()
    assert not budget.begin_run(None, clock).is_out_of_time


def test_without_an_amount_the_share_left_is_that_of_the_run():
    clock, budget = Clock(), Budget(timeout_s=10.0)
    assert budget.share_left(50.0, 0.0) == 1.0  # outside of a run nothing is known to end it
    bounds = budget.begin_run(4, clock)
    assert budget.share_left(50.0, 40.0) == 1.0
    clock.s += 2.5
    assert budget.share_left(50.0, 40.0) == 0.75
    bounds.count_trial()
    bounds.count_trial()
    assert budget.share_left(50.0, 40.0) == 0.5
    clock.s += 90.0
    assert budget.share_left(50.0, 40.0) == 0.0
    budget.end_run()
    assert budget.share_left(50.0, 40.0) == 1.0


def test_with_an_amount_it_alone_sets_the_share():
    clock, budget = Clock(), Budget(100.0, timeout_s=10.0)
    budget.begin_run(2, clock).count_trial()
    clock.s += 9.0
    assert budget.share_left(40.0, 20.0) == 0.75


@pytest.mark.parametrize(
    ("given", "ends", "is_limited"),
    [((1.0, None), True, True), ((None, 1.0), True, False), ((None, None), False, False)],
)
def test_a_budget_or_a_timeout_ends_a_run(given, ends, is_limited):
    budget = Budget.given(*given, None)
    assert (budget.ends, budget.is_limited) == (ends, is_limited)
    assert budget.is_spent(1e9) == is_limited


def test_choosing_is_charged_what_the_user_says_or_else_what_was_waited():
    charges = [
        Budget(overhead=overhead).charge_for_choice(3.0, is_measured=is_measured)
        for overhead in (None, 0.5, 0.0)
        for is_measured in (True, False)
    ]
    assert charges == [3.0, 0.0, 0.5, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("wrong", [-1.0, math.inf, math.nan, "1", True])
def test_what_is_no_overhead_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="overhead must be a finite number"):
        Budget.given(1.0, None, wrong)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, "1"])
def test_what_is_no_timeout_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="the timeout must be a positive, finite number"):
        Budget.given(None, wrong, None)


@pytest.mark.parametrize("make", [Tuner, EEIPUSampler])
def test_declared_costs_are_not_added_to_measured_seconds(make):
    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 1.0, version="1")
    def prep(*, x):
        return x

    @stage(version="1")
    def score(made):
        return made

    message = r"\['prep'\] are declared, and those of \['score'\] would be measured.*of all stages"
    with pytest.raises(PipelineError, match=message):
        make(Pipeline([prep, score]), budget=1.0)
