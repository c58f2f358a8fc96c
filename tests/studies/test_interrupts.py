"""How the user stops a run, and is told how to continue."""

import os
import signal
import threading

import optuna
import pytest

from eeipu import StageCache
from eeipu.executors.interrupts import interruptible
from eeipu.studies.study import how_to_resume, stoppable


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_event_is_set_by_the_first_signal_alone():
    with interruptible() as interrupted:
        assert not interrupted.is_set()
        press_ctrl_c()
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_ctrl_c_is_what_it_was_before_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def look():
        with interruptible() as interrupted:
            seen.append((signal.getsignal(signal.SIGINT), interrupted.is_set()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)
    assert seen == [(before, False)]


def test_a_study_can_be_stopped_inside_only():
    study = optuna.create_study()
    with stoppable(study):
        study.stop()
    assert study._stop_flag
    with pytest.raises(RuntimeError):
        study.stop()


def test_inside_of_optunas_own_loop_it_stays_allowed():
    study = optuna.create_study()
    with stoppable(study):
        with stoppable(study):
            pass
        study.stop()


def test_a_study_in_memory_goes_on_in_this_process():
    said = how_to_resume(optuna.create_study(), StageCache(), "96 seconds")
    assert said.startswith("stopped by Ctrl-C with 96 seconds left. Nothing is lost while this")
    assert "With storage=... a study outlives its process" in said
