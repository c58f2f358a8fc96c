"""Ask and tell, where the caller runs the stages."""

import json
import math
import signal
import subprocess
import sys

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from optuna.exceptions import StorageInternalError
from toys import FIT_COST, PREP_COST, SCORE_COST, Toy, accounts, config, declared

from eeipu import (
    Categorical,
    ConfigurationError,
    EEIPUSampler,
    Float,
    Int,
    Pipeline,
    PipelineError,
    SpaceExhausted,
    StageCache,
    Suggestion,
    Tuner,
    stage,
)
from eeipu.errors import StorageError


def asking(pipeline=None, **arguments):
    pipeline = declared() if pipeline is None else pipeline
    return Tuner(pipeline, **{"budget": 100.0, "method": "random", "seed": 0, **arguments})


def told(tuner, params, value, **arguments):
    """Have a configuration asked for and told."""
    tuner.enqueue(params)
    suggestion = tuner.ask()
    assert suggestion.params == params
    tuner.tell(suggestion, value, **arguments)
    return suggestion


# --- what a suggestion says


def test_a_suggestion_is_a_configuration_of_the_declared_space():
    suggestion = asking().ask()

    assert suggestion.number == 0
    assert list(suggestion.params) == ["prep.x", "fit.y"]
    assert all(0.0 <= value <= 1.0 for value in suggestion.params.values())
    assert suggestion.memoized == (False, False, False)


def test_suggestions_that_run_at_the_same_time_differ():
    tuner = asking(Pipeline.declare({"only": {"a": Int(1, 5)}}))

    assert {tuner.ask().params["only.a"] for _ in range(5)} == {1, 2, 3, 4, 5}


def test_what_a_good_trial_computed_is_counted_on():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0, stage_costs=[4.0, 2.0, 1.0])

    for params, expected in [
        ({"prep.x": 0.5, "fit.y": 0.25}, (True, False, False)),
        ({"prep.x": 0.25, "fit.y": 0.5}, (False, False, False)),
    ]:
        tuner.enqueue(params)
        assert tuner.ask().memoized == expected


def test_what_a_displaced_trial_computed_is_not_counted_on():
    tuner = asking(top_q=1)
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0, stage_costs=[4.0, 2.0, 1.0])
    told(tuner, {"prep.x": 0.75, "fit.y": 0.5}, 2.0, stage_costs=[4.0, 2.0, 1.0])

    tuner.enqueue({"prep.x": 0.5, "fit.y": 0.25})
    tuner.enqueue({"prep.x": 0.75, "fit.y": 0.25})
    assert [tuner.ask().memoized[0] for _ in range(2)] == [False, True]


def test_what_a_failed_trial_computed_is_not_counted_on():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, failed=True, value=None, stage_costs=[4.0, 2, None])

    tuner.enqueue({"prep.x": 0.5, "fit.y": 0.25})
    assert tuner.ask().memoized == (False, False, False)


def test_without_a_cache_nothing_is_counted_on():
    tuner = asking(cache=None)
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0, stage_costs=[4.0, 2.0, 1.0])

    tuner.enqueue({"prep.x": 0.5, "fit.y": 0.25})
    assert tuner.ask().memoized == (False, False, False)


def test_a_stage_that_is_not_memoized_is_not_counted_on():
    tuner = asking(Toy().pipeline)  # its last stage may not be memoized
    told(tuner, config(k=1), 1.0)

    tuner.enqueue(config(k=2))
    assert tuner.ask().memoized == (True, True, False)


def test_eeipu_suggests_prefixes_that_are_kept():
    tuner = asking(method="eeipu", n_initial=3)
    free = []
    for _ in range(7):
        suggestion = tuner.ask()
        x, y = suggestion.params.values()
        costs = [
            None if reused else cost
            for reused, cost in zip(suggestion.memoized, [4.0, 1.0, 1.0], strict=True)
        ]
        tuner.tell(suggestion, -((x - 0.5) ** 2) - (y - 0.5) ** 2, stage_costs=costs)
        free.append(suggestion.memoized[0])

    assert free[:3] == [False] * 3
    assert any(free)


# --- what is recorded


