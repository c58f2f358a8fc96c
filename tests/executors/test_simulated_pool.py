"""The simulated pool: a tuner's laws in virtual time, thinking, deaths, stragglers."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from toys import FIT_COST, PREP_COST, SCORE_COST, Toy, accounts, config

from eeipu import Categorical, Float, Pipeline, StageCache, Tuner, stage
from eeipu.errors import ConfigurationError
from eeipu.executors.pool import Pool
from eeipu.executors.simulated_pool import SimulatedPool, declared_seconds
from eeipu.stages.running.tasks import StageTask


def nothing(measured_s):
    return 0.0


def run(toy, size, *, cached=True, max_trials=None, enqueued=(), thinking_s=nothing, **options):
    """A tuner's run in virtual time, in which only stages and what `options` say take any."""
    # All outputs are kept.
    arguments = {"budget": 100.0, "method": "random", "seed": 0, "top_q": 100}
    arguments.update({name: options.pop(name) for name in ("budget", "seed") if name in options})
    cache = StageCache() if cached else None
    options = {"driving_s": nothing, **options}
    pool = SimulatedPool(size, cache, thinking_s=thinking_s, **options)
    tuner = Tuner(toy.pipeline, cache=cache, executor=pool, **arguments)
    for params in enqueued:
        tuner.enqueue(params)
    tuner.run(1.0, max_trials=max_trials, progress=False)
    return tuner, pool


class Grid:
    """A pipeline of a few configurations, so that trials often share what they need."""

    def __init__(self):
        self.calls = Counter()

        def prep(data, *, x):
            self.calls["prep", x] += 1
            return x

        def fit(x, *, y):
            self.calls["fit", x, y] += 1
            return x + y

        self.pipeline = Pipeline(
            [
                stage(space={"x": Categorical([1, 2, 3])}, cost=lambda x: 1.0 + x, version="1")(
                    prep
                ),
                stage(space={"y": Categorical([1, 2, 3, 4])}, cost=lambda y: 0.5 * y, version="1")(
                    fit
                ),
            ]
        )


# --- laws -----------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(size=st.integers(1, 7), seed=st.integers(0, 99), life_s=st.sampled_from([None, 8.0]))
def test_every_trial_ends_once_and_the_account_is_what_was_executed(size, seed, life_s):
    options = {"time_between_failures_s": life_s, "straggling": 0.2}
    tuner, pool = run(Toy(), size, max_trials=12, budget=1e9, seed=seed, **options)

    trials = tuner.study.trials
    assert len(trials) == 12
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "FAIL"}
    executed = [cost for costs, _, _ in accounts(tuner.study) for cost in costs if cost is not None]
    assert tuner.spent == pytest.approx(sum(executed))
    assert tuner.spent / size <= pool.busy_s <= size * pool.now()


@settings(max_examples=10, deadline=None)
@given(size=st.integers(1, 7), seed=st.integers(0, 99))
def test_trials_that_share_what_is_made_now_wait_for_it_and_it_is_made_once(size, seed):
    grid = Grid()
    tuner, pool = run(grid, size, budget=1e9, seed=seed)  # until all 12 configurations have run

    assert len(tuner.study.trials) == 12
    assert set(grid.calls.values()) == {1}
    assert len(grid.calls) == 3 + 12
    assert pool.busy_s == tuner.spent == 2.0 + 3.0 + 4.0 + 3 * (0.5 + 1.0 + 1.5 + 2.0)


@settings(max_examples=5, deadline=None)
@given(size=st.integers(2, 5), seed=st.integers(0, 99))
def test_a_run_with_fixed_thinking_is_repeatable(size, seed):
    def once():
        options = {"time_between_failures_s": 20.0, "straggling": 0.3, "slowdown": 2.0}
        tuner, pool = run(Toy(), size, seed=seed, budget=60.0, thinking_s=lambda s: 0.5, **options)
        told = [(trial.params, trial.value, trial.state) for trial in tuner.study.trials]
        return told, accounts(tuner.study), pool.now(), pool.deaths, pool.thought_s

    assert once() == once()


# --- time -----------------------------------------------------------------------------------


def test_two_workers_take_half_the_time_for_the_same_work():
    alone, together = (run(Toy(), size, max_trials=8, budget=1e9)[1] for size in (1, 2))

    assert alone.busy_s == together.busy_s == 8 * (PREP_COST + FIT_COST + SCORE_COST)
    assert alone.now() == alone.busy_s
    assert together.now() == alone.busy_s / 2


def test_two_trials_that_share_a_running_stage_run_it_once():
    toy = Toy()
    both = [config(y=0.1), config(y=0.9)]
    tuner, pool = run(toy, 2, max_trials=2, enqueued=both)

    assert toy.counts == {"prep": 1, "fit": 2, "score": 2}
    assert pool.now() == PREP_COST + FIT_COST + SCORE_COST
    assert [memoized for _, memoized, _ in accounts(tuner.study)] == [
        [False] * 3,
        [True, False, False],
    ]


def test_without_a_cache_they_both_run_it():
    toy = Toy()
    both = [config(y=0.1), config(y=0.9)]
    run(toy, 2, cached=False, max_trials=2, enqueued=both)

    assert toy.counts == {"prep": 2, "fit": 2, "score": 2}


def test_thinking_takes_time_beside_the_workers():
    options = {"cached": False, "max_trials": 3}
    _, quick = run(Toy(), 1, thinking_s=lambda s: 1.0, **options)
    _, slow = run(Toy(), 3, thinking_s=lambda s: 10.0, **options)

    trial_s = PREP_COST + FIT_COST + SCORE_COST
    assert quick.now() == 3 * (1.0 + trial_s)
    assert slow.now() == 3 * 10.0 + trial_s
    assert (slow.thoughts, slow.thought_s) == (3, 30.0)


