"""Every method keeps the constraints of a pipeline, whatever it is that it suggests."""

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from eeipu import (
    EEIPUSampler,
    Float,
    Int,
    Pipeline,
    SpaceError,
    SpaceExhausted,
    Tuner,
    stage,
)
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.proposals import unseen
from eeipu.space import suggest

SPACES = {
    "prep": {"x": Float(0.0, 1.0), "k": range(1, 9)},
    "fit": {"y": Float(0.0, 1.0), "kind": ["u", "v", "w"]},
}
KINDS = [
    lambda p: p["prep.x"] + p["fit.y"] <= 1,
    lambda p: np.bool_(p["prep.k"] % 2 == 0),
    lambda p: abs(p["prep.x"] - p["fit.y"]) < 0.01,
    lambda p: p["fit.kind"] != "w" or p["prep.k"] < 4,
    lambda p: 0.4 < p["prep.x"] < 0.402,
]
several = st.sets(st.integers(0, len(KINDS) - 1), min_size=1, max_size=3)
parts = st.sampled_from([{}, {"prep.k": 2}, {"fit.y": 0.4}, {"fit.kind": "v", "prep.x": 0.401}])
few = settings(deadline=None, suppress_health_check=list(HealthCheck))


def value_of(params):
    return params["prep.x"] + params["fit.y"] + 0.1 * params["prep.k"]


def tuner_of(chosen, method, seed, **options):
    pipeline = Pipeline.declare(SPACES, constraints=[KINDS[k] for k in sorted(chosen)])
    return Tuner(pipeline, budget=1e6, method=method, seed=seed, **options)


@pytest.mark.parametrize("method", [n for n, each in METHODS.items() if not each.needs_finite])
@settings(few, max_examples=2)
@given(chosen=several, seed=st.integers(0, 99), part=parts)
def test_suggestions_of_models_are_allowed(method, chosen, seed, part):
    tuner = tuner_of(chosen, method, seed, n_initial=4)
    cube = tuner.pipeline.cube
    for point in tuner.pipeline.feasible.draw(np.random.default_rng(seed), 5):
        params = cube.decode(point)
        tuner.add_trial(params, value_of(params), stage_costs=[2.0, 1.0 + params["fit.y"]])
    if part:
        tuner.enqueue(part)
    suggestions = [tuner.ask() for _ in range(3)]

    assert all(cube.misfit(suggestion.params) is None for suggestion in suggestions)
    assert len({str(suggestion.params) for suggestion in suggestions}) == 3
    assert suggestions[0].params.items() >= part.items()


@pytest.mark.parametrize("method", ["eeipu", "eeipu-paper", "carbo", "random", "random-grid"])
@settings(few, max_examples=3)
@given(chosen=several, seed=st.integers(0, 99), part=parts)
def test_suggestions_of_the_warm_up_are_allowed(method, chosen, seed, part):
    tuner = tuner_of(chosen, method, seed, n_initial=8)
    if part:
        tuner.enqueue(part)
    for number in range(8):
        suggestion = tuner.ask()
        assert tuner.pipeline.cube.misfit(suggestion.params) is None
        assert number or suggestion.params.items() >= part.items()
        tuner.tell(suggestion, value_of(suggestion.params), stage_costs=[2.0, 1.0])
    assert len({str(trial.params) for trial in tuner.study.trials}) == 8


@pytest.mark.parametrize("kinds", [[], [0], [0, 1], [2], [4]])
def test_a_warm_up_still_shares_prefixes(kinds):
    calls = []

    @stage(space=SPACES["prep"], version="1", cost=lambda x, k: 4.0)
    def prep(data, *, x, k):
        calls.append((x, k))
        return x, k

    @stage(space=SPACES["fit"], version="1", cost=lambda y, kind: 1.0)
    def fit(prepared, *, y, kind):
        return prepared[0] + y

    pipeline = Pipeline([prep, fit], constraints=[KINDS[k] for k in kinds])
    study = Tuner(pipeline, budget=1e6, seed=3, n_initial=8).run(0.0, max_trials=8, progress=False)

    assert len(study.trials) == 8
    assert all(pipeline.cube.misfit(trial.params) is None for trial in study.trials)
    assert len(calls) == 4  # half of the trials


def test_a_plain_sampler_of_optuna_keeps_constraints_too():
    pipeline = Pipeline.declare(SPACES, constraints=[KINDS[0], KINDS[2]])
    study = optuna.create_study(sampler=EEIPUSampler(pipeline, budget=100.0, seed=0, n_initial=3))
    study.enqueue_trial({"prep.x": 0.25})

    def objective(trial):
        params = suggest(trial, pipeline.space)
        trial.set_user_attr("stage_costs", [1.0, 1.0])
        trial.set_user_attr("charged", 2.0)
        return value_of(params)

    study.optimize(objective, n_trials=6)
    assert all(pipeline.cube.misfit(trial.params) is None for trial in study.trials)
    assert study.trials[0].params["prep.x"] == 0.25