def test_a_told_trial_carries_its_account():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0, stage_costs=[4.0, 2.0, 1.0])
    told(tuner, {"prep.x": 0.5, "fit.y": 0.25}, 2.0, stage_costs=[None, 2.0, 1.0])

    assert accounts(tuner.study) == [
        ([4.0, 2.0, 1.0], [False, False, False], 7.0),
        ([None, 2.0, 1.0], [True, False, False], 3.0),
    ]
    assert [trial.value for trial in tuner.study.trials] == [1.0, 2.0]
    assert tuner.spent == 10.0
    assert tuner.remaining == 90.0


def test_a_failure_is_told_with_what_it_reached():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, None, failed=True, stage_costs=[None, 2.0, None])

    (trial,) = tuner.study.trials
    assert trial.state.name == "FAIL"
    assert accounts(tuner.study) == [([None, 2.0, None], [True, False, False], 2.0)]
    assert trial.user_attrs["failed_stage"] == "fit"
    assert trial.user_attrs["error"] == "told as failed"


def test_a_failure_of_the_first_stage_is_told_with_what_it_cost():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, None, failed=True, stage_costs=[4.0, None, None])

    assert accounts(tuner.study) == [([4.0, None, None], [False, False, False], 4.0)]
    assert tuner.study.trials[0].user_attrs["failed_stage"] == "prep"


def test_a_failure_before_any_stage_costs_nothing():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, None, failed=True, stage_costs=[None] * 3)

    assert accounts(tuner.study) == [([None] * 3, [False] * 3, 0.0)]
    assert "failed_stage" not in tuner.study.trials[0].user_attrs


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_failure(value):
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, value, stage_costs=[4.0, 2.0, 1.0])

    (trial,) = tuner.study.trials
    assert trial.state.name == "FAIL"
    assert trial.user_attrs["charged"] == 7.0
    assert str(value) in trial.user_attrs["error"]


def test_a_value_beside_failed_is_dropped():
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0, failed=True, stage_costs=[4.0, 2.0, 1.0])

    assert tuner.study.trials[0].values is None


def test_declared_costs_are_taken_where_none_are_told():
    tuner = asking(Toy().pipeline)
    told(tuner, config(y=0.5), 1.0)
    told(tuner, config(y=0.25), 2.0)

    assert accounts(tuner.study) == [
        ([PREP_COST, FIT_COST, SCORE_COST], [False] * 3, PREP_COST + FIT_COST + SCORE_COST),
        ([None, FIT_COST, SCORE_COST], [True, False, False], FIT_COST + SCORE_COST),
    ]


def test_the_time_since_ask_is_charged_where_no_costs_are_known():
    tuner = asking()
    for y in (0.5, 0.25):
        told(tuner, {"prep.x": 0.5, "fit.y": y}, 1.0)

    first, second = accounts(tuner.study)
    assert first[:2] == ([None] * 3, [False] * 3)
    assert second[:2] == ([None] * 3, [True, False, False])
    started = [trial.datetime_start for trial in tuner.study.trials]
    ended = [trial.datetime_complete for trial in tuner.study.trials]
    for (_, _, charged), start, end in zip((first, second), started, ended, strict=True):
        assert 0.0 < charged <= (end - start).total_seconds()


@pytest.mark.parametrize("costs", [(4, 2, 1), np.array([4.0, 2.0, 1.0]), [np.float32(4), 2, 1]])
def test_costs_may_be_any_numbers(costs):
    tuner = asking()
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, np.float32(0.5), stage_costs=costs)

    assert accounts(tuner.study) == [([4.0, 2.0, 1.0], [False] * 3, 7.0)]
    assert tuner.study.best_value == 0.5


def test_callbacks_hear_of_told_trials():
    seen = []
    tuner = asking(callbacks=[lambda study, trial: seen.append(trial.value)])
    told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0)

    assert seen == [1.0]