def test_thinking_and_driving_are_measured():
    ticks = iter(range(10_000))
    arguments = {"thinking_s": float, "driving_s": float, "clock": lambda: float(next(ticks))}
    _, pool = run(Toy(), 1, max_trials=2, **arguments)

    assert pool.thought_s == 2.0  # two readings of this clock lie around each
    stages_s = 2 * (PREP_COST + FIT_COST + SCORE_COST)
    # A part of the driving is done while the worker works.
    assert stages_s + 2.0 < pool.now() < stages_s + 2.0 + pool.driven_s


def test_a_measured_cost_is_the_virtual_time_that_a_call_took():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(*, a):
        return a

    pool = SimulatedPool(2, None, lambda task: 7.0, thinking_s=nothing, driving_s=nothing)
    tuner = Tuner(Pipeline([only]), budget=21.0, method="random", seed=0, cache=None, executor=pool)
    tuner.run(progress=False)

    assert accounts(tuner.study) == [([7.0], [False], 7.0)] * len(tuner.study.trials)
    assert tuner.spent >= 21.0


def test_stragglers_take_longer_and_cost_what_was_declared():
    tuner, pool = run(Toy(), 1, max_trials=2, straggling=1.0, slowdown=4.0)

    assert pool.now() == 4.0 * tuner.spent


# --- failures -------------------------------------------------------------------------------


def test_a_dead_workers_stage_is_tried_again():
    toy = Toy()
    tuner, pool = run(toy, 3, max_trials=30, budget=1e9, time_between_failures_s=15.0)

    assert pool.deaths > 0
    states = Counter(trial.state.name for trial in tuner.study.trials)
    assert states["COMPLETE"] > 20
    failed = [t for t in tuner.study.trials if t.state.name == "FAIL"]
    assert all("its simulated worker died" in trial.user_attrs["error"] for trial in failed)
    assert toy.counts["score"] == states["COMPLETE"]


def test_a_stage_that_raises_is_a_failed_trial():
    def fail(name, params):
        if name == "fit" and params["loss"] == "absolute":
            raise ValueError("diverged")

    tuner, _ = run(Toy(fail), 2, max_trials=10)

    assert {t.state.name for t in tuner.study.trials} == {"COMPLETE", "FAIL"}


def test_a_cost_that_cannot_be_told_is_a_failed_trial():
    @stage(space={"a": Float(0.0, 1.0)}, version="1", cost=lambda a: 1 / 0)
    def only(*, a):
        return a

    pool = SimulatedPool(1, thinking_s=nothing, driving_s=nothing)
    tuner = Tuner(Pipeline([only]), budget=9.0, method="random", cache=None, executor=pool)
    tuner.run(max_trials=1, progress=False)

    assert "ZeroDivisionError" in tuner.study.trials[0].user_attrs["error"]


def test_nothing_is_left_on_its_way_when_a_run_ends():
    def object_to(study, trial):
        raise RuntimeError("enough")

    pool = SimulatedPool(2)
    tuner = Tuner(Toy().pipeline, budget=9.0, method="random", callbacks=[object_to], executor=pool)
    with pytest.raises(RuntimeError, match="enough"):
        tuner.run(1.0, progress=False)
    assert pool.wait() == []  # what was on its way is forgotten


def test_a_sampler_that_raises_ends_the_run():
    class Raising(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            raise RuntimeError("no idea")

    tuner = Tuner(Toy().pipeline, budget=9.0, method=Raising(), executor=SimulatedPool(2))
    with pytest.raises(RuntimeError, match="no idea"):
        tuner.run(1.0, progress=False)


# --- arguments ------------------------------------------------------------------------------


def test_it_is_a_pool():
    assert isinstance(SimulatedPool(1), Pool)


def test_a_stage_without_a_cost_needs_seconds():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(*, a):
        return a

    (call,) = Pipeline([only]).calls({"only.a": 0.5})
    task = StageTask(call, None, is_last=True)
    with pytest.raises(ConfigurationError, match="how long stage 'only' takes"):
        declared_seconds(task)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"workers": []},
        {"straggling": 1.5},
        {"slowdown": 0.5},
        {"time_between_failures_s": 0.0},
    ],
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="a pool needs workers"):
        SimulatedPool(**{"workers": 1, **wrong})


# --- budget ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_on_its_way_counts_against_the_budget(cached):
    trial = PREP_COST + FIT_COST + SCORE_COST
    tuner, _ = run(Toy(), 8, cached=cached, budget=2.5 * trial)

    assert len(tuner.study.trials) == 3
    assert tuner.spent == 3 * trial


def test_what_two_trials_share_is_foreseen_once():
    both = [config(y=0.1), config(y=0.9), config(x=0.1)]
    budget = PREP_COST + 2 * (FIT_COST + SCORE_COST) + 0.1
    tuner, _ = run(Toy(), 8, budget=budget, enqueued=both)

    assert len(tuner.study.trials) == 3


# --- many workers ---------------------------------------------------------------------------


def test_a_search_on_many_workers_ends_with_the_right_account():
    cache = StageCache()
    pool = SimulatedPool(24, cache, thinking_s=nothing, driving_s=nothing)
    tuner = Tuner(
        Toy().pipeline, budget=1e9, n_initial=20, seed=0, top_q=2, cache=cache, executor=pool
    )
    study = tuner.run(1.0, max_trials=26, progress=False)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 26
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 26
    executed = [cost for costs, _, _ in accounts(study) for cost in costs if cost is not None]
    assert tuner.spent == pytest.approx(sum(executed))
