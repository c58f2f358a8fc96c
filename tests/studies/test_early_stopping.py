"""A tuner whose trainings may stop early: its trials, its account, and how it goes on."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from math import fsum
from pathlib import Path

import optuna
import pytest
from trainings import STEPS, noted, pipeline, steps_run

from eeipu import (
    ASHA,
    Categorical,
    Float,
    Hyperband,
    MedianStopping,
    Pipeline,
    PopulationBased,
    StageCache,
    SuccessiveHalving,
    Tuner,
    stage,
)
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.stages.schedules import MultiStep, Piecewise
from eeipu.stages.searchable_schedules import Searchable
from eeipu.studies.drivers.dead_drivers import abandoned_trials

RATES = Categorical([i / 27 for i in range(27)])


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return str(folder)


def tuned(notes, rule, *, trials=27, space=None, method="random", **options):
    tuner = Tuner(pipeline(space), early_stopping=rule, method=method, seed=0, **options)
    return tuner, tuner.run(notes, max_trials=trials, progress=False)


def states(study):
    return Counter(trial.state.name for trial in study.trials)


def steps_reached(study):
    """How many steps all trials have reached, where those with one beginning share it."""
    reached = {}
    for trial in study.trials:
        key = trial.params["prep.dims"], trial.params["train.lr"]
        reached[key] = max(reached.get(key, 0), *trial.intermediate_values)
    return sum(reached.values())


def final(trial):
    """The value that a trial has, or would have, at any step."""
    return trial.params["train.lr"] + trial.params["score.bonus"]


# --- the trials


def test_a_trial_is_its_configuration_and_its_values_are_those_of_its_steps(notes):
    _, study = tuned(notes, ASHA(min_steps=3, reduction=3), trials=30)
    assert len(study.trials) == 30
    assert {step for trial in study.trials for step in trial.intermediate_values} == {3, 9, 27}
    for trial in study.trials:
        assert trial.intermediate_values == pytest.approx(
            dict.fromkeys(trial.intermediate_values, final(trial))
        )
        assert trial.user_attrs["best_value"] == max(trial.intermediate_values.values())
    assert states(study).keys() == {"COMPLETE", "PRUNED"}
    reached = [max(trial.intermediate_values) for trial in study.trials]
    assert [t.state.name == "COMPLETE" for t in study.trials] == [r == STEPS for r in reached]
    assert all(trial.value is not None for trial in study.trials)


@pytest.mark.parametrize("rule", [ASHA(min_steps=9), MedianStopping(every=9)], ids=repr)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_order_of_a_grid_does_not_say_which_trials_are_good(notes, rule, direction):
    space = {"lr": RATES}  # in ascending order, so that each would be the best so far, or the worst
    _, study = tuned(notes, rule, space=space, method="grid", trials=1000, direction=direction)
    assert len(study.trials) == 108
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 108
    assert 15 <= states(study)["COMPLETE"] <= 60


def test_a_trial_that_goes_on_goes_on_from_its_checkpoint(notes):
    space = {"lr": RATES}
    _, study = tuned(notes, ASHA(min_steps=3), space=space, trials=54)
    assert steps_run(notes) == steps_reached(study)


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (ASHA(), {1, 3, 9, 27}),
        (SuccessiveHalving(), {1, 3, 9, 27}),
        (SuccessiveHalving(trials=9, min_steps=3), {3, 9, 27}),
        (Hyperband(min_steps=3), {3, 9, 27}),
        (MedianStopping(every=9), {9, 18, 27}),
        (optuna.pruners.MedianPruner(n_startup_trials=2), set(range(1, 28))),
        (PopulationBased(size=4, every=9), {9, 18, 27}),
        (None, {27}),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_rules_stop_the_worse_trials(notes, rule, steps, direction):
    tuner, study = tuned(notes, rule, direction=direction)
    assert {step for trial in study.trials for step in trial.intermediate_values} == steps
    ended = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert ended
    assert states(study)["PRUNED"] == len(study.trials) - len(ended)
    assert len(study.trials) == (4 if isinstance(rule, PopulationBased) else 27)
    if rule is not None and not isinstance(rule, PopulationBased):
        stopped = [trial for trial in study.trials if trial.state.name == "PRUNED"]
        worth = 1.0 if direction == "maximize" else -1.0
        mean = fsum(worth * final(t) for t in ended) / len(ended)
        assert mean > fsum(worth * final(t) for t in stopped) / len(stopped)
    assert tuner.best_run if isinstance(rule, PopulationBased) else tuner.best_run(notes)


@pytest.mark.parametrize("method", ["eeipu", "grid", "random-grid", "ei"])
def test_methods_choose_the_configurations(notes, method):
    space = {"lr": Categorical([0.1, 0.5, 0.9])}
    _, study = tuned(notes, ASHA(min_steps=9), method=method, space=space, trials=12)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 12


def test_samplers_of_optuna_see_what_paused_trials_have_told(notes):
    seen = []

    class Looking(optuna.samplers.RandomSampler):
        def sample_relative(self, study, trial, search_space):
            seen.append([t.state.name for t in study.get_trials()])
            return super().sample_relative(study, trial, search_space)

    tuned(notes, ASHA(min_steps=3), method=Looking(seed=0), trials=5)
    assert seen[3] == ["PRUNED", "PRUNED", "PRUNED", "RUNNING"]


def test_a_grid_of_schedules_runs_what_is_common_once(notes):
    drops = Searchable(MultiStep, Categorical([0.25, 0.5]), milestones=[Categorical([9, 18])])
    _, study = tuned(notes, None, method="grid", space={"lr": drops}, trials=100)
    assert len(study.trials) == 16
    # Per `dims` and first rate: 18 steps that both share, 9 steps after each of the two drops,
    # and 9 steps from the first drop on to the second.
    assert steps_run(notes) == 2 * 2 * (18 + 9 + 9 + 9)
    assert noted(notes)["prep 1"] == noted(notes)["prep 2"] == 1


def test_a_trial_that_parts_where_an_earlier_one_might_have_begins_there(notes):
    rates = [Categorical([0.25, 0.5])] * 2
    space = {"lr": Searchable(Piecewise, rates, [9])}
    _, study = tuned(notes, SuccessiveHalving(min_steps=27), method="grid", space=space, trials=16)
    assert states(study) == {"COMPLETE": 16}
    # One after another: one that keeps its rate is trained past the place where the next one parts.
    assert steps_run(notes) == 2 * 2 * (9 + 18 + 18)


# --- the account


def test_the_budget_pays_what_was_run_and_each_trial_its_own(notes):
    tuner, study = tuned(notes, ASHA(min_steps=3), trials=20)
    charged = [trial.user_attrs["charged"] for trial in study.trials]
    assert tuner.spent == pytest.approx(fsum(charged))
    assert all(charge > 0 for charge in charged)
    for trial in study.trials:
        costs, memoized = trial.user_attrs["stage_costs"], trial.user_attrs["memoized"]
        assert [cost is None for cost in costs] == memoized
        assert fsum(c for c in costs if c is not None) <= trial.user_attrs["charged"] + 1e-9
        assert len(trial.user_attrs["stage_keys"]) == 3


def test_nothing_goes_on_when_the_budget_is_spent_and_a_larger_one_goes_on(notes, tmp_path):
    space = {"lr": Categorical(["naps"])}
    options = {"storage": f"sqlite:///{tmp_path}/tune.db", "cache": StageCache(tmp_path / "cache")}
    rule = SuccessiveHalving(min_steps=9)
    tuner = Tuner(pipeline(space), budget=0.5, early_stopping=rule, method="grid", **options)
    study = tuner.run(notes, progress=False)
    assert 0.45 < tuner.spent < 2.0
    assert states(study) == {"PRUNED": len(study.trials)}
    assert {max(trial.intermediate_values) for trial in study.trials} == {9}
    more = Tuner(pipeline(space), budget=60.0, early_stopping=rule, method="grid", **options)
    again = more.run(notes, progress=False)
    assert steps_run(notes) == steps_reached(again)  # no step ran twice
    assert states(again)["COMPLETE"] >= 1
    assert {9, 27} in [set(t.intermediate_values) for t in again.trials]


def test_a_configuration_is_recommended_that_was_trained_to_the_end(notes):
    tuner, study = tuned(notes, ASHA(min_steps=9), trials=12)

    found = study.trials[tuner.recommend().number]

    assert found.state.name == "COMPLETE"
    assert states(study)["PRUNED"] > 0


# --- failures


def test_a_stage_that_fails_is_a_failed_trial_and_the_search_goes_on(notes):
    space = {"lr": Categorical(["fails", 0.5, 0.7])}
    _, study = tuned(notes, ASHA(min_steps=9), method="grid", space=space, trials=12)
    failed = [t for t in study.trials if t.params["train.lr"] == "fails"]
    assert [t.state.name for t in failed] == ["FAIL"] * 4
    assert all("diverged" in t.user_attrs["error"] for t in failed)
    assert {t.user_attrs["failed_stage"] for t in failed} == {"train"}
    assert states(study)["FAIL"] == 4


def test_a_stage_that_prunes_is_no_failure(notes):
    space = {"lr": Categorical(["prunes", 0.5])}
    _, study = tuned(notes, ASHA(min_steps=9), method="grid", space=space, trials=8)
    pruned = [t for t in study.trials if t.params["train.lr"] == "prunes"]
    assert [t.state.name for t in pruned] == ["PRUNED"] * 4


def test_an_error_of_programming_ends_the_search_with_the_reason(notes, caplog):
    space = {"lr": Categorical(["misspelt"])}
    _, study = tuned(notes, ASHA(min_steps=9), method="grid", space=space, trials=4)
    assert states(study)["FAIL"] >= 1
    assert len(study.trials) < 4
    assert "other configurations would meet too" in caplog.text


def test_ten_failures_in_a_row_end_the_search(notes, caplog):
    space = {"lr": Categorical(["fails"]), "other": RATES}
    _, study = tuned(notes, ASHA(min_steps=9), space=space, trials=40, max_failures=10)
    assert states(study) == {"FAIL": 10}
    assert "10 trials in a row have failed" in caplog.text


def test_a_dead_worker_is_paid_and_told_apart(notes, tmp_path):
    space = {"lr": Categorical(["kills", 0.5])}
    tuner, study = tuned(
        notes,
        ASHA(min_steps=9),
        method="grid",
        space=space,
        trials=8,
        executor="processes",
        max_parallel=2,
        cache=StageCache(tmp_path / "cache"),
    )
    killed = [t for t in study.trials if t.params["train.lr"] == "kills"]
    assert [t.state.name for t in killed] == ["FAIL"] * 4
    assert "ended its worker" in killed[0].user_attrs["error"]
    assert sum(t.user_attrs["charged"] for t in killed) > 0
    assert sum(t.user_attrs["lost_s"] for t in killed) > 0
    assert {t.user_attrs["lost_s"] for t in study.trials if t not in killed} == {0.0}
    assert tuner.spent == pytest.approx(fsum(t.user_attrs["charged"] for t in study.trials))


# --- going on


SCRIPT = """
import sys
from trainings import pipeline
from eeipu import ASHA, Categorical, StageCache, Tuner

