"""What a display says of all trials together, against a look at each."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from eeipu.studies.displays.tally import Tally


def check(tally, study, own):
    trials = study.get_trials()
    tally.look(study.get_trials(deepcopy=False))
    values = [t.value for t in trials if t.state is TrialState.COMPLETE]
    assert tally.succeeded == len(values)
    assert tally.best_value == max(values, default=None)
    assert tally.stopped == sum(t.state is TrialState.PRUNED for t in trials)
    cut_off = [t for t in trials if "interrupted" in t.user_attrs]
    assert tally.failed == sum(t.state is TrialState.FAIL for t in trials) - len(cut_off)
    charges = [t.user_attrs.get("charged", 0.0) for t in trials]
    assert tally.spent == math.fsum(charges)
    assert [tally.charged(k) for k in range(len(trials))] == charges
    assert tally.charged(len(trials)) == 0.0
    choosing = [t.user_attrs.get("suggest_s", 0.0) for t in trials if t.number in own]
    assert tally.choosing_s == pytest.approx(math.fsum(choosing))


def test_a_tally_follows_trials_as_they_begin_and_end():
    study, tally = optuna.create_study(direction="maximize"), Tally("study", max)
    rng, running, own = np.random.default_rng(0), [], set()
    for step in range(60):
        if not running or rng.random() < 0.5:
            running.append(study.ask())
            if rng.random() < 0.5:
                own.add(running[-1].number)
                tally.add_own(running[-1].number)
            running[-1].set_user_attr("suggest_s", step / 7)
        elif rng.random() < 0.5:
            running[0].set_user_attr("charged", step / 3)
        else:
            trial = running.pop(rng.integers(len(running)))
            states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
            state = states[rng.integers(3)]
            if state is TrialState.FAIL and rng.random() < 0.5:
                trial.set_user_attr("interrupted", True)
            study.tell(trial, step if state is TrialState.COMPLETE else None, state=state)
        check(tally, study, own)
