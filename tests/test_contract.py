"""The public contract, driven from outside on toy pipelines with declared costs."""

import json
import signal
import subprocess
import sys
import time

import optuna
import pytest
from toys import FIT_COST, PREP_COST, SCORE_COST, Toy, accounts, config

import eeipu
from eeipu import Categorical, Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.errors import SpaceError
from eeipu.methods.catalogue import METHODS

ALL_COST = PREP_COST + FIT_COST + SCORE_COST


def run_script(path, *arguments):
    """What a script prints, run by an interpreter of its own."""
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=True).stdout


# --- what a first user does


def test_the_example_of_the_contract_runs(tmp_path):
    @stage(space={"dims": Int(8, 64, log=True)})
    def features(data, *, dims):
        return [value * dims for value in data]

    @stage(space={"lr": Float(1e-4, 1e-1, log=True), "loss": Categorical(["l1", "l2"])}, num_gpus=1)
    def train(features, *, lr, loss):
        return sum(features) * lr * (1 if loss == "l1" else 2)

    @stage(space={"threshold": Float(0.0, 1.0)}, memoize=False)
    def score(model, *, threshold):
        return model - threshold

    tuner = Tuner(
        Pipeline([features, train, score]),
        budget=600.0,
        direction="maximize",
        method="eeipu",
        cache=StageCache(tmp_path / "cache"),
        storage=f"sqlite:///{tmp_path}/tune.db",
        study_name="demo",
        seed=0,
    )
    study = tuner.run([1.0, 2.0], max_trials=3)

    assert isinstance(study, optuna.Study)
    assert study.study_name == "demo"
    assert list(study.best_params) == [
        "features.dims",
        "train.lr",
        "train.loss",
        "score.threshold",
    ]
    assert study.best_value == max(trial.value for trial in study.trials)
    assert tuner.study is study
    assert 0.0 < tuner.spent < 600.0
    assert tuner.remaining == 600.0 - tuner.spent


def test_run_passes_all_inputs_to_the_first_stage():
    @stage(space={"a": Int(1, 3)})
    def add(left, right, *, a):
        return left + right + a

    study = Tuner(Pipeline([add]), budget=1.0, method="random").run(10, 20, max_trials=1)

    assert study.best_value == 30 + study.best_params["add.a"]


def test_a_dict_of_metrics_is_kept_and_its_objective_optimised():
    @stage(space={"a": Float(0.0, 1.0)})
    def evaluate(*, a):
        return {"f1": a, "loss": 1.0 - a}

    tuner = Tuner(Pipeline([evaluate], objective="f1"), budget=1.0, method="random")
    trial = tuner.run(max_trials=1).trials[0]

    assert trial.value == trial.params["evaluate.a"]
    assert trial.user_attrs["metrics"] == {"f1": trial.value, "loss": 1.0 - trial.value}


# --- what is shared, and what it costs


def test_a_stage_that_two_trials_share_is_called_once():
    toy = Toy()
    tuner = Tuner(toy.pipeline, budget=100.0, method="random")
    tuner.enqueue(config(x=0.1, y=0.2))
    tuner.enqueue(config(x=0.1, y=0.3))
    tuner.enqueue(config(x=0.1, y=0.3, k=8))
    tuner.enqueue(config(x=0.2, y=0.3))
    study = tuner.run(1.0, max_trials=4)

    assert [params["x"] for name, params in toy.calls if name == "prep"] == [0.1, 0.2]
    assert [params["y"] for name, params in toy.calls if name == "fit"] == [0.2, 0.3, 0.3]
    assert [params["k"] for name, params in toy.calls if name == "score"] == [1, 1, 8, 1]
    assert accounts(study) == [
        ([PREP_COST, FIT_COST, SCORE_COST], [False, False, False], ALL_COST),
        ([None, FIT_COST, SCORE_COST], [True, False, False], FIT_COST + SCORE_COST),
        ([None, None, SCORE_COST], [True, True, False], SCORE_COST),
        ([PREP_COST, FIT_COST, SCORE_COST], [False, False, False], ALL_COST),
    ]
    assert tuner.spent == 2 * ALL_COST + FIT_COST + 2 * SCORE_COST