notes, folder = sys.argv[1:]
tuner = Tuner(pipeline({"lr": Categorical(["naps"])}, 27), method="grid",
              early_stopping=ASHA(min_steps=3), storage=f"sqlite:///{folder}/tune.db",
              cache=StageCache(f"{folder}/cache"))
tuner.run(notes, max_trials=4)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on_with_the_same_trials(notes, tmp_path, end):
    command = [sys.executable, "-c", SCRIPT, notes, str(tmp_path)]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=env) as process:
        while steps_run(notes) < 4:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(end)
        process.communicate(timeout=60)
    assert process.returncode == -end  # a shell says 130 after Ctrl-C
    before = steps_run(notes)
    space = {"lr": Categorical(["naps"])}
    tuner = Tuner(
        pipeline(space),
        method="grid",
        early_stopping=ASHA(min_steps=3),
        storage=f"sqlite:///{tmp_path}/tune.db",
        cache=StageCache(tmp_path / "cache"),
    )
    assert {trial.state.name for trial in tuner.study.trials} == {"RUNNING"}
    study = tuner.run(notes, max_trials=4, progress=False)
    assert len(study.trials) == 4
    assert states(study)["RUNNING"] == 0
    # What had no checkpoint yet runs again, and nothing else.
    assert steps_run(notes) - before <= sum(max(t.intermediate_values) for t in study.trials)
    assert steps_run(notes) <= 2 * 3 + 2 * 6 + 2 * 18 + 18


