"""The loop of `Tuner.run`: how it stops, goes on, and keeps its account."""

import os
import re
import signal
import threading
import time

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, GridSampler, RandomSampler
from toys import FIT_COST, PREP_COST, SCORE_COST, Toy, accounts, config

import eeipu.stages.running.calls
import eeipu.studies.run_limits
from eeipu import Float, Int, Pipeline, StageCache, Tuner, stage


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def pressing(at, times=1):
    """Something for a toy to do: press Ctrl-C in a stage the first time that it is called."""
    left = [times]

    def on_call(name, params):
        if name == at:
            while left[0] > 0:
                left[0] -= 1
                press_ctrl_c()

    return on_call


def tuner_of(toy, **arguments):
    return Tuner(toy.pipeline, **{"budget": 100.0, "method": "random", "seed": 0, **arguments})


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


# --- Ctrl-C


def test_ctrl_c_stops_after_the_current_stage_and_keeps_what_it_computed(caplog):
    toy = Toy(pressing("prep"))
    cache = StageCache()
    tuner = tuner_of(toy, cache=cache)
    tuner.enqueue(config())
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)
    study = tuner.study

    assert toy.counts == {"prep": 1}
    trial, again = study.trials
    assert (trial.state.name, again.state.name) == ("FAIL", "WAITING")
    assert accounts(study)[0] == ([PREP_COST, None, None], [False] * 3, PREP_COST)
    assert trial.user_attrs["stage_keys"][0] in cache
    asked, stopped = warnings_of(caplog)
    assert "after the current stage" in asked
    assert "stopped by Ctrl-C with 96 left" in stopped
    assert "call run(...) again" in stopped


def test_the_same_call_goes_on_after_ctrl_c():
    toy = Toy(pressing("fit"))
    tuner = tuner_of(toy)
    tuner.enqueue(config())
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)
    study = tuner.run(1.0, max_trials=2)

    states = [trial.state.name for trial in study.trials]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params == config()
    assert accounts(study)[:2] == [
        ([PREP_COST, FIT_COST, None], [False] * 3, PREP_COST + FIT_COST),
        ([None, None, SCORE_COST], [True, True, False], SCORE_COST),
    ]
    # An enqueued configuration is warm-up however often it had to begin.
    assert study.trials[1].user_attrs["warm_up"]
    assert [name for name, _ in toy.calls][:3] == ["prep", "fit", "score"]


def test_ctrl_c_in_the_last_stage_finishes_the_trial_and_begins_no_other(caplog):
    toy = Toy(pressing("score"))
    tuner = tuner_of(toy)
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)

    assert toy.counts == {"prep": 1, "fit": 1, "score": 1}
    assert [trial.state.name for trial in tuner.study.trials] == ["COMPLETE"]
    assert "stopped by Ctrl-C" in warnings_of(caplog)[-1]


def test_ctrl_c_while_a_configuration_is_chosen_begins_no_stage():
    class Pressing(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            if name == "score.k" and trial.number == 1:
                press_ctrl_c()
            return super().sample_independent(study, trial, name, distribution)

    toy = Toy()
    tuner = tuner_of(toy, method=Pressing(seed=0))
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)
    study = tuner.study
    assert toy.counts == {"prep": 1, "fit": 1, "score": 1}

    tuner.run(1.0, max_trials=1)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[1].params == study.trials[2].params


def test_a_second_ctrl_c_stops_at_once_and_loses_no_finished_stage(caplog):
    toy = Toy(pressing("fit", times=2))
    tuner = tuner_of(toy)
    tuner.enqueue(config())

    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)
    assert "call run(...) again" in warnings_of(caplog)[-1]
    assert accounts(tuner.study)[0] == ([PREP_COST, None, None], [False] * 3, PREP_COST)

    assert [trial.state.name for trial in tuner.study.trials] == ["FAIL", "WAITING"]
    study = tuner.run(1.0, max_trials=1)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert accounts(study)[1] == ([None, FIT_COST, SCORE_COST], [True, False, False], 2.5)


def test_a_trial_cut_off_in_its_first_stage_has_an_account_too():
    tuner = tuner_of(Toy(pressing("prep", times=2)))

    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)
    assert accounts(tuner.study) == [([None] * 3, [False] * 3, 0.0)]


def test_ctrl_c_is_ones_own_again_after_a_run():
    before = signal.getsignal(signal.SIGINT)
    tuner_of(Toy()).run(1.0, max_trials=1)

    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()