def test_a_reused_output_gives_the_value_of_a_run_without_a_cache():
    toy = Toy()
    tuner = Tuner(toy.pipeline, budget=100.0, method="random")
    tuner.enqueue(config(x=0.1, y=0.2))
    tuner.enqueue(config(x=0.1, y=0.3))
    study = tuner.run(1.0, max_trials=2)

    for trial in study.trials:
        assert trial.value == Toy().pipeline.run(trial.params, 1.0).value


def test_measured_stages_are_charged_for_loading_and_their_costs_are_not_learnt():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def prep(data, *, a):
        return data + a

    @stage(space={"b": Float(0.0, 1.0)}, version="1")
    def fit(data, *, b):
        return data * b

    tuner = Tuner(Pipeline([prep, fit]), budget=100.0, method="random")
    tuner.enqueue({"prep.a": 0.5, "fit.b": 0.1})
    tuner.enqueue({"prep.a": 0.5, "fit.b": 0.2})
    study = tuner.run(1.0, max_trials=2)
    (first_costs, _, first_charged), (costs, memoized, charged) = accounts(study)
    first, second = (trial.user_attrs for trial in study.trials)

    assert first_charged == pytest.approx(sum(first_costs) + first["overhead"] + first["keep_s"])
    assert first["load_s"] == 0.0
    assert costs[0] is None
    assert memoized == [True, False]
    assert costs[1] > 0.0
    assert second["load_s"] > 0.0
    assert second["overhead"] == second["waited_s"] > 0.0
    beside = second["load_s"] + second["keep_s"] + second["overhead"]
    assert charged == pytest.approx(costs[1] + beside)
    assert tuner.spent == first_charged + charged


def test_without_a_cache_everything_is_executed_and_charged():
    toy = Toy()
    tuner = Tuner(toy.pipeline, budget=100.0, method="random", cache=None)
    tuner.enqueue(config(x=0.1, y=0.2))
    tuner.enqueue(config(x=0.1, y=0.3))
    study = tuner.run(1.0, max_trials=2)

    assert toy.counts == {"prep": 2, "fit": 2, "score": 2}
    assert [memoized for _, memoized, _ in accounts(study)] == [[False, False, False]] * 2
    assert tuner.spent == 2 * ALL_COST


def test_the_cache_holds_the_stage_outputs_of_the_best_trials_and_no_others():
    cache = StageCache()
    tuner = Tuner(Toy().pipeline, budget=1e3, method="random", cache=cache, top_q=2, seed=0)
    study = tuner.run(1.0, max_trials=12)

    best = sorted(study.trials, key=lambda trial: -trial.value)[:2]
    expected = {key for trial in best for key in trial.user_attrs["stage_keys"][:2]}
    assert set(cache) == expected


def test_another_studys_entries_stay_in_the_cache():
    cache = StageCache()
    cache.put("mine", 1)
    Tuner(Toy().pipeline, budget=1e3, method="random", cache=cache, top_q=1).run(1.0, max_trials=5)

    assert "mine" in cache


def test_by_default_outputs_are_kept_in_a_bounded_part_of_memory():
    cache = Tuner(Toy().pipeline, budget=1.0).cache

    assert cache.location is None
    assert cache.max_bytes > 0
    assert Tuner(Toy().pipeline, budget=1.0, cache=None).cache is None
    assert Tuner(Toy().pipeline, budget=1.0, cache=eeipu.IN_MEMORY).cache is not cache


def test_prefixes_that_eeipu_proposes_hit_the_cache():
    tuner = Tuner(Toy().pipeline, budget=60.0, n_initial=3, seed=0)
    study = tuner.run(1.0, max_trials=8)

    assert any(trial.user_attrs["memoized"][0] for trial in study.trials[3:])