def begin(cache, rule=None, **options):
    return Tuner(
        pipeline({"lr": RATES}),
        early_stopping=ASHA() if rule is None else rule,
        method="eeipu" if rule == "model" else "random",
        cache=cache,
        seed=0,
        **options,
    )


def left(notes, cache, rule=None):
    """A study whose run an error has ended while trials were open, as its storage has it."""

    def stop(study, _):
        if states(as_stored(study))["RUNNING"] >= 3:
            raise RuntimeError("full")

    tuner = begin(cache, rule, callbacks=[stop])
    with pytest.raises(RuntimeError, match="full"):
        tuner.run(notes, max_trials=27, progress=False)
    return as_stored(tuner.study)


def as_stored(study):
    return optuna.load_study(study_name=study.study_name, storage=study._storage)


def goes_on(study, notes, cache, rule=None):
    storage, name = study._storage, study.study_name
    tuner = begin(cache, rule, storage=storage, study_name=name)
    return as_stored(tuner.run(notes, max_trials=9, progress=False))


def test_after_an_error_open_trials_are_left_to_any_process(notes):
    study = left(notes, StageCache())
    running = [t.number for t in study.trials if t.state.name == "RUNNING"]
    assert [t.number for t in abandoned_trials(study)] == running


@pytest.mark.parametrize(
    "rule",
    [
        ASHA(min_steps=3),
        Hyperband(min_steps=3),
        SuccessiveHalving(trials=9, min_steps=3),
        "model",
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_next_run_goes_on_from_the_checkpoints_of_open_trials(notes, rule):
    cache = StageCache()
    study = goes_on(left(notes, cache, rule), notes, cache, rule)
    assert steps_run(notes) == steps_reached(study)


def test_open_trials_that_a_rule_does_not_ask_for_do_not_stay_open(notes):
    cache = StageCache()
    study = goes_on(left(notes, cache), notes, cache, PopulationBased(size=2, every=9))
    assert states(study).keys() == {"COMPLETE", "PRUNED"}


def test_what_earlier_runs_have_paid_stays_told_apart(notes):
    cache = StageCache()
    study = left(notes, cache)
    trials = [t for t in study.trials if t.state.name == "RUNNING"]
    for trial in trials:
        assert trial.user_attrs["charged"] >= trial.user_attrs["load_s"] > 0.0
        attrs = {"charged": trial.user_attrs["charged"] + 4.0, "lost_s": 4.0}
        for name, seconds in attrs.items():
            study._storage.set_trial_user_attr(trial._trial_id, name, seconds)
    study = goes_on(study, notes, cache, optuna.pruners.NopPruner())  # all go on to the end
    for trial in [study.trials[before.number] for before in trials]:
        assert trial.user_attrs["lost_s"] == 4.0
        assert trial.user_attrs["charged"] >= 4.0 + trial.user_attrs["load_s"]


def test_a_trial_that_kills_its_process_three_times_has_failed_and_one_that_waits_has_not(notes):
    cache = StageCache()
    study = left(notes, cache)
    kills, waits, *_ = [t for t in study.trials if t.state.name == "RUNNING"]
    dead = str(replace(ProcessIdentity.here(), pid=2**22 + 1))
    for trial, runs in ((kills, True), (waits, False)):
        attrs = {"driver": dead, "deaths": 2, "runs": runs}
        for name, value in attrs.items():
            study._storage.set_trial_user_attr(trial._trial_id, name, value)
    study = goes_on(study, notes, cache)
    assert "died 3 times in a row" in study.trials[kills.number].user_attrs["error"]
    assert study.trials[waits.number].state.name in {"COMPLETE", "PRUNED"}


def test_deaths_between_which_a_trial_gets_further_are_not_in_a_row(notes):
    cache = StageCache()
    study = left(notes, cache)
    trial = next(t for t in study.trials if t.state.name == "RUNNING")
    dead = str(replace(ProcessIdentity.here(), pid=2**22 + 1))
    for name, value in {"driver": dead, "deaths": 1, "runs": True}.items():
        study._storage.set_trial_user_attr(trial._trial_id, name, value)
    study = goes_on(study, notes, cache, optuna.pruners.NopPruner())  # which trains it further
    after = study.trials[trial.number]
    assert len(after.intermediate_values) > len(trial.intermediate_values)
    assert after.user_attrs["deaths"] == 0


def test_the_same_call_goes_on_in_memory_too(notes):
    tuner = Tuner(pipeline(), early_stopping=ASHA(min_steps=3), method="random", seed=0)
    tuner.run(notes, max_trials=5, progress=False)
    study = tuner.run(notes, max_trials=22, progress=False)
    fresh = [t for t in study.trials if "goes_on_from" not in t.user_attrs]
    assert len(fresh) == 27
    assert states(study)["COMPLETE"] >= 1
    for trial in study.trials:
        if (before := trial.user_attrs.get("goes_on_from")) is not None:
            assert trial.params == study.trials[before].params
            assert study.trials[before].intermediate_values.items() <= (
                trial.intermediate_values.items()
            )


def test_the_outputs_of_the_best_trial_are_those_that_were_made(notes):
    tuner, study = tuned(notes, ASHA(min_steps=3))
    before = noted(notes)
    best = tuner.best_run(notes)
    assert best.outputs["train"]["steps"] == STEPS
    assert best.outputs["score"] == study.best_value
    assert noted(notes) == before


# --- what is refused


@stage(space={"x": Float(0.0, 1.0)}, version="1")
def plain(data, *, x):
    return x


def test_what_does_not_go_together_is_refused_before_work_begins(notes):
    with pytest.raises(ConfigurationError, match="must be a rule such as"):
        Tuner(pipeline(), early_stopping="asha")
    with pytest.raises(ConfigurationError, match="must be a rule such as"):
        Tuner(pipeline(), early_stopping=ASHA)
    with pytest.raises(PipelineError, match="needs a stage that trains in steps"):
        Tuner(Pipeline([plain]), early_stopping=ASHA())
    with pytest.raises(ConfigurationError, match="needs a cache"):
        Tuner(pipeline(), early_stopping=ASHA(), cache=None)
    with pytest.raises(ConfigurationError, match="min_steps must be in 1"):
        Tuner(pipeline(), early_stopping=ASHA(min_steps=28))
    drops = Searchable(MultiStep, Float(0.25, 0.5), milestones=[Categorical([9, 18])])
    with pytest.raises(ConfigurationError, match="no schedules"):
        Tuner(pipeline({"lr": drops}), early_stopping=PopulationBased())


def test_a_study_without_a_trial_that_came_to_its_end_says_what_to_do(notes, caplog):
    tuner, study = tuned(notes, ASHA(min_steps=9), trials=2)
    assert states(study) == {"PRUNED": 2}
    assert "no trial was trained to the end" in caplog.text
    with pytest.raises(ConfigurationError, match="has come to its end yet; call run"):
        tuner.best_run(notes)


def test_members_of_a_population_that_have_ended_are_not_trained_again(notes):
    tuner, study = tuned(notes, PopulationBased(size=4, every=9))
    assert any("schedules" in trial.user_attrs for trial in study.trials)
    values = [trial.value for trial in study.trials]
    again = tuner.run(notes, max_trials=9, progress=False)
    assert [trial.value for trial in again.trials] == values


def test_members_of_a_population_say_what_they_were_trained_with(notes):
    tuner, study = tuned(notes, PopulationBased(size=4, every=9))
    changed = [trial for trial in study.trials if "schedules" in trial.user_attrs]
    assert changed
    for trial in changed:
        schedules = trial.user_attrs["schedules"]
        starts = [start for start, _ in schedules["train"]]
        assert starts[0] == 0
        assert set(starts) <= {0, 9, 18}
        ends = [*starts[1:], STEPS]
        stretches = zip(schedules["train"], ends, strict=True)
        total = fsum((stop - start) * params["lr"] for (start, params), stop in stretches)
        ((_, last),) = schedules["score"]
        assert trial.value == pytest.approx(total / STEPS + last["bonus"])
    if "schedules" in study.best_trial.user_attrs:
        with pytest.raises(ConfigurationError, match="have changed while it was trained"):
            tuner.best_run(notes)