def test_a_run_outside_of_the_main_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    tuner = tuner_of(Toy(lambda name, params: handlers.append(signal.getsignal(signal.SIGINT))))
    handlers = []
    thread = threading.Thread(target=tuner.run, args=(1.0,), kwargs={"max_trials": 1})
    thread.start()
    thread.join(timeout=60)

    assert len(tuner.study.trials) == 1
    assert set(handlers) == {before}


@pytest.mark.parametrize(
    ("cache", "words"),
    [(None, "tune"), ("memory", "without the stage outputs"), ("directory", "same storage")],
)
def test_where_a_study_is_stored_says_how_it_goes_on(cache, words, tmp_path, caplog):
    caches = {"memory": StageCache(), "directory": StageCache(tmp_path / "cache")}
    tuner = tuner_of(
        Toy(pressing("prep")),
        cache=caches.get(cache),
        storage=f"sqlite:///{tmp_path}/tune.db",
        study_name="tune",
    )
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)

    message = warnings_of(caplog)[-1]
    assert "run the same script on the same storage (study 'tune')" in message
    assert ("without the stage outputs" in message) == (cache == "memory")
    assert words in message


def test_measured_costs_are_seconds(caplog):
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(*, a):
        press_ctrl_c()
        return a

    with pytest.raises(KeyboardInterrupt):
        Tuner(Pipeline([only]), budget=1000.0, method="random").run()

    assert "seconds left" in warnings_of(caplog)[-1]


# --- other ends


def test_a_sampler_that_raises_ends_the_run_and_leaves_no_trial_open():
    class Raising(BaseSampler):
        def infer_relative_search_space(self, study, trial):
            raise RuntimeError("no idea")

        sample_relative = sample_independent = None

    tuner = tuner_of(Toy(), method=Raising())

    with pytest.raises(RuntimeError, match="no idea"):
        tuner.run(1.0)
    assert [trial.state.name for trial in tuner.study.trials] == ["FAIL"]


def test_a_callback_that_raises_ends_the_run_after_its_trial_is_kept():
    def object_to(study, trial):
        raise RuntimeError("enough")

    cache = StageCache()
    tuner = tuner_of(Toy(), cache=cache, top_q=1, callbacks=[object_to])
    for _ in range(3):
        with pytest.raises(RuntimeError, match="enough"):
            tuner.run(1.0)

    assert [trial.state.name for trial in tuner.study.trials] == ["COMPLETE"] * 3
    assert set(cache) == set(tuner.study.best_trial.user_attrs["stage_keys"][:2])


def test_what_no_stage_may_catch_ends_the_run_and_can_be_resumed():
    breaks = [True]

    def leave(name, params):
        if name == "fit" and breaks:
            breaks.clear()
            raise GeneratorExit

    tuner = tuner_of(Toy(leave))
    with pytest.raises(GeneratorExit):
        tuner.run(1.0)
    study = tuner.run(1.0, max_trials=1)

    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs["memoized"] == [True, False, False]


def test_a_grid_ends_the_run():
    toy = Toy()
    grid = {
        "prep.x": [0.25, 0.5],
        "fit.y": [0.5],
        "fit.loss": ["square", "absolute"],
        "score.k": [1],
    }
    study = tuner_of(toy, budget=1e3, method=GridSampler(grid, seed=0)).run(1.0)

    assert len(study.trials) == 4
    assert toy.counts == {"prep": 2, "fit": 4, "score": 4}


def test_optunas_loop_is_closed_again_after_a_run():
    tuner = tuner_of(Toy())
    tuner.run(1.0, max_trials=1)

    with pytest.raises(RuntimeError):
        tuner.study.stop()


def test_a_stop_holds_for_one_run_only():
    tuner = tuner_of(Toy(), callbacks=[lambda study, trial: study.stop()])

    for expected in (1, 2):
        assert len(tuner.run(1.0).trials) == expected


class Stubborn(RandomSampler):
    """Proposes the same again and again, and every fourth time something else."""

    def sample_independent(self, study, trial, name, distribution):
        return trial.number if trial.number % 4 == 3 and trial.number < 12 else 0


@stage(space={"a": Int(0, 99)}, cost=lambda a: 1.0, version="1")
def constant(*, a):
    return 1.0


