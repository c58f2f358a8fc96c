"""The state of a search: its budget, its costs, its seeds and its running trials."""

import math

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from eeipu import Float, Pipeline
from eeipu.methods.budget import Budget
from eeipu.methods.history import History
from eeipu.methods.search_state import LEAST_LOAD_SHARE, RECENT_CHOICES, Search

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def study_of(trials, direction="maximize"):
    """A study of trials `(x, y, value, attributes)`; a value of `None` is a failure."""
    study = optuna.create_study(direction=direction)
    for x, y, value, attrs in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={"prep.x": x, "fit.y": y},
                distributions=PIPELINE.space,
                value=value,
                user_attrs=attrs,
                state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
            )
        )
    return study


def search_of(trials, *, budget=100.0, n_initial=2, direction="maximize", **arguments):
    history = History.of(study_of(trials, direction), PIPELINE)
    return Search(history, Budget(budget), n_initial, len(trials), seed=0, **arguments)


def account(*costs, charged=None, memoized=(False, False), keys=("a", "b")):
    total = math.fsum(cost or 0.0 for cost in costs)
    return {
        "stage_costs": list(costs),
        "charged": total if charged is None else charged,
        "memoized": list(memoized),
        "stage_keys": list(keys),
    }


def test_cooling_falls_from_one_after_the_warm_up_to_zero_at_the_end_of_the_budget():
    trials = [(0.1 * i, 0.5, 0.0, account(10.0, 10.0)) for i in range(6)]

    cooling = [search_of(trials[:n]).cooling for n in (2, 4, 5, 6)]

    assert cooling == pytest.approx([1.0, 20 / 60, 0.0, 0.0])


def test_a_budget_that_the_warm_up_spends_is_cold():
    trials = [(0.1 * i, 0.5, 0.0, account(30.0, 30.0)) for i in range(2)]

    assert search_of(trials).cooling == 0.0


def test_carbos_exponent_starts_after_an_eighth_of_the_budget():
    trials = [(0.5, 0.5, 0.0, account(20.0, 10.0))]

    assert search_of(trials).share_left(100.0 / 8) == pytest.approx(70.0 / 87.5)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_values_are_failures(value):
    search = search_of([(0.1, 0.1, 1.0, {}), (0.2, 0.2, value, {}), (0.3, 0.3, 2.0, {})])

    assert np.isnan(search.history.values).tolist() == [False, True, False]
    assert [trial.number for trial in search.history.top(3)] == [2, 0]


def test_pruned_trials_have_run():
    study = study_of([(0.1, 0.1, 1.0, {})])
    trial = study.ask(PIPELINE.space)
    study.tell(trial, state=TrialState.PRUNED)

    history = History.of(study, PIPELINE)

    assert len(history) == len(history.configurations.begun) == 2
    assert math.isnan(history.values[1])


def test_what_an_interrupted_trial_finished_is_learnt_from_its_second_run():
    attrs = account(5.0, None, keys=("p", "pq")) | {"interrupted": True}
    again = account(None, 2.0, memoized=(True, False), keys=("p", "pq"))
    search = search_of([(0.4, 0.4, None, attrs), (0.4, 0.4, 1.0, again), (0.4, 0.4, 1.0, again)])

    np.testing.assert_equal(search.history.stages.costs, [[5.0, 2.0], [math.nan, 2.0]])
    assert search.history.stages.total_costs.tolist() == [7.0, 7.0]


# --- costs


def test_a_trials_total_cost_counts_reused_stages_as_when_they_were_executed():
    trials = [
        (0.1, 0.1, 0.0, account(4.0, 2.0, keys=("p", "pq"))),
        (0.1, 0.2, 0.0, account(None, 3.0, memoized=(True, False), keys=("p", "pr"))),
        (0.3, 0.2, 0.0, account(None, 3.0, memoized=(True, False), keys=("s", "st"))),
    ]

    search = search_of(trials)

    assert search.history.stages.total_costs[:2].tolist() == [6.0, 7.0]
    assert math.isnan(search.history.stages.total_costs[2])
    assert search.mean_cost == 6.5


def test_a_reused_stage_costs_what_loading_was_charged_on_average():
    loads = [0.5, 0.7]
    trials = [(0.1, 0.1, 0.0, account(4.0, 2.0))] + [
        (0.1, 0.2 + load, 0.0, account(None, 3.0, charged=3.0 + load, memoized=(True, False)))
        for load in loads
    ]

    assert search_of(trials).load_cost == pytest.approx(0.6)
    assert search_of(trials).memoized_cost == pytest.approx(0.6)


