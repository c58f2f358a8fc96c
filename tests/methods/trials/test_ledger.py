"""What is remembered of a study's trials between two readings."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter

import numpy as np
import optuna
import pytest
from histories import PIPELINE, trial
from optuna.trial import TrialState

from eeipu.methods.history import History
from eeipu.methods.trials.ledger import Ledger


def same(one, other):
    """Whether two histories say the same."""
    assert one == other
    for name in ("X", "values", "stages.costs", "running_X"):
        arrays = (attrgetter(name)(each) for each in (one, other))
        np.testing.assert_array_equal(*arrays)
    assert one.configurations.begun == other.configurations.begun
    return True


def test_a_ledger_changes_nothing_but_the_time():
    """Trials begin and end in any order, some are enqueued, cut off, or fail."""
    study, ledger = optuna.create_study(direction="minimize"), Ledger(PIPELINE)
    rng, running = np.random.default_rng(0), []
    for step in range(60):
        if not running or rng.random() < 0.5:
            if step % 7 == 0:
                study.enqueue_trial({"prep.x": 0.5, "fit.y": step / 60})
            running.append(study.ask(PIPELINE.space if step % 5 else {}))
            running[-1].set_user_attr("charged", step / 3)
        else:
            ended = running.pop(rng.integers(len(running)))
            if step % 3 == 0:
                ended.set_user_attr("interrupted" if step % 2 else "error", "yes")
                study.tell(ended, state=TrialState.FAIL)
            else:
                study.tell(ended, float(rng.random()))
        known = History.of(study, PIPELINE, ledger=ledger)
        assert same(known, History.of(study, PIPELINE))


def test_a_ledger_encodes_each_trial_once(monkeypatch):
    encoded = []
    encode = type(PIPELINE.cube).encode
    monkeypatch.setattr(
        type(PIPELINE.cube),
        "encode",
        lambda cube, params: encoded.extend(params) or encode(cube, params),
    )
    study, ledger = optuna.create_study(), Ledger(PIPELINE)
    for i in range(20):
        study.add_trial(trial(x=i / 20))
        assert len(History.of(study, PIPELINE, ledger=ledger).X) == i + 1

    assert len(encoded) == 20


def test_a_ledger_that_is_shown_another_study_starts_again():
    ledger = Ledger(PIPELINE)
    for count in (3, 2, 5):
        study = optuna.create_study()
        study.add_trials([trial(x=(i + 1) / (7 * count), charged=1.0) for i in range(count)])

        assert same(History.of(study, PIPELINE, ledger=ledger), History.of(study, PIPELINE))


def test_threads_may_read_one_ledger_at_once():
    study, ledger = optuna.create_study(), Ledger(PIPELINE)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for i in range(60):
                study.add_trial(trial(x=i / 60, charged=1.0))
                read = [pool.submit(History.of, study, PIPELINE, None, ledger) for _ in range(4)]
                for history in [each.result() for each in read]:
                    assert [t.number for t in history.ended] == list(range(i + 1))
                    assert history.spent == len(history.X) == i + 1
    finally:
        sys.setswitchinterval(interval)


def test_a_part_of_a_history_is_a_history():
    study = optuna.create_study()
    study.add_trials([trial(x=i / 10, value=float(i)) for i in range(9)])
    whole = History.of(study, PIPELINE, ledger=Ledger(PIPELINE))
    assert len(whole.X) == len(whole.configurations.begun) == 9

    first = replace(whole, ended=whole.ended[:4])
    others = replace(whole, ended=whole.ended[4:])

    assert first.X[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert others.values.tolist() == [-4.0, -5.0, -6.0, -7.0, -8.0]
    assert first.configurations.begun | others.configurations.begun == whole.configurations.begun


def test_a_history_stays_as_it_was_read_while_its_ledger_goes_on():
    study, ledger = optuna.create_study(), Ledger(PIPELINE)
    first, second, third = (study.ask(PIPELINE.space) for _ in range(3))
    study.tell(first, 1.0)
    study.tell(third, 3.0)
    before = History.of(study, PIPELINE, ledger=ledger)
    assert len(before.X) == 2
    study.tell(second, 2.0)
    assert len(History.of(study, PIPELINE, ledger=ledger)) == 3

    assert before.values.tolist() == [-1.0, -3.0]
    assert before.X.tolist() == [list(each.params.values()) for each in (first, third)]
    assert not any(before.configurations.is_new(each.params) for each in (first, second, third))