def test_a_sampler_that_only_repeats_itself_is_stopped(caplog, monkeypatch):
    monkeypatch.setattr(eeipu.studies.run_limits, "MAX_REPEATS", 5)
    tuner = Tuner(Pipeline([constant]), budget=10.0, method=Stubborn())
    study = tuner.run()

    assert len(study.trials) == 12 + 5
    assert tuner.spent == 1.0 + 3.0  # the first, and the others between the repetitions
    assert "last 5 trials" in warnings_of(caplog)[-1]
    assert "Stubborn" in warnings_of(caplog)[-1]


def test_no_trials_may_be_asked_for():
    toy = Toy()

    assert tuner_of(toy).run(1.0, max_trials=0).trials == []
    assert toy.calls == []


def test_a_run_that_ends_as_it_should_says_nothing_more(caplog):
    tuner_of(Toy(), budget=10.0).run(1.0)

    assert warnings_of(caplog) == []


def test_a_stage_that_returns_none_is_remembered_like_any_other():
    calls = []

    @stage(space={"a": Float(0.0, 1.0)}, cost=lambda a: 1.0, version="1")
    def first(*, a):
        calls.append(a)

    @stage(space={"b": Float(0.0, 1.0)}, cost=lambda b: 1.0, version="1")
    def second(nothing, *, b):
        assert nothing is None
        return b

    tuner = Tuner(Pipeline([first, second]), budget=10.0, method="random")
    tuner.enqueue({"first.a": 0.5, "second.b": 0.5})
    tuner.enqueue({"first.a": 0.5, "second.b": 0.25})
    tuner.run(max_trials=2)

    assert calls == [0.5]


def test_trials_that_wait_show_no_account_yet_and_all_others_do():
    toy = Toy(pressing("prep"))
    tuner = tuner_of(toy)
    tuner.enqueue(config())
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0)
    tuner.run(1.0, max_trials=3)

    assert tuner.spent == sum(charged for _, _, charged in accounts(tuner.study))


@pytest.mark.filterwarnings("ignore:Argument ``heartbeat_interval``")
def test_storages_with_a_heartbeat_are_used_without_a_warning(tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/tune.db", heartbeat_interval=60)
    study = tuner_of(Toy(), storage=storage).run(1.0, max_trials=2)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_a_trial_says_how_much_gpu_memory_its_stages_took_and_only_then(monkeypatch):
    peaks = iter([None, 5, None] + [None] * 3)
    monkeypatch.setattr(eeipu.stages.running.calls, "peak_gpu_bytes", lambda: next(peaks))
    study = tuner_of(Toy(), cache=None).run(1.0, max_trials=2)

    assert study.trials[0].user_attrs["peak_gpu_bytes"] == [None, 5, None]
    assert "peak_gpu_bytes" not in study.trials[1].user_attrs


def test_a_trial_that_runs_out_of_memory_is_a_failed_one_and_the_search_goes_on():
    def run_out(name, params):
        if name == "fit" and params["y"] > 0.5:
            raise MemoryError

    study = tuner_of(Toy(run_out), method="eeipu").run(1.0, max_trials=8)
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]

    assert 0 < len(failed) < 8
    assert {trial.user_attrs["failed_stage"] for trial in failed} == {"fit"}
    assert all(t.user_attrs["error"].startswith("out of memory in stage 'fit'") for t in failed)


def test_a_trial_that_another_driver_took_over_is_left_to_it(caplog):
    def take_over(name, params):
        if name == "prep" and not warnings_of(caplog):
            number = len(study.trials) - 1
            study.tell(number, state=optuna.trial.TrialState.FAIL)

    tuner = tuner_of(Toy(take_over), n_initial=2)
    study = tuner.study
    tuner.run(1.0, max_trials=3)

    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    (said,) = warnings_of(caplog)
    assert "taken over by another driver" in said


