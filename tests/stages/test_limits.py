"""Limits of a stage call: it is watched until it ends, and no longer."""

import os
import threading
import time

from eeipu.stages.running.limits import ended_after


def test_a_call_that_ends_in_time_is_not_watched_any_more():
    with ended_after(0.05):
        pass
    time.sleep(0.1)


def test_a_call_that_hangs_in_a_thread_ends_the_process(monkeypatch, capfd):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)

    def hang():
        with ended_after(0.01):
            while not codes:
                time.sleep(0.01)

    thread = threading.Thread(target=hang)
    thread.start()
    thread.join()
    assert codes == [1]
    assert "in hang" in capfd.readouterr().err