def test_a_warm_up_with_a_cache_shares_prefixes_and_one_without_does_not():
    many = {"budget": 1e3, "n_initial": 10, "seed": 0}
    with_cache = Tuner(Toy().pipeline, **many).run(1.0, max_trials=10)
    without = Tuner(Toy().pipeline, **many, cache=None).run(1.0, max_trials=10)

    assert sum(trial.user_attrs["memoized"][0] for trial in with_cache.trials) == 5
    assert len({trial.params["prep.x"] for trial in without.trials}) == 10


def test_a_warm_up_shares_prefixes_with_trials_that_are_not_among_the_best():
    tuner = Tuner(Toy().pipeline, budget=1e3, n_initial=10, top_q=1, seed=0)
    study = tuner.run(1.0, max_trials=10)

    assert sum(trial.user_attrs["memoized"][0] for trial in study.trials) == 5
    assert set(tuner.cache) == set(study.best_trial.user_attrs["stage_keys"][:2])


# --- the budget


def test_the_trial_that_crosses_the_budget_is_finished_and_the_last():
    toy = Toy()
    budget = 3.2 * ALL_COST
    tuner = Tuner(toy.pipeline, budget=budget, method="random", cache=None)
    study = tuner.run(1.0)

    assert len(study.trials) == 4
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)
    assert tuner.spent == 4 * ALL_COST
    assert tuner.remaining == 0.0


def test_a_budget_met_exactly_is_spent():
    tuner = Tuner(Toy().pipeline, budget=2 * ALL_COST, method="random", cache=None)

    assert len(tuner.run(1.0).trials) == 2


def test_a_spent_budget_runs_nothing_and_a_larger_one_goes_on():
    storage = optuna.storages.InMemoryStorage()
    toy = Toy()

    def tuner(budget):
        return Tuner(toy.pipeline, budget=budget, method="random", cache=None, storage=storage)

    assert len(tuner(2 * ALL_COST).run(1.0).trials) == 2
    assert len(tuner(2 * ALL_COST).run(1.0).trials) == 2
    assert len(tuner(3 * ALL_COST).run(1.0).trials) == 3


def test_warm_up_and_failures_are_paid_for():
    def fail_in_fit(name, params):
        if name == "fit" and params["y"] > 0.5:
            raise RuntimeError

    tuner = Tuner(Toy(fail_in_fit).pipeline, budget=100.0, method="random", cache=None)
    tuner.enqueue(config(y=0.9))
    tuner.enqueue(config(y=0.1))
    tuner.run(1.0, max_trials=2)

    assert tuner.spent == (PREP_COST + FIT_COST) + ALL_COST


# --- enqueueing


def test_enqueued_configurations_run_first_and_as_given():
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
    first, second = config(x=0.123456789, k=3), config(y=1.0, loss="absolute")
    tuner.enqueue(first)
    tuner.enqueue(second)
    study = tuner.run(1.0, max_trials=3)

    assert [trial.params for trial in study.trials[:2]] == [first, second]


def test_enqueued_configurations_count_as_warm_up():
    def second_params(enqueued):
        tuner = Tuner(Toy().pipeline, budget=1e3, n_initial=2, seed=0)
        for params in enqueued:
            tuner.enqueue(params)
        tuner.run(1.0, max_trials=len(enqueued))
        return tuner.run(1.0, max_trials=1).trials[-1].params

    # With two enqueued the warm-up is over: what follows depends on how they went.
    some = second_params([config(x=0.0, y=0.1), config(x=0.9, y=0.9)])
    other = second_params([config(x=0.9, y=0.1), config(x=0.1, y=0.9, loss="absolute")])
    assert some != other
    # With one it is not: the next is the design's second point, whatever the first gave.
    assert second_params([config(x=0.0)]) == second_params([config(x=0.9)])


def test_a_script_that_enqueues_again_changes_nothing():
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")
    for _ in range(2):
        tuner.enqueue(config())
        tuner.run(1.0, max_trials=1)

    assert [trial.params == config() for trial in tuner.study.trials] == [True, False]


def test_enqueueing_outside_of_the_space_is_refused():
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random")

    with pytest.raises(eeipu.SpaceError, match=r"prep\.x.*1\.5"):
        tuner.enqueue(config(x=1.5))
    assert tuner.study.trials == []