def test_a_trial_that_waits_and_is_taken_over_meanwhile_does_not_end_the_run(caplog):
    """It could end at once with the output that it waited for, if it were still its driver's."""

    class Same(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            return 0 if trial.number < 2 else trial.number

    def has_begun(number):
        trials = study.get_trials(deepcopy=False)
        return len(trials) > number and "charged" in trials[number].user_attrs

    @stage(space={"a": Int(0, 99)}, cost=lambda a: 1.0, version="1")
    def only(*, a):
        deadline = time.monotonic() + 60
        while a == 0 and not has_begun(1):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if a == 0:
            study.tell(1, state=optuna.trial.TrialState.FAIL)
        return 1.0

    tuner = Tuner(Pipeline([only]), budget=10.0, method=Same(), executor="threads", max_parallel=2)
    study = tuner.study
    tuner.run(max_trials=3)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    (said,) = warnings_of(caplog)
    assert "taken over by another driver" in said


# --- errors of programming


def two_stages(second, ran, **options):
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def first(data, *, a):
        ran.append(a)
        return a

    return Pipeline([first, stage(second, name="second", version="1")], **options)


@pytest.mark.parametrize("method", ["eeipu", "random"])
@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda x: None, "'second'.*must return a number.*NoneType.*return"),
        (lambda x: (x, {}), "'second'.*must return a number.*tuple.*Pipeline.objective"),
        (lambda x: np.array([x]), r"'second'.*must return a number.*shape \[1\].*\.item"),
        (lambda x: {"f1": x}, r"'second'.*\['f1'\].*name one of them with Pipeline.objective"),
        (lambda x: undefined, "'second'.*NameError"),  # noqa: F821
        (lambda x: (lambda: x)(1), "'second'.*takes 0 positional"),
    ],
    ids=["None", "tuple", "[1]", "dict", "name", "arguments"],
)
def test_an_error_of_programming_ends_the_run_after_one_trial(method, second, words, caplog):
    ran, cache = [], StageCache()
    tuner = Tuner(two_stages(second, ran), budget=1e3, method=method, cache=cache, seed=0)
    (trial,) = tuner.run(1.0).trials

    assert (trial.state.name, len(ran)) == ("FAIL", 1)
    (message,) = warnings_of(caplog)
    assert re.search(f"other configurations would meet(.|\n)*{words}", message, re.DOTALL)
    assert "call run(...) again" in message
    assert trial.user_attrs["stage_keys"][0] in cache


def test_a_corrected_stage_goes_on_with_what_has_run():
    ran, cache = [], StageCache()
    params = {"first.a": 0.5}
    for second, count in ((lambda x: None, 1), (lambda x: x, 1)):
        tuner = Tuner(two_stages(second, ran), budget=1e3, method="random", cache=cache)
        tuner.pipeline.stages[1].__dict__["version"] = str(second)
        tuner.enqueue(params)
        tuner.run(1.0, max_trials=1)
        assert len(ran) == count
    assert tuner.study.best_value == 0.5


def test_an_objective_that_is_not_finite_stops_after_ten():
    tuner = Tuner(two_stages(lambda x: float("nan"), []), budget=1e3, method="random", seed=0)
    assert len(tuner.run(1.0).trials) == 10


def test_an_error_of_programming_that_one_branch_has_does_not_end_a_search_with_values():
    ran = []
    tuner = Tuner(
        two_stages(lambda x: x if x < 0.5 else x.item, ran), budget=1e3, method="random", seed=0
    )
    for a in (0.25, 0.75, 0.8, 0.3):
        tuner.enqueue({"first.a": a})
    states = [trial.state.name for trial in tuner.run(1.0, max_trials=4).trials]
    assert states == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]


# --- what a trial notes for those who look at it later


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_notes_when_its_calls_ran(workers):
    before = time.time()
    tuner = tuner_of(Toy(), max_parallel=workers, executor="threads" if workers > 1 else None)
    tuner.enqueue(config())
    study = tuner.run(1.0, max_trials=1, progress=False)
    after = time.time()

    ran = study.trials[0].user_attrs["ran"]

    assert [name for name, _, _ in ran] == ["prep", "fit", "score"]
    times = [before - 0.01, *(t for _, *span in ran for t in span), after + 0.01]
    assert times == sorted(times)


def test_costs_and_what_was_free_have_names_that_tables_can_sort_by():
    tuner = tuner_of(Toy())
    tuner.enqueue(config())
    tuner.enqueue(config(y=0.9))
    first, second = tuner.run(1.0, max_trials=2, progress=False).trials

    assert first.user_attrs["cost:prep"] == PREP_COST
    assert first.user_attrs["cost:fit"] == FIT_COST
    assert "reused:prep" not in first.user_attrs
    assert second.user_attrs["reused:prep"] == 1
    assert "cost:prep" not in second.user_attrs


def test_a_trial_notes_why_it_was_chosen():
    tuner = tuner_of(Toy(), method="eeipu", n_initial=3)
    tuner.enqueue(config())
    study = tuner.run(1.0, max_trials=5, progress=False)

    chosen = [trial.user_attrs.get("chosen", {}).get("by") for trial in study.trials]

    assert chosen == [None, "warm-up", "warm-up", "models", "models"]
    assert "improvement" in study.trials[-1].user_attrs["chosen"]