def test_what_choosing_was_charged_is_not_taken_for_loading():
    reusing = account(None, 3.0, charged=3.5 + 20.0, memoized=(True, False)) | {"overhead": 20.0}
    told = [(0.1, 0.1, 0.0, account(4.0, 2.0)), (0.1, 0.2, 0.0, reusing)]
    assert search_of(told).load_cost == pytest.approx(0.5)

    # Two attempts of a stage were charged: a tuner says what of it was for loading.
    ran = [*told, (0.1, 0.3, 0.0, reusing | {"charged": 6.7 + 20.0, "load_s": 0.7})]
    assert search_of(ran).load_cost == pytest.approx(0.6)


def test_choosing_is_expected_to_cost_what_it_did_in_the_last_trials_that_models_chose():
    charges = [100.0, 100.0, *[50.0] * 5, *[1.0] * RECENT_CHOICES]
    trials = [
        (0.01 * i, 0.5, 0.0, account(4.0, 2.0) | {"overhead": charge})
        for i, charge in enumerate(charges)
    ]

    assert search_of(trials[:2]).overhead == 0.0  # nothing but the warm-up is known
    assert search_of(trials[:4]).overhead == 50.0
    assert search_of(trials[:8]).overhead == pytest.approx(251 / 6)
    assert search_of(trials).overhead == 1.0


def test_trials_that_were_charged_nothing_for_choosing_have_no_overhead():
    assert search_of([(0.1 * i, 0.5, 0.0, account(4.0, 2.0)) for i in range(4)]).overhead == 0.0


def test_a_users_overhead_is_what_choosing_costs():
    history = search_of([(0.1, 0.5, 0.0, account(4.0, 2.0) | {"overhead": 7.0})] * 4).history
    assert Search(history, Budget(100.0, overhead=0.25), 1, 4, seed=0).overhead == 0.25


def test_loading_for_nothing_still_costs_a_share_of_a_stage():
    trials = [(0.1, 0.1, 0.0, account(4.0, 2.0))]

    assert search_of(trials).load_cost == 0.0
    assert search_of(trials).memoized_cost == pytest.approx(LEAST_LOAD_SHARE * 3.0)
    assert search_of([(0.1, 0.1, 0.0, account(0.0, 0.0))]).memoized_cost > 0


def test_without_known_costs_a_mean_trial_costs_one():
    assert search_of([(0.1, 0.1, 0.0, {})]).mean_cost == 1.0


# --- seeds and running trials


def test_every_trial_has_seeds_of_its_own():
    one, two, again = (search_of([], n_initial=n) for n in (1, 2, 1))

    assert one.trial_seed == again.trial_seed == two.trial_seed
    assert Search(one.history, Budget(1.0), 1, 7, seed=0).trial_seed != one.trial_seed
    assert Search(one.history, Budget(1.0), 1, 0, seed=1).trial_seed != one.trial_seed
    assert one.random(3, 0).random() == two.random(3, 0).random()
    assert len({one.random(*of).random() for of in [(3, 0), (4, 0), (3, 1), (0, 3)]}) == 4


def test_running_trials_are_pending_and_what_they_will_cost_is_committed():
    study = study_of([(0.1 * i, 0.1 * i, 0.0, account(4.0, 2.0)) for i in range(5)])
    trial = study.ask(PIPELINE.space)
    trial.set_user_attr("charged", 1.0 + 2.0)
    trial.set_user_attr("overhead", 2.0)  # no part of what its stages will cost
    search = Search(History.of(study, PIPELINE), Budget(100.0), 1, 6, seed=0)

    assert search.X_pending.tolist() == [[trial.params["prep.x"], trial.params["fit.y"]]]
    assert search.remaining == pytest.approx(67.0)
    assert search.uncommitted == pytest.approx(62.0, abs=0.1)
    there = torch.from_numpy(search.history.running_X).unsqueeze(1)
    before, after = (m.posterior(there) for m in (search.models.objective, search.models.believer))
    torch.testing.assert_close(after.mean, before.mean)
    assert (after.variance <= before.variance).all()
    assert search_of([]).X_pending is None
    assert search_of([]).uncommitted == search_of([]).remaining


@pytest.mark.parametrize(
    ("attrs", "due"),
    [
        ({"memoized": [True, False], "stage_costs": [None, None]}, 2.0),
        ({"memoized": [True, False]}, 2.0),
        ({"memoized": [False, False], "stage_costs": [4.0, None], "charged": 9.0}, 2.0),
        ({"memoized": [True, False], "stage_costs": [None, 2.0], "charged": 2.0}, 0.0),
        ({"memoized": [False, False], "stage_costs": [None, None]}, 6.0),
    ],
)
def test_what_a_running_trial_reuses_is_not_committed(attrs, due):
    study = study_of([(0.1 * i, 0.1 * i, 0.0, account(4.0, 2.0)) for i in range(5)])
    trial = study.ask(PIPELINE.space)
    for name, value in attrs.items():
        trial.set_user_attr(name, value)
    search = Search(History.of(study, PIPELINE), Budget(100.0), 1, 6, seed=0)

    assert search.uncommitted == pytest.approx(search.remaining - due, abs=0.1)