# --- methods


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
@pytest.mark.parametrize("method", sorted(n for n, m in METHODS.items() if not m.needs_finite))
def test_every_method_runs_with_and_without_a_cache(method, use_cache):
    toy = Toy()
    cache = StageCache() if use_cache else None
    tuner = Tuner(toy.pipeline, budget=1e3, method=method, n_initial=3, cache=cache, seed=1)
    study = tuner.run(1.0, max_trials=5)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 5
    reused = sum(trial.user_attrs["memoized"][0] for trial in study.trials)
    assert toy.counts["prep"] == 5 - reused
    assert use_cache or reused == 0


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_a_grid_runs_every_configuration_once_and_needs_no_budget(use_cache):
    @eeipu.stage(space={"x": Int(1, 3)}, version="1")
    def prep(data, *, x):
        return data + x

    @eeipu.stage(space={"y": Categorical(["a", "b"])}, version="1")
    def fit(data, *, y):
        return data + (y == "b")

    cache = StageCache() if use_cache else None
    tuner = Tuner(Pipeline([prep, fit]), method="grid", cache=cache)
    tuner.enqueue({"prep.x": 2, "fit.y": "a"})
    tuner.run(0.0, max_trials=4)
    study = tuner.run(0.0, max_trials=100)
    assert sorted(t.values[0] for t in study.trials) == [1.0, 2.0, 2.0, 3.0, 3.0, 4.0]
    assert study.trials[0].params == {"prep.x": 2, "fit.y": "a"}
    assert len({tuple(t.params.values()) for t in study.trials}) == 6


def test_a_grid_of_a_continuous_space_is_refused():
    with pytest.raises(SpaceError, match=r"'prep.x' is continuous; use Categorical"):
        Tuner(Toy().pipeline, method="grid")


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_an_optuna_sampler_is_a_method(use_cache):
    toy = Toy()
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=3)
    cache = StageCache() if use_cache else None
    tuner = Tuner(toy.pipeline, budget=1e3, method=sampler, cache=cache)
    tuner.enqueue(config(x=0.5))
    tuner.enqueue(config(x=0.5, y=0.9))
    study = tuner.run(1.0, max_trials=6)

    assert study.sampler is sampler
    assert len(study.trials) == 6
    assert toy.counts["prep"] == (5 if use_cache else 6)


@pytest.mark.parametrize("method", ["eeipu", "random"])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_both_directions(direction, method):
    @stage(space={"a": Float(-1.0, 1.0)}, cost=lambda a: 1.0, version="1")
    def square(*, a):
        return a * a

    cache = StageCache()
    tuner = Tuner(
        Pipeline([square]),
        budget=10.0,
        direction=direction,
        method=method,
        n_initial=4,
        top_q=1,
        cache=cache,
        seed=0,
    )
    study = tuner.run()

    best = (min if direction == "minimize" else max)(trial.value for trial in study.trials)
    assert study.best_value == best
    assert set(cache) == set(study.best_trial.user_attrs["stage_keys"])
    if method == "eeipu":
        assert best == pytest.approx(0.0 if direction == "minimize" else 1.0, abs=0.01)


# --- seeds

SEEDED = """
import json, sys
from eeipu import Float, Pipeline, Tuner, stage

@stage(space={"a": Float(0.0, 1.0)}, cost=lambda a: 1.0 + a)
def first(*, a):
    return a

@stage(space={"b": Float(0.0, 1.0)}, cost=lambda b: 0.1)
def second(x, *, b):
    return -((x - 0.3) ** 2) - (b - 0.6) ** 2

def trials(seed):
    tuner = Tuner(Pipeline([first, second]), budget=100.0, n_initial=3, seed=seed)
    study = tuner.run(max_trials=6, progress=False)
    return [[trial.params, trial.value] for trial in study.trials]

if __name__ == "__main__":
    print(json.dumps(trials(int(sys.argv[1]))))
"""


def test_a_seed_repeats_a_run_in_this_process_and_in_another(tmp_path, monkeypatch):
    script = tmp_path / "seeded_example.py"
    script.write_text(SEEDED)
    monkeypatch.syspath_prepend(tmp_path)
    from seeded_example import trials

    seven = trials(7)
    assert trials(7) == seven
    assert trials(8) != seven
    assert json.loads(run_script(script, 7)) == seven