# --- what cannot be told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "neither a value nor failed=True"),
        ({"value": "high"}, "must be a number.*'high'"),
        ({"value": 1.0, "stage_costs": [1.0]}, r"\['prep', 'fit', 'score'\].*\[1\.0\]"),
        ({"value": 1.0, "stage_costs": {"a": 1, "b": 2, "c": 3}}, "must be a list.*'a'"),
        ({"value": 1.0, "stage_costs": [1.0, -2.0, 1.0]}, "'fit'.*not negative.*-2"),
        ({"value": 1.0, "stage_costs": [math.nan, 1.0, 1.0]}, "'prep'.*None.*nan"),
        ({"value": 1.0, "stage_costs": [1.0, 1.0, math.inf]}, "'score'.*finite.*inf"),
        ({"value": 1.0, "stage_costs": ["1", 1.0, 1.0]}, "'prep'.*'1'"),
    ],
    ids=str,
)
def test_a_wrong_report_is_refused_and_can_be_made_again(arguments, words):
    tuner = asking()
    suggestion = tuner.ask()

    with pytest.raises(ConfigurationError, match=words):
        tuner.tell(suggestion, **arguments)
    assert tuner.study.trials[0].state.name == "RUNNING"
    assert tuner.spent == 0.0
    tuner.tell(suggestion, 1.0, stage_costs=[1.0, 1.0, 1.0])
    assert tuner.spent == 3.0


@pytest.mark.parametrize("again", [{"value": 2.0}, {"failed": True}])
def test_telling_twice_is_refused_and_changes_nothing(again):
    tuner = asking()
    suggestion = told(tuner, {"prep.x": 0.5, "fit.y": 0.5}, 1.0, stage_costs=[4.0, 2.0, 1.0])

    with pytest.raises(ConfigurationError, match="told already"):
        tuner.tell(suggestion, stage_costs=[9.0, 9.0, 9.0], **again)
    assert tuner.study.best_value == 1.0
    assert tuner.spent == 7.0


def test_telling_what_another_tuner_has_told_is_refused():
    storage = optuna.storages.InMemoryStorage()
    tuner, other = asking(storage=storage), asking(storage=storage)
    suggestion = tuner.ask()
    other.tell(suggestion, 1.0, stage_costs=[4.0, 2.0, 1.0])

    with pytest.raises(ConfigurationError, match="told already"):
        tuner.tell(suggestion, 2.0)
    assert tuner.study.best_value == 1.0


def test_another_studys_suggestion_is_refused():
    suggestion = asking(seed=1).ask()
    tuner = asking(seed=2)
    tuner.ask()  # the same number, but another configuration

    with pytest.raises(ConfigurationError, match="another study"):
        tuner.tell(suggestion, 1.0)
    assert tuner.study.trials[0].state.name == "RUNNING"


def test_code_that_cannot_be_fingerprinted_is_told_before_a_trial_begins():
    namespace = {}
    exec("def made(*, a): return a", namespace)
    tuner = asking(Pipeline([stage(space={"a": Float(0.0, 1.0)})(namespace["made"])]))

    for call in (tuner.ask, tuner.run):
        with pytest.raises(PipelineError, match="version"):
            call()
    assert tuner.study.trials == []


# --- across processes

ASKING = """
import json, sys
from dataclasses import asdict
from eeipu import Float, Pipeline, Tuner

spaces = {"prep": {"x": Float(0.0, 1.0)}, "fit": {"y": Float(0.0, 1.0)}, "score": {}}
tuner = Tuner(Pipeline.declare(spaces), budget=100.0, method="random", storage=sys.argv[1])
told = tuner.ask()
tuner.tell(told, 1.0, stage_costs=[4.0, 2.0, 1.0])
tuner.enqueue({"prep.x": told.params["prep.x"], "fit.y": 0.125})
print(json.dumps(asdict(tuner.ask())))
"""