@pytest.mark.parametrize("method", ["random", "eeipu", "lambo"])
def test_all_allowed_configurations_are_tried_and_then_the_search_is_over(method):
    pipeline = Pipeline.declare(
        {"a": {"i": range(6)}, "b": {"j": range(6)}},
        constraints=[lambda p: p["a.i"] + p["b.j"] == 3],
    )
    tuner = Tuner(pipeline, budget=1e6, method=method, seed=0, n_initial=2)
    tried = []
    for _ in range(4):
        suggestion = tuner.ask()
        tried.append(tuple(suggestion.params.values()))
        tuner.tell(suggestion, float(suggestion.params["a.i"]), stage_costs=[1.0, 1.0])

    assert sorted(tried) == [(i, 3 - i) for i in range(4)]
    with pytest.raises(SpaceExhausted, match="all 4 configurations"):
        tuner.ask()


@pytest.mark.parametrize(("most", "found"), [(400, 4), (10**6, 1)])
def test_few_allowed_of_very_many_are_tried_and_then_the_search_is_over(most, found):
    pipeline = Pipeline.declare(
        {"a": {"i": Int(1, most)}, "b": {"j": Int(1, most)}},
        constraints=[lambda p: p["a.i"] < 10, lambda p: p["a.i"] * p["b.j"] == 6],
    )
    tuner = Tuner(pipeline, budget=1e6, method="random", seed=0)
    # Where there are too many combinations to look at them all, this is what leads to others.
    tuner.enqueue({"a.i": 2, "b.j": 3})
    tried = set()
    while not tried >= {(1, 6), (2, 3), (3, 2), (6, 1)}:
        try:
            suggestion = tuner.ask()
        except SpaceExhausted:
            break
        tried.add(tuple(suggestion.params.values()))
        tuner.tell(suggestion, 1.0, stage_costs=[1.0, 1.0])

    assert found <= len(tried) <= 4
    assert all(i * j == 6 for i, j in tried)


def test_a_space_without_an_allowed_configuration_is_an_error_and_leaves_no_open_trial():
    pipeline = Pipeline.declare(
        {"a": {"i": range(9)}}, constraints=[lambda p: p["a.i"] > 5, lambda p: p["a.i"] < 5]
    )
    tuner = Tuner(pipeline, budget=10.0, seed=0)
    with pytest.raises(SpaceError, match="all 9 combinations"):
        tuner.ask()
    assert [t for t in tuner.study.trials if t.state is TrialState.RUNNING] == []


def test_trials_that_violate_a_constraint_of_now_are_left_out():
    tuner = tuner_of([0], "eeipu", 0, n_initial=2)
    pipeline, study = tuner.pipeline, tuner.study
    for x, state in [
        (0.9, TrialState.COMPLETE),
        (0.8, TrialState.PRUNED),
        (0.7, TrialState.FAIL),
        (0.6, TrialState.RUNNING),
        (0.2, TrialState.COMPLETE),
        (0.1, TrialState.PRUNED),
    ]:
        study.add_trial(
            create_trial(
                params={"prep.x": x, "prep.k": 2, "fit.y": 0.5, "fit.kind": "u"},
                distributions=pipeline.space,
                value=x if state is TrialState.COMPLETE else None,
                state=state,
            )
        )
    history = History.of(study, pipeline)

    assert [trial.params["prep.x"] for trial in history.ended] == [0.2, 0.1]
    assert [trial.params["prep.x"] for trial, _ in history.left_out] == [0.9, 0.8]
    assert all(why.startswith("constraints[0]") for _, why in history.left_out)
    assert history.running == ()
    assert [trial.params["prep.x"] for trial in history.top(5)] == [0.2]


def test_random_configurations_have_what_is_given_and_are_new():
    pipeline = Pipeline.declare({"a": {"i": range(3)}, "b": {"j": range(3)}})
    study = optuna.create_study()
    for j in (0, 2):
        params = {"a.i": 1, "b.j": j}
        study.add_trial(create_trial(params=params, distributions=pipeline.space, value=1.0))
    history = History.of(study, pipeline)

    assert unseen(history, None, 0, {"a.i": 1}) == {"a.i": 1, "b.j": 1}
    assert unseen(history, 2, 0, {"a.i": 1, "b.j": 2}) == {"a.i": 1, "b.j": 2}  # which has run