# --- going on after the process has died

KILLED = """
import json, os, sys, time
from pathlib import Path
from eeipu import Float, Pipeline, StageCache, Tuner, stage

folder = Path(sys.argv[1])

def note(name):
    with (folder / "calls.txt").open("a") as file:
        file.write(name + "\\n")

@stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 4.0)
def prep(data, *, x):
    note(f"prep {x}")
    return data + x

@stage(space={"y": Float(0.0, 1.0)}, cost=lambda y: 2.0)
def fit(data, *, y):
    note(f"fit {y}")
    if y == 0.625 and not (folder / "stuck").exists():
        (folder / "stuck").touch()
        time.sleep(300)
    return -data * y

tuner = Tuner(
    Pipeline([prep, fit]),
    budget=30.0,
    method="random",
    cache=StageCache(folder / "cache"),
    storage=f"sqlite:///{folder}/tune.db",
    study_name="killed",
    seed=0,
)
tuner.enqueue({"prep.x": 0.5, "fit.y": 0.5})
tuner.enqueue({"prep.x": 0.25, "fit.y": 0.25})
tuner.enqueue({"prep.x": 0.125, "fit.y": 0.625})
tuner.run(1.0)
print(json.dumps({"spent": tuner.spent, "remaining": tuner.remaining}))
"""


@pytest.mark.slow
def test_sigkill_loses_no_finished_trial_and_runs_none_twice(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    storage = f"sqlite:///{tmp_path}/tune.db"
    first = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if (tmp_path / "stuck").exists():
                break
            assert first.poll() is None
            time.sleep(0.1)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=30)
    before = optuna.load_study(study_name="killed", storage=storage).trials
    calls_before = (tmp_path / "calls.txt").read_text().splitlines()
    assert calls_before == [
        "prep 0.5",
        "fit 0.5",
        "prep 0.25",
        "fit 0.25",
        "prep 0.125",
        "fit 0.625",
    ]
    assert [trial.state.name for trial in before] == ["COMPLETE", "COMPLETE", "RUNNING"]

    account = json.loads(run_script(script, tmp_path))

    after = optuna.load_study(study_name="killed", storage=storage).trials
    assert [trial.value for trial in after[:2]] == [trial.value for trial in before[:2]]
    assert [trial.state.name for trial in after[:4]] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    # The interrupted configuration is the first to run again, from the outputs that are there.
    assert after[3].params == after[2].params == {"prep.x": 0.125, "fit.y": 0.625}
    assert after[3].user_attrs["memoized"] == [True, False]
    assert after[3].user_attrs["stage_costs"] == [None, 2.0]
    # What the dead process had spent on it stays on the account; nothing is paid twice.
    assert after[2].user_attrs["stage_costs"] == [4.0, None]
    assert [trial.user_attrs["charged"] for trial in after[:4]] == [6.0, 6.0, 4.0, 2.0]
    assert account["spent"] == sum(trial.user_attrs["charged"] for trial in after) >= 30.0
    assert account["remaining"] == 0.0
    # Every stage call ran once, but for the one that was cut off.
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert calls[: len(calls_before)] == calls_before
    assert sorted(set(calls)) == sorted([*calls[:5], *calls[6:]])
    assert calls.count("fit 0.625") == 2
    params = [trial.params for trial in after if trial.state.name == "COMPLETE"]
    assert len({tuple(each.values()) for each in params}) == len(params) >= 5