def test_what_one_process_asked_another_can_tell(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    done = subprocess.run(
        [sys.executable, "-c", ASKING, url], stdout=subprocess.PIPE, timeout=120, check=True
    )
    asked = json.loads(done.stdout)
    suggestion = Suggestion(asked["number"], asked["params"], tuple(asked["memoized"]))
    tuner = asking(storage=url)

    assert suggestion.memoized == (True, False, False)
    assert tuner.spent == 7.0
    tuner.tell(suggestion, 2.0, stage_costs=[None, 2.0, 1.0])
    assert tuner.spent == 10.0
    assert tuner.study.best_params == suggestion.params
    with pytest.raises(ConfigurationError, match="told already"):
        tuner.tell(suggestion, 2.0)
    tuner.enqueue({**suggestion.params, "fit.y": 0.75})
    assert tuner.ask().memoized == (True, False, False)


# --- the tuner itself


def test_a_tuner_says_what_it_is():
    assert repr(asking()) == (
        "Tuner(Pipeline('prep -> fit -> score', 2 hyper-parameters), "
        "study 'prep -> fit -> score', spent 0 of 100)"
    )


def test_the_search_has_the_tuners_own_budget():
    tuner = asking(method="eeipu", budget=60)

    assert tuner.study.sampler.budget is tuner._budget
    assert tuner.budget == tuner.remaining == 60.0


def test_a_sampler_of_the_users_own_is_told_what_is_kept():
    pipeline, cache = Toy().pipeline, StageCache()
    sampler = EEIPUSampler(pipeline, budget=100.0, n_initial=2, seed=0)
    tuner = Tuner(pipeline, budget=100.0, method=sampler, cache=cache)
    tuner.run(1.0, max_trials=1)

    assert sampler._kept is cache


def test_numpys_integers_are_counts():
    tuner = asking(Toy().pipeline, top_q=np.int64(2), n_initial=np.int64(3))
    study = tuner.run(1.0, max_trials=np.int64(4))

    assert len(study.trials) == 4
    assert (tuner.top_q, tuner.n_initial) == (2, 3)


# --- any order of asking and telling

SPACE = {"prep": {"x": Int(1, 3)}, "fit": {"y": Categorical(["u", "v", "w"])}, "score": {}}
SIZE = 9
COSTS = [4.0, 2.0, 0.5]
TOP_Q = 2


class AskAndTell(RuleBasedStateMachine):
    """Tuners that come and go on one storage, and a model of what they must have recorded."""

    pending = Bundle("pending")
    ended = Bundle("ended")

    @initialize(direction=st.sampled_from(["maximize", "minimize"]))
    def begin(self, direction):
        self.direction = direction
        self.storage = optuna.storages.InMemoryStorage()
        self.waiting, self.running, self.told = [], {}, {}
        self.restart()

    @rule()
    def restart(self):
        """As if in a new process: nothing but the storage survives."""
        self.tuner = Tuner(
            Pipeline.declare(SPACE),
            budget=1e6,
            direction=self.direction,
            method="random",
            top_q=TOP_Q,
            storage=self.storage,
            study_name="machine",
            seed=0,  # without one, what fails could not be repeated
        )

    @rule(x=st.integers(1, 3), y=st.sampled_from(["u", "v", "w"]))
    def enqueue(self, x, y):
        params = {"prep.x": x, "fit.y": y}
        self.tuner.enqueue(params)
        if params not in [*self.waiting, *self.seen()]:
            self.waiting.append(params)

    @rule(target=pending)
    def ask(self):
        if len(self.seen()) == SIZE:
            with pytest.raises(SpaceExhausted):
                self.tuner.ask()
            return multiple()
        suggestion = self.tuner.ask()
        if self.waiting:
            assert suggestion.params == self.waiting.pop(0)
        assert suggestion.params not in self.seen()
        assert suggestion.memoized == self.memoized(suggestion.params)
        self.running[suggestion.number] = suggestion
        return suggestion

    @rule(suggestion=consumes(pending), value=st.integers(-3, 3), target=ended)
    def tell(self, suggestion, value):
        costs = [
            None if free else cost for cost, free in zip(COSTS, suggestion.memoized, strict=True)
        ]
        self.tuner.tell(suggestion, value, stage_costs=costs)
        return self.end(suggestion, value, costs)

    @rule(suggestion=consumes(pending), reached=st.integers(0, 3), target=ended)
    def tell_failed(self, suggestion, reached):
        costs = [cost if k < reached else None for k, cost in enumerate(COSTS)]
        self.tuner.tell(suggestion, failed=True, stage_costs=costs)
        return self.end(suggestion, None, costs)

    @rule(suggestion=ended)
    def tell_again(self, suggestion):
        with pytest.raises(ConfigurationError):
            self.tuner.tell(suggestion, 100.0)

    def end(self, suggestion, value, costs):
        del self.running[suggestion.number]
        self.told[suggestion.number] = (suggestion, value, costs)
        return suggestion

    def seen(self):
        asked = [*self.running.values(), *(suggestion for suggestion, _, _ in self.told.values())]
        return [suggestion.params for suggestion in asked]

    def memoized(self, params):
        """Which stages the best trials share with a configuration, said without content keys."""
        sign = -1 if self.direction == "maximize" else 1
        good = [(sign * v, number, s) for number, (s, v, _) in self.told.items() if v is not None]
        best = [suggestion.params for _, _, suggestion in sorted(good, key=lambda g: g[:2])[:TOP_Q]]
        x = any(each["prep.x"] == params["prep.x"] for each in best)
        return (x, params in best, params in best)

    @invariant()
    def nothing_is_lost(self):
        trials = self.tuner.study.trials
        states = [trial.state.name for trial in trials]
        assert states.count("WAITING") == len(self.waiting)
        assert states.count("RUNNING") == len(self.running)
        assert len(trials) == len(self.waiting) + len(self.running) + len(self.told)
        for number, suggestion in self.running.items():
            assert trials[number].params == suggestion.params
        for number, (suggestion, value, costs) in self.told.items():
            trial = trials[number]
            assert trial.params == suggestion.params
            assert trial.value == value
            assert trial.state.name == ("FAIL" if value is None else "COMPLETE")
            assert trial.user_attrs["stage_costs"] == costs

    @invariant()
    def the_account_is_right(self):
        charged = sum(cost or 0.0 for _, _, costs in self.told.values() for cost in costs)
        assert self.tuner.spent == charged
        assert self.tuner.remaining == 1e6 - charged


AskAndTell.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAskAndTell = AskAndTell.TestCase


def test_only_a_suggestion_can_be_told():
    with pytest.raises(ConfigurationError, match="a Suggestion, but got 3"):
        Tuner(declared(), budget=10.0).tell(3, 1.0)


def test_a_tuner_knows_whether_ctrl_c_ended_its_run():
    presses = iter([True])

    def press(name, params):
        if next(presses, False):
            signal.raise_signal(signal.SIGINT)

    tuner = Tuner(Toy(press).pipeline, budget=20.0, method="random", seed=0)
    assert not tuner.was_interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.run(0.0, progress=False)
    assert tuner.was_interrupted
    tuner.run(0.0, progress=False)
    assert not tuner.was_interrupted


# --- the best trial's run


def tuned(toy, cache):
    tuner = Tuner(toy.pipeline, budget=1e3, method="random", seed=0, cache=cache)
    for x in (0.5, 0.25, 0.75):
        tuner.enqueue(config(x=x, y=0.75))
    tuner.run(0.0, max_trials=3, progress=False)
    toy.calls.clear()
    return tuner


BEST_OUTPUTS = {"prep": 0.0, "fit": (0.0, 0.0, 0.0), "score": 0.0}


def test_the_best_run_loads_what_is_asked_for_and_runs_nothing():
    toy = Toy()
    run = tuned(toy, StageCache()).best_run(0.0)

    assert (run.value, run.stage_costs) == (0.0, [PREP_COST, FIT_COST, SCORE_COST])
    assert run.charged == PREP_COST + FIT_COST + SCORE_COST
    assert (run.outputs["fit"], run.outputs["prep"]) == ((0.0, 0.0, 0.0), 0.0)
    assert toy.calls == []
    assert run.outputs["score"] == 0.0  # memoize=False
    assert toy.counts == {"score": 1}


@pytest.mark.parametrize("place", ["memory", "directory", None])
def test_the_best_run_makes_outputs_again_that_are_gone(place, tmp_path):
    cache = {"memory": StageCache(), "directory": StageCache(tmp_path), None: None}[place]
    toy = Toy()
    tuner = tuned(toy, cache)
    if cache is not None:
        cache._eviction.drop(set(cache))  # also what the study has pinned
    run = tuner.best_run(0.0)

    assert toy.calls == []
    assert dict(run.outputs) == BEST_OUTPUTS
    assert toy.counts == {"prep": 1, "fit": 1, "score": 1}


def test_the_best_run_of_a_minimisation_has_its_metrics():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(*, a):
        return {"loss": a, "b": 2.0}

    tuner = Tuner(
        Pipeline([only], objective="loss"), budget=1e3, method="random", direction="minimize"
    )
    for a in (0.5, 0.25):
        tuner.enqueue({"only.a": a})
    tuner.run(max_trials=2, progress=False)
    run = tuner.best_run()
    assert (run.value, run.metrics) == (0.25, {"loss": 0.25, "b": 2.0})
    assert run.outputs["only"] == {"loss": 0.25, "b": 2.0}


def test_the_best_run_of_a_trial_that_reused_stages_has_its_account():
    tuner = Tuner(Toy().pipeline, budget=1e3, method="random", seed=0)
    for y in (0.25, 0.75):
        tuner.enqueue(config(y=y))
    study = tuner.run(0.0, max_trials=2, progress=False)
    run, noted = tuner.best_run(0.0), study.best_trial.user_attrs
    assert (run.memoized, run.stage_costs) == ([True, False, False], [None, FIT_COST, SCORE_COST])
    assert (run.charged, run.saved) == (noted["charged"], noted["saved"])
    assert noted["saved"] == PREP_COST


def test_the_best_run_needs_a_trial_with_a_value():
    with pytest.raises(ConfigurationError, match=r"no trial.*has a value yet; call run\(...\)"):
        Tuner(Toy().pipeline, budget=1.0).best_run(0.0)


def test_the_best_run_takes_the_inputs_of_the_pipeline():
    with pytest.raises(PipelineError, match="takes the inputs"):
        Tuner(Toy().pipeline, budget=1.0).best_run()
    with pytest.raises(PipelineError, match=r"Tuner\.ask and Tuner\.tell"):
        asking().best_run()


# --- Ctrl-C in a script

SCRIPT = """
import signal
from eeipu import Float, Pipeline, Tuner, stage

@stage(space={"x": Float(0.0, 1.0)})
def train(*, x):
    signal.raise_signal(signal.SIGINT)
    return x

tuner = Tuner(Pipeline([train]), budget=1e3, method="random")
CALL
print("went on", len(tuner.study.trials))
"""


@pytest.mark.parametrize(
    ("call", "code", "printed"),
    [
        ("tuner.run(progress=False)", 130, ""),
        ("try: tuner.run(progress=False)\nexcept KeyboardInterrupt: pass", 0, "went on 1\n"),
    ],
)
def test_ctrl_c_ends_a_script_unless_it_is_caught(call, code, printed, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("CALL", call))
    command = f"{sys.executable} {tmp_path / 'script.py'}; echo code $?"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{printed}code {code}\n"
    assert "stopped by Ctrl-C" in done.stderr


# --- an overhead


def test_an_overhead_is_charged_to_whoever_asks_even_before_a_value_is_told():
    tuner = Tuner(declared(), budget=100.0, overhead=1.5, method="random", seed=0)
    suggestion = tuner.ask()
    assert tuner.spent == 1.5

    tuner.tell(suggestion, 1.0, stage_costs=[4.0, 2.0, 1.0])
    (trial,) = tuner.study.trials
    assert tuner.spent == 8.5
    assert trial.user_attrs["stage_costs"] == [4.0, 2.0, 1.0]


def test_an_enqueued_configuration_has_no_overhead():
    tuner = Tuner(declared(), budget=100.0, overhead=1.5, method="random", seed=0)
    tuner.enqueue({"prep.x": 0.5, "fit.y": 0.5})
    tuner.tell(tuner.ask(), 1.0, stage_costs=[4.0, 2.0, 1.0])

    assert tuner.spent == 7.0


def test_a_storage_that_fails_is_named_with_the_remedy(monkeypatch):
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random", seed=0)
    suggestion = tuner.ask()

    def fail(*arguments, **keywords):
        raise StorageInternalError("database or disk is full")

    storage = type(tuner.study._storage)
    monkeypatch.setattr(storage, "create_new_trial", fail)
    monkeypatch.setattr(storage, "set_trial_state_values", fail)
    for act in (
        tuner.ask,
        lambda: tuner.tell(suggestion, 1.0),
        lambda: tuner.enqueue(config()),
        lambda: tuner.run(1.0, progress=False),
    ):
        with pytest.raises(StorageError, match=r"disk is full; make room on the disk"):
            act()
