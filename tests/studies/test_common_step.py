"""What a search learns from trials that were trained to different steps."""

import pytest
from optuna.trial import TrialState, create_trial
from trainings import pipeline

from eeipu import ASHA, EEIPUSampler, Tuner
from eeipu.studies.early_stopping.common_step import COSTS_BY_STEP, at_common_step


def trial(*values, state=TrialState.PRUNED, **attrs):
    curve = {3**k: value for k, value in enumerate(values)}
    costs = {str(step): [1.0, float(step)] for step in curve}
    return create_trial(
        state=state,
        value=None if state is TrialState.FAIL or not curve else curve[max(curve)],
        intermediate_values=curve,
        user_attrs={COSTS_BY_STEP: costs, "stage_costs": [1.0, 99.0], "pruned_stage": "b", **attrs},
    )


def test_values_and_costs_are_those_of_the_largest_step_that_is_common_enough():
    trials = [trial(0.1), trial(0.2, 0.3, 0.4), trial(0.5, 0.6), trial(state=TrialState.FAIL)]
    first, second, third, failed = at_common_step(trials, least=2)
    assert (first.state, failed.state) == (TrialState.PRUNED, TrialState.FAIL)
    assert (second.state, second.value) == (TrialState.COMPLETE, 0.3)
    assert (third.state, third.value) == (TrialState.COMPLETE, 0.6)
    assert second.user_attrs["stage_costs"] == [1.0, 3.0]
    assert "pruned_stage" not in second.user_attrs
    assert trials[1].value == 0.4  # which is left as it was
    assert trials[1].user_attrs["stage_costs"] == [1.0, 99.0]


def test_trials_are_as_they_were_while_no_step_is_common_enough():
    trials = [trial(0.1), trial(0.2, 0.3)]
    assert at_common_step(trials, least=3) == trials


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_models_learn_before_any_trial_was_trained_to_the_end(tmp_path, monkeypatch, direction):
    seen = []
    choose = EEIPUSampler._choose

    def looking(self, history, number, given):
        ended = tuner.study.get_trials(states=[TrialState.COMPLETE])
        costs = history.stages.costs[:, 1]  # of the training
        seen.append((len(ended), int(history.objectives.succeeded.sum()), int((costs > 0).sum())))
        return choose(self, history, number, given)

    monkeypatch.setattr(EEIPUSampler, "_choose", looking)
    tuner = Tuner(pipeline(), early_stopping=ASHA(), seed=0, n_initial=4, direction=direction)
    tuner.run(str(tmp_path), max_trials=8, progress=False)
    assert any(ended == 0 and min(values, costs) >= 4 for ended, values, costs in seen)