def test_a_script_that_ends_and_runs_again_goes_on(tmp_path):
    toy = Toy()

    def tuner():
        return Tuner(
            toy.pipeline,
            budget=100.0,
            method="random",
            cache=StageCache(tmp_path / "cache"),
            storage=f"sqlite:///{tmp_path}/tune.db",
            seed=3,
        )

    tuner().run(1.0, max_trials=2)
    spent = tuner().spent
    study = tuner().run(1.0, max_trials=2)

    assert spent == sum(trial.user_attrs["charged"] for trial in study.trials[:2])
    assert len(study.trials) == 4
    uninterrupted = Tuner(Toy().pipeline, budget=100.0, method="random", seed=3)
    assert [t.params for t in uninterrupted.run(1.0, max_trials=4).trials] == [
        t.params for t in study.trials
    ]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"a": Float(0.0, 2.0)}, r"space of stage 'only'.*2\.0"),
        ({"b": Float(0.0, 1.0)}, r"space of stage 'only'.*\"b\""),
        ({"a": Float(0.0, 2.0)}, r"is .\"a\": FloatDistribution.high=1\.0"),
    ],
)
def test_a_study_of_another_space_is_refused(other, difference):
    storage = optuna.storages.InMemoryStorage()
    Tuner(
        Pipeline.declare({"only": {"a": Float(0.0, 1.0)}}),
        budget=1.0,
        storage=storage,
        study_name="s",
    )

    with pytest.raises(eeipu.StudyMismatchError, match=difference):
        Tuner(Pipeline.declare({"only": other}), budget=1.0, storage=storage, study_name="s")


def test_a_study_of_other_stages_is_refused():
    storage = optuna.storages.InMemoryStorage()
    a, b = {"a": Float(0.0, 1.0)}, {"b": Float(0.0, 1.0)}
    Tuner(Pipeline.declare({"one": a, "two": b}), budget=1.0, storage=storage, study_name="s")

    for other in ({"one": a}, {"one": a, "three": b}, {"two": b, "one": a}):
        with pytest.raises(eeipu.StudyMismatchError, match=r"its stages are \['one', 'two'\]"):
            Tuner(Pipeline.declare(other), budget=1.0, storage=storage, study_name="s")


def test_a_study_of_the_other_direction_is_refused():
    storage = optuna.storages.InMemoryStorage()
    pipeline = Toy().pipeline
    Tuner(pipeline, budget=1.0, storage=storage)

    with pytest.raises(eeipu.StudyMismatchError, match=r"direction 'maximize'.*'minimize'"):
        Tuner(pipeline, budget=1.0, storage=storage, direction="minimize")


# --- stages that fail


def failing(how):
    @stage(space={"a": Float(0.0, 1.0)}, cost=lambda a: 2.0, version="1")
    def first(*, a):
        return a

    @stage(space={"b": Float(0.0, 1.0)}, cost=lambda b: 1.0, version="1")
    def second(x, *, b):
        return how(b)

    return Pipeline([first, second])


def divide(b):
    return 1.0 / 0.0 if b > 0.5 else b


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (divide, "ZeroDivisionError"),
        (lambda b: float("nan"), "must be finite"),
        (lambda b: float("inf"), "must be finite"),
        (lambda b: "0.7", "must return a number"),
        (lambda b: None, "must return a number"),
        (lambda b: {"f1": 0.7}, "name one of them"),
    ],
    ids=["raises", "nan", "inf", "str", "None", "dict without an objective"],
)
def test_a_stage_that_fails_makes_a_failed_trial_with_its_cost_and_traceback(how, words):
    tuner = Tuner(failing(how), budget=100.0, method="random")
    tuner.enqueue({"first.a": 0.5, "second.b": 0.75})
    (trial,) = tuner.run(max_trials=1).trials

    assert trial.state.name == "FAIL"
    assert trial.value is None
    assert trial.user_attrs["stage_costs"] == [2.0, 1.0]
    assert trial.user_attrs["memoized"] == [False, False]
    assert trial.user_attrs["charged"] == tuner.spent == 3.0
    assert trial.user_attrs["failed_stage"] == "second"
    assert trial.user_attrs["error"].startswith("Traceback")
    assert words in trial.user_attrs["error"]


def test_a_failure_leaves_later_stages_unexecuted():
    def fail(name, params):
        if name == "prep":
            raise ValueError("no data")

    toy = Toy(fail)
    (trial,) = Tuner(toy.pipeline, budget=100.0).run(1.0, max_trials=1).trials

    assert toy.counts == {"prep": 1}
    assert trial.user_attrs["stage_costs"] == [PREP_COST, None, None]
    assert trial.user_attrs["memoized"] == [False, False, False]
    assert trial.user_attrs["charged"] == PREP_COST
    assert "ValueError: no data" in trial.user_attrs["error"]


