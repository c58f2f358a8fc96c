"""What a run is charged for choosing configurations, and what ends it, in virtual time."""

import threading
from types import SimpleNamespace

import optuna
import pytest
from toys import Toy, accounts, config

from eeipu import ConfigurationError, Float, Pipeline, StageCache, Tuner, stage
from eeipu.executors.pool import InlinePool
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.methods.budget import Budget
from eeipu.stages.running.worker import Job
from eeipu.studies.driver import Driver
from eeipu.studies.trials import Trials

STAGE_S, THINKING_S = 3.0, 2.0


def nothing(measured_s):
    return 0.0


def slowly(measured_s):
    return THINKING_S


def measured():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(data, *, a):
        return data * a

    return Pipeline([only])


def run(pipeline, size=1, *, stage_s=STAGE_S, thinking_s=slowly, max_trials=None, **arguments):
    """A run in which stages and suggestions alone take time."""
    pool = SimulatedPool(size, None, lambda task: stage_s, thinking_s=thinking_s, driving_s=nothing)
    arguments = {"method": "random", "seed": 0, "cache": None, **arguments}
    tuner = Tuner(pipeline, executor=pool, **arguments)
    tuner.run(1.0, max_trials=max_trials, progress=False)
    return tuner, pool


def attributes_of(tuner, name):
    return [trial.user_attrs[name] for trial in tuner.study.trials if name in trial.user_attrs]


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


# --- what is charged


def test_one_worker_is_charged_all_the_time_of_a_suggestion():
    tuner, pool = run(measured(), budget=25.0)

    assert pool.now() == tuner.spent == 25.0
    assert attributes_of(tuner, "charged") == [STAGE_S + THINKING_S] * 5
    assert attributes_of(tuner, "overhead") == attributes_of(tuner, "waited_s") == [THINKING_S] * 5
    assert attributes_of(tuner, "stage_costs") == [[STAGE_S]] * 5


def test_of_several_workers_one_that_waits_is_enough():
    tuner, _ = run(measured(), 2, stage_s=30.0, budget=1e6, max_trials=3)

    # One worker runs trial 0 from 2 s on; the other waits for trial 1 until 4 s.
    assert attributes_of(tuner, "waited_s") == [THINKING_S] * 3
    assert tuner.spent == 3 * (30.0 + THINKING_S)


def test_a_choice_is_free_while_all_workers_are_busy():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def first(data, *, a):
        return data + a

    @stage(space={"b": Float(0.0, 1.0)}, version="1")
    def second(data, *, b):
        return data * b

    cache = StageCache()
    pool = SimulatedPool(2, cache, lambda task: STAGE_S, thinking_s=slowly, driving_s=nothing)
    tuner = Tuner(
        Pipeline([first, second]), budget=1e6, method="random", cache=cache, executor=pool
    )
    for b in (0.1, 0.2):
        tuner.enqueue({"first.a": 0.5, "second.b": b})
    tuner.run(1.0, max_trials=3, progress=False)

    # Trial 1 waits for the output of trial 0, which is there at 5 s, when trial 2 has been chosen
    # for 1 s. From then on both workers are busy.
    assert attributes_of(tuner, "waited_s") == [THINKING_S, THINKING_S, 1.0]


def test_declared_costs_are_charged_nothing_for_choosing():
    tuner, _ = run(Toy().pipeline, budget=20.0)

    assert set(attributes_of(tuner, "overhead")) == {0.0}
    assert set(attributes_of(tuner, "waited_s")) == {THINKING_S}
    assert tuner.spent == sum(cost for costs, _, _ in accounts(tuner.study) for cost in costs)


def test_an_overhead_is_charged_for_each_configuration_that_was_chosen():
    toy = Toy()
    pool = SimulatedPool(1, None, thinking_s=slowly, driving_s=nothing)
    tuner = Tuner(
        toy.pipeline, budget=100.0, overhead=1.5, method="random", cache=None, executor=pool
    )
    tuner.enqueue(config())
    tuner.run(1.0, max_trials=3, progress=False)

    assert attributes_of(tuner, "overhead") == [0.0, 1.5, 1.5]
    assert attributes_of(tuner, "charged") == [6.5, 8.0, 8.0]
    assert attributes_of(tuner, "stage_costs") == [[4.0, 2.0, 0.5]] * 3


