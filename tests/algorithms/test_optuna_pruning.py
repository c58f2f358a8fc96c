"""Optuna's samplers and pruners as clients of a plan."""

import signal
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from eeipu import Categorical, Float
from eeipu.algorithms.moves import Ask
from eeipu.algorithms.optuna_pruning import OptunaPruning
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.errors import ConfigurationError
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path

SPACE = {"lr": Categorical([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])}


def path_of(config, step):
    return Path().train("fit", "v", config, step).evaluate("fit", "v")


def optuna_study(direction, pruner):
    sampler = optuna.samplers.GridSampler({"lr": SPACE["lr"].choices}, seed=0)
    return optuna.create_study(direction=direction, pruner=pruner, sampler=sampler)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_pruned_trials_stop_and_the_study_says_so(direction):
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)
    study = optuna_study(direction, pruner)
    client = OptunaPruning(study, SPACE, trials=99, max_steps=8, every=2, concurrency=2)
    run = StudyRun("optuna", client, path_of, minimize=direction == "minimize")
    plan = SearchPlan()
    cluster = simulated_workers(
        2, lambda node: float(node.steps), lambda node: node.path.stretches[0].call.params["lr"]
    )
    run_studies([run], Scheduler(plan), cluster)
    states = [trial.state for trial in study.trials]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    # The sampler ends the study when its grid is through; who was running then may repeat some.
    assert 6 <= len(states) <= 8
    assert study.best_value == (0.6 if direction == "maximize" else 0.1)
    for trial in study.trials:
        assert set(trial.intermediate_values.values()) == {trial.params["lr"]}
    assert plan.spent_s < 8 * len(states)
    assert run.configs[0] == study.trials[0].params


def test_a_failed_trial_fails_in_optuna_and_another_begins():
    study = optuna_study("maximize", optuna.pruners.NopPruner())
    client = OptunaPruning(study, SPACE, trials=2, max_steps=3, every=2)
    (first,) = client.start()
    (_, second) = client.tell(first.trial, 2, None)
    assert study.trials[0].state is TrialState.FAIL
    (onward,) = client.tell(second.trial, 2, 0.5)
    assert onward == Ask(second.trial, second.config, 3)
    assert len(client.tell(second.trial, 3, 0.5)) == 1
    assert study.trials[1].state is TrialState.COMPLETE


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_direction_that_does_not_match_is_refused(direction):
    study = optuna_study(direction, optuna.pruners.NopPruner())
    client = OptunaPruning(study, SPACE, trials=2, max_steps=3, every=2)
    with pytest.raises(ConfigurationError, match=f"pass minimize={direction == 'minimize'}"):
        StudyRun("optuna", client, path_of, minimize=direction == "maximize")


KILLED = """
import os, signal, sys
import signal
import subprocess
import sys

import optuna
from eeipu import Float
from eeipu.algorithms.optuna_pruning import OptunaPruning

study = optuna.create_study(study_name="s", storage=sys.argv[1], load_if_exists=True)
client = OptunaPruning(study, {"lr": Float(0.0, 1.0)}, 6, max_steps=6, every=2, concurrency=3)
asks = client.start()
for ask in asks[:2]:
    client.tell(ask.trial, 2, 0.5)
ended = [m for step in (4, 6) for m in client.tell(asks[0].trial, step, 0.5)]
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_trials_of_a_killed_process_go_on_and_are_counted(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, url], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    study = optuna.load_study(study_name="s", storage=url)
    before = [trial.params for trial in study.trials]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] + ["RUNNING"] * 3

    client = OptunaPruning(study, {"lr": Float(0.0, 1.0)}, 6, max_steps=6, every=2, concurrency=3)
    moves = list(client.start())
    assert [(move.trial, move.step) for move in moves] == [(1, 4), (2, 2), (3, 2)]
    assert [move.config for move in moves] == before[1:]
    while moves:
        move = moves.pop(0)
        if isinstance(move, Ask):
            moves += client.tell(move.trial, move.step, 0.5)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    assert sorted(study.trials[1].intermediate_values) == [2, 4, 6]
    assert client.start() == []


def test_trials_that_others_run_are_left_to_them():
    study = optuna.create_study()
    own = study.ask({"lr": SPACE["lr"]})
    client = OptunaPruning(study, SPACE, trials=1, max_steps=4, every=2)

    (ask,) = client.start()

    assert ask.trial != own.number