@pytest.mark.parametrize("method", ["eeipu", "random"])
def test_the_study_goes_on_after_failures(method):
    tuner = Tuner(failing(divide), budget=30.0, method=method, n_initial=4, seed=0)
    states = {trial.state.name for trial in tuner.run().trials}

    assert states == {"COMPLETE", "FAIL"}
    assert tuner.study.best_trial.params["second.b"] <= 0.5
    assert tuner.spent >= 30.0


def test_ten_failures_in_a_row_stop_the_run_and_say_so(caplog):
    tuner = Tuner(failing(lambda b: 1.0 / 0.0), budget=1e3, method="random")
    study = tuner.run()

    assert len(study.trials) == 10
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "10 trials in a row have failed" in record.message
    assert "'second'" in record.message
    assert "ZeroDivisionError" in record.message


def test_a_success_between_failures_keeps_the_run_going():
    tuner = Tuner(failing(divide), budget=1e3, method="random")
    for i in range(24):
        tuner.enqueue({"first.a": i / 24, "second.b": 0.25 if i % 8 == 7 else 0.75})
    states = [trial.state.name for trial in tuner.run(max_trials=24).trials]

    assert states == (["FAIL"] * 7 + ["COMPLETE"]) * 3


# --- the end of a finite space


def finite(calls):
    @stage(space={"a": Int(1, 2)}, cost=lambda a: 1.0, version="1")
    def first(*, a):
        return a

    @stage(space={"b": Categorical(["u", "v", "w"])}, cost=lambda b: 1.0, version="1")
    def second(x, *, b):
        calls.append((x, b))
        return x + "uvw".index(b)

    return Pipeline([first, second])


@pytest.mark.parametrize("method", ["eeipu", "ei", "random"])
def test_an_exhausted_space_stops_the_run_and_says_so(method, caplog):
    calls = []
    tuner = Tuner(finite(calls), budget=1e3, method=method, n_initial=3, seed=0)
    study = tuner.run()

    assert len(calls) == len(set(calls)) == 6
    assert len(study.trials) == 6
    assert study.best_params == {"first.a": 2, "second.b": "w"}
    assert "all 6 configurations" in caplog.text
    assert "widen the space" in caplog.text


def test_ask_says_that_the_space_is_exhausted():
    pipeline = Pipeline.declare({"only": {"a": Categorical(["u", "v"])}})
    tuner = Tuner(pipeline, budget=10.0, n_initial=1)
    first, second = tuner.ask(), tuner.ask()

    assert {first.params["only.a"], second.params["only.a"]} == {"u", "v"}
    with pytest.raises(eeipu.SpaceExhausted, match="all 2 configurations"):
        tuner.ask()
    assert len(tuner.study.trials) == 2


# --- callbacks


def test_callbacks_get_the_study_and_every_ended_trial():
    seen = []
    tuner = Tuner(
        failing(divide),
        budget=100.0,
        method="random",
        callbacks=[lambda study, trial: seen.append((study, trial.number, trial.state.name))],
    )
    tuner.enqueue({"first.a": 0.5, "second.b": 0.25})
    tuner.enqueue({"first.a": 0.5, "second.b": 0.75})
    study = tuner.run(max_trials=2)

    assert seen == [(study, 0, "COMPLETE"), (study, 1, "FAIL")]


def test_optunas_callbacks_can_stop_the_run():
    tuner = Tuner(
        Toy().pipeline,
        budget=1e3,
        method="random",
        callbacks=[optuna.study.MaxTrialsCallback(3)],
    )

    assert len(tuner.run(1.0).trials) == 3


# --- the plain Optuna sampler


