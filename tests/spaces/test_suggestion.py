"""A configuration from an Optuna trial."""

import optuna

from eeipu.space import Categorical, Float, Int, suggest


def test_a_trial_has_the_very_choices_of_the_space_and_the_values_of_its_kinds():
    space = {"kind": Categorical(["a", "b"]), "rate": Float(0.1, 1.0), "count": Int(1, 9)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    params = suggest(study.ask(), space)
    (trial,) = study.get_trials(deepcopy=False)
    assert trial.params == params
    assert trial.distributions == space
    assert trial.distributions["kind"] is space["kind"]  # so that no choice has to be compared
    assert [type(value) for value in params.values()] == [str, float, int]


def test_a_trial_that_was_asked_before_keeps_its_choice():
    space = {"kind": Categorical(["a", "b"])}
    trial = optuna.create_study().ask()
    assert suggest(trial, space) == suggest(trial, space) == trial.params
    assert suggest(optuna.trial.FixedTrial({"kind": "b"}), space) == {"kind": "b"}