def test_an_overhead_replaces_measured_seconds():
    tuner, _ = run(measured(), budget=9.0, overhead=0.0)

    assert attributes_of(tuner, "charged") == [STAGE_S] * 3


def test_a_failed_trial_pays_for_its_choice_too():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def failing(data, *, a):
        raise ValueError(a)

    tuner, _ = run(Pipeline([failing]), budget=1e6, max_trials=1)

    assert attributes_of(tuner, "charged") == [STAGE_S + THINKING_S]


class ByHand:
    """A clock that goes on only where it is told to."""

    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


PUT_S, GET_S, CALLBACK_S = 0.25, 0.125, 50.0


@pytest.mark.parametrize("repeats", [False, True])
def test_with_one_worker_no_second_of_a_run_is_free(repeats):
    """Between its calls the worker waits for the driver: choosing, writing, tidying, callbacks."""
    clock = ByHand()

    class Slow(StageCache):
        def put(self, *arguments, **options):
            clock.s += PUT_S
            super().put(*arguments, **options)

        def get(self, key):
            clock.s += GET_S
            return super().get(key)

    class Choosing(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            clock.s += THINKING_S
            return 0.5 if repeats and trial.number < 2 else trial.number / 8

    def callback(study, trial):
        clock.s += CALLBACK_S

    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(data, *, a):
        clock.s += STAGE_S
        return data * a

    pipeline, cache = Pipeline([only]), Slow()
    study = optuna.create_study(direction="maximize", sampler=Choosing())
    trials = Trials(study, pipeline, top_q=5, callbacks=(callback,))
    driver = Driver(
        trials,
        pool=InlinePool(Job(pipeline.stages, (1.0,), cache), clock),
        budget=Budget(),
        max_trials=3,
        cache=cache,
        upstream="inputs",
        display=SimpleNamespace(shows_updates=False, shows_ends=False),
        interrupted=threading.Event(),
    )
    driver.run()

    attrs = [trial.user_attrs for trial in study.trials]
    later_s = CALLBACK_S + THINKING_S
    assert [each["waited_s"] for each in attrs] == [THINKING_S, later_s, later_s]
    assert [each["load_s"] for each in attrs] == [0.0, GET_S if repeats else 0.0, 0.0]
    assert [each["keep_s"] for each in attrs] == [PUT_S, 0.0 if repeats else PUT_S, PUT_S]
    assert attrs[1]["stage_costs"] == [None if repeats else STAGE_S]
    # What follows the last choice, apart from calls, is paid by nobody.
    assert trials.spent == clock.s - CALLBACK_S


# --- what ends a run


def test_no_trial_begins_after_the_timeout_and_running_ones_end():
    tuner, pool = run(measured(), timeout=8.0)

    # 2 s to choose and 3 s to run, twice: the second begins at 7 s.
    assert [trial.state.name for trial in tuner.study.trials] == ["COMPLETE"] * 2
    assert pool.now() == 10.0


def test_a_configuration_that_was_chosen_too_late_begins_the_next_run():
    tuner, pool = run(measured(), timeout=6.0)
    late = tuner.study.trials[1]

    assert [trial.state.name for trial in tuner.study.trials] == ["COMPLETE", "FAIL", "WAITING"]
    assert late.user_attrs["charged"] == THINKING_S
    assert pool.now() == tuner.spent == STAGE_S + 2 * THINKING_S

    tuner.run(1.0, max_trials=1, progress=False)
    assert tuner.study.trials[2].params == late.params
    assert tuner.study.trials[2].state.name == "COMPLETE"


def test_the_timeout_counts_anew_in_each_run():
    tuner, pool = run(measured(), timeout=8.0)
    tuner.run(1.0, progress=False)

    assert len(tuner.study.trials) == 4
    assert pool.now() == 20.0


def test_the_first_limit_that_is_reached_ends_a_run():
    assert len(run(measured(), budget=15.0, timeout=1e6)[0].study.trials) == 3
    assert len(run(measured(), budget=1e6, timeout=15.0)[0].study.trials) == 3
    assert len(run(measured(), budget=1e6, timeout=1e6, max_trials=3)[0].study.trials) == 3


@pytest.mark.parametrize("method", ["eeipu", "eeipu-careful", "carbo", "eips"])
def test_a_number_of_trials_is_enough_to_end_a_search(method):
    tuner, _ = run(Toy().pipeline, method=method, n_initial=3, max_trials=6)

    assert [trial.state.name for trial in tuner.study.trials] == ["COMPLETE"] * 6
    assert (tuner.budget, tuner.remaining) == (float("inf"), float("inf"))
    assert "inf" not in repr(tuner)


def test_without_a_budget_the_cost_counts_less_and_less():
    seen = []

    class Watching(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            seen.append(tuner._budget.share_left(tuner.spent, 0.0))
            return super().sample_independent(study, trial, name, distribution)

    pool = SimulatedPool(1, None, lambda task: STAGE_S, thinking_s=slowly, driving_s=nothing)
    tuner = Tuner(measured(), timeout=50.0, method=Watching(seed=0), cache=None, executor=pool)
    tuner.run(1.0, max_trials=4, progress=False)

    # Of 4 trials, and of 50 s at 5 s for each trial.
    assert seen == [0.75, 0.5, 0.25, 0.0]
    assert tuner._budget.share_left(tuner.spent, 0.0) == 1.0


def test_what_nothing_ends_is_refused_before_anything_runs():
    toy = Toy()
    tuner = Tuner(toy.pipeline, method="random")

    with pytest.raises(
        ConfigurationError, match=r"nothing ends this run; give Tuner\(budget=...\)"
    ):
        tuner.run(1.0)
    assert (toy.calls, tuner.study.trials) == ([], [])


# --- what is said of it


def test_a_run_on_a_spent_budget_says_that_nothing_was_run(caplog):
    tuner, _ = run(Toy().pipeline, budget=10.0)
    assert warnings_of(caplog) == []
    trials = len(tuner.study.trials)
    tuner.run(1.0, progress=False)

    (said,) = warnings_of(caplog)
    assert "the budget is spent; nothing was run" in said
    assert f"have cost {tuner.spent:.4g} of 10" in said
    assert "raise Tuner(budget=...)" in said
    assert len(tuner.study.trials) == trials


def test_a_budget_that_ends_inside_the_warm_up_says_so(caplog):
    run(Toy().pipeline, method="eeipu", budget=20.0, n_initial=10)

    (said,) = warnings_of(caplog)
    assert "the budget of 20 ended inside the warm-up: 4 trials have run" in said
    assert "lower n_initial" in said


def test_a_warm_up_that_ended_early_is_no_reason_to_raise_the_budget(caplog):
    run(Toy().pipeline, method="eeipu", budget=20.0)  # 4 trials, of which models chose the last
    assert warnings_of(caplog) == []

    run(Toy().pipeline, method="eeipu", budget=10.0)
    (said,) = warnings_of(caplog)
    assert "2 trials have run, and the first 3 are chosen without models" in said


def test_a_budget_that_outlives_the_warm_up_and_a_search_without_one_say_nothing(caplog):
    run(Toy().pipeline, method="eeipu", budget=30.0, n_initial=2)
    run(Toy().pipeline, method="random", budget=20.0, n_initial=10)
    run(Toy().pipeline, method="eeipu", budget=1e6, n_initial=10, max_trials=2)

    assert warnings_of(caplog) == []


def test_the_account_says_where_measured_time_went():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def first(data, *, a):
        return data + a

    @stage(space={"b": Float(0.0, 1.0)}, version="1")
    def second(data, *, b):
        return data * b

    tuner = Tuner(Pipeline([first, second]), budget=100.0, method="random", cache=StageCache())
    for b in (0.1, 0.2):
        tuner.enqueue({"first.a": 0.5, "second.b": b})
    tuner.run(1.0, max_trials=2, progress=False)

    for trial in tuner.study.trials:
        attrs = trial.user_attrs
        stages = sum(cost or 0.0 for cost in attrs["stage_costs"])
        beside = attrs["load_s"] + attrs["keep_s"] + attrs["overhead"]
        assert attrs["charged"] == pytest.approx(stages + beside)
    assert tuner.study.trials[1].user_attrs["load_s"] > 0.0