def test_eeipu_sampler_serves_a_plain_optuna_study():
    toy = Toy()
    pipeline, cache = toy.pipeline, StageCache()
    sampler = eeipu.EEIPUSampler(pipeline, budget=60.0, cache=cache, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: pipeline.run(trial, 1.0, cache=cache).value, n_trials=14)

    assert all(trial.state.name == "COMPLETE" for trial in study.trials)
    for costs, memoized, charged in accounts(study):
        assert [cost is None for cost in costs] == memoized
        assert charged == sum(cost for cost in costs if cost is not None)
    reused = sum(memoized[0] for _, memoized, _ in accounts(study))
    assert reused > 0
    assert toy.counts["prep"] == 14 - reused


def test_a_failing_stage_fails_a_plain_optuna_trial():
    pipeline = failing(divide)
    study = optuna.create_study(sampler=eeipu.EEIPUSampler(pipeline, budget=10.0, seed=0))
    study.enqueue_trial({"first.a": 0.5, "second.b": 0.75})
    study.optimize(lambda trial: pipeline.run(trial).value, n_trials=1)

    (trial,) = study.trials
    assert trial.state.name == "FAIL"
    assert "ZeroDivisionError" in trial.user_attrs["error"]


# --- bad arguments, told before anything runs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"budget": 0}, r"budget.*positive.*0"),
        ({"budget": -1.0}, r"budget.*positive.*-1\.0"),
        ({"budget": float("nan")}, r"budget.*positive.*nan"),
        ({"direction": "max"}, r"\"maximize\" or \"minimize\".*'max'"),
        ({"method": "bayes"}, r"no method 'bayes'.*'eeipu'"),
        ({"top_q": 0}, r"top_q.*whole number >= 1.*0"),
        ({"n_initial": 2.5}, r"n_initial.*whole number >= 1.*2\.5"),
        ({"cache": "cache/"}, r"StageCache\(.*'cache/'|'cache/'.*StageCache\("),
        ({"storage": "tune.db"}, r"sqlite:///tune\.db.*'tune\.db'"),
        ({"max_parallel": 0}, r"max_parallel.*whole number >= 1.*0"),
        ({"executor": "cluster"}, r"executor.*\"processes\".*'cluster'"),
        ({"callbacks": print}, r"callbacks must be a list.*print"),
        ({"callbacks": [1]}, r"callbacks must be a list.*\[1\]"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_named_with_a_remedy(arguments, words):
    with pytest.raises(eeipu.ConfigurationError, match=words):
        Tuner(Toy().pipeline, **{"budget": 1.0, **arguments})


@pytest.mark.parametrize("max_trials", [-1, 1.5, "3"])
def test_max_trials_is_a_whole_number(max_trials):
    toy = Toy()

    with pytest.raises(eeipu.ConfigurationError, match=f"max_trials.*{max_trials}"):
        Tuner(toy.pipeline, budget=1.0).run(1.0, max_trials=max_trials)
    assert toy.calls == []


def test_errors_of_arguments_are_value_errors():
    with pytest.raises(ValueError, match="budget"):
        Tuner(Toy().pipeline, budget=-1.0)


def test_a_list_of_stages_is_not_a_pipeline():
    with pytest.raises(eeipu.PipelineError, match=r"Pipeline\(\[\.\.\.\]\)"):
        Tuner(list(Toy().pipeline.stages), budget=1.0)


def test_a_pipeline_without_a_space_has_nothing_to_tune():
    @stage
    def constant():
        return 1.0

    with pytest.raises(eeipu.PipelineError, match="nothing to tune"):
        Tuner(Pipeline([constant]), budget=1.0)


def test_wrong_inputs_are_told_before_anything_runs():
    toy = Toy()
    tuner = Tuner(toy.pipeline, budget=1.0)

    with pytest.raises(eeipu.PipelineError, match=r"\['data'\].*2"):
        tuner.run(1.0, 2.0)
    assert toy.calls == []
    assert tuner.study.trials == []


def test_a_declared_pipeline_cannot_be_run():
    tuner = Tuner(Pipeline.declare({"only": {"a": Float(0.0, 1.0)}}), budget=1.0)

    with pytest.raises(eeipu.PipelineError, match=r"Tuner\.ask"):
        tuner.run()
