"""The sampler in plain Optuna studies."""

import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from toys import Toy, config, declared

import eeipu.methods.proposals
import eeipu.sampler
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
    Tuner,
    stage,
)
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.methods.catalogue import Method
from eeipu.methods.history import History
from eeipu.methods.warm_up import no_design
from eeipu.space import suggest

ALL_KINDS = Pipeline.declare(
    {
        "one": {
            "float": Float(-1.0, 1.0),
            "log": Float(1e-7, 1.0, log=True),
            "step": Float(-10.2, 10.2, step=0.1),
            "int": Int(-10, 10),
        },
        "two": {
            "log_int": Int(1, 100, log=True),
            "step_int": Int(3, 9, step=2),
            "choice": Categorical(["a", 3, None, True, 2.5]),
            "single": Float(0.5, 0.5),
            "single_log": Float(1.0, 1.0, log=True),
            "single_int": Int(4, 4),
            "single_choice": Categorical(["only"]),
        },
    }
)


def sampler_of(pipeline=None, **arguments):
    pipeline = declared() if pipeline is None else pipeline
    return EEIPUSampler(pipeline, **{"budget": 60.0, "n_initial": 3, "seed": 0, **arguments})


class SamplerCase:
    @pytest.fixture
    def sampler(self):
        return sampler_of


# Optuna's test cases suggest parameters of their own: here they say that what is not the
# pipeline's is sampled as Optuna expects. Its cases for relative sampling need a sampler that
# adapts to any space, and have counterparts below.
class TestOptunasBasicContract(SamplerCase, BasicSamplerTestCase):
    pass


class TestOptunasContractForSeveralObjectives(SamplerCase, MultiObjectiveSamplerTestCase):
    pass


class TestOptunasSingleObjectiveContract(SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: sampler_of(method="eips")


def study_of(sampler, direction="maximize"):
    return optuna.create_study(sampler=sampler, direction=direction)


def objective(params):
    return -sum((value - 0.6) ** 2 for value in params.values())


def told(study, pipeline, count, *, value=objective, costs=None):
    """Ask, and tell a value and stage costs, a few times; the configurations."""
    asked = []
    for _ in range(count):
        trial = study.ask()
        params = suggest(trial, pipeline.space)
        keys = [call.key for call in pipeline.calls(params)]
        stage_costs = [1.0] * len(keys) if costs is None else costs(params)
        trial.set_user_attr("stage_keys", keys)
        trial.set_user_attr("stage_costs", stage_costs)
        trial.set_user_attr("charged", sum(cost or 0.0 for cost in stage_costs))
        result = value(params)
        state = optuna.trial.TrialState.COMPLETE if result is not None else None
        study.tell(trial, result, state=state or optuna.trial.TrialState.FAIL)
        asked.append(params)
    return asked


# --- what is suggested


@pytest.mark.parametrize("method", ["eeipu", "ei", "random"])
def test_suggestions_of_all_kinds_lie_in_the_space_and_have_its_types(method):
    sampler = sampler_of(ALL_KINDS, method=method)
    study = study_of(sampler)
    for params in told(study, ALL_KINDS, 5, value=lambda p: p["one.float"]):
        for name, distribution in ALL_KINDS.space.items():
            value = params[name]
            assert distribution._contains(distribution.to_internal_repr(value))
            match distribution:
                case optuna.distributions.FloatDistribution():
                    assert type(value) is float
                case optuna.distributions.IntDistribution():
                    assert type(value) is int
                case _:
                    assert any(value is choice for choice in distribution.choices)
        assert ALL_KINDS.cube.canonical(params) == params


def test_the_whole_space_is_sampled_jointly():
    study = study_of(sampler_of())
    trial = study.ask()
    trial.suggest_float("prep.x", 0.0, 1.0)

    assert trial.relative_params.keys() == declared().space.keys()


def test_the_warm_up_covers_every_column_evenly():
    study = study_of(sampler_of(n_initial=16))
    points = np.array([list(params.values()) for params in told(study, declared(), 16)])

    # Sixteen Sobol points have one coordinate in each sixteenth of every column ...
    assert (np.sort((16 * points).astype(int), axis=0) == np.arange(16)[:, None]).all()
    # ... and do not lie on the diagonal.
    assert np.abs(points[:, 0] - points[:, 1]).max() > 0.5


def test_all_methods_have_the_same_warm_up():
    warm_ups = [
        told(study_of(sampler_of(method=method)), declared(), 3)
        for method in ("eeipu", "eeipu-paper", "ei", "random")
    ]

    assert all(warm_up == warm_ups[0] for warm_up in warm_ups)


def test_a_warm_up_is_as_long_as_the_user_or_else_the_method_says():
    def length(**arguments):
        return EEIPUSampler(declared(), budget=60.0, **arguments).n_initial

    assert (length(), length(method="ei"), length(method="eeipu-paper")) == (10, 10, 10)
    assert length(method="eeipu-paper", n_initial=4) == length(n_initial=4) == 4


def test_only_a_usual_warm_up_ends_early_in_a_small_budget():
    small, given = (sampler_of(budget=8.0, n_initial=n) for n in (None, 6))
    study = study_of(given)
    told(study, declared(), 4)
    history = History.of(study, declared())

    assert history.spent > 2.0
    assert (small.warm_up_trials(history), given.warm_up_trials(history)) == (3, 6)
    assert sampler_of(budget=1e4, n_initial=None).warm_up_trials(history) == 10
    paper = sampler_of(budget=8.0, n_initial=None, method="eeipu-paper")
    assert paper.warm_up_trials(history) == 10


def test_the_warm_up_goes_on_until_something_has_succeeded():
    design = told(study_of(sampler_of(method="random", n_initial=6)), declared(), 6)
    failing = told(study_of(sampler_of(n_initial=2)), declared(), 6, value=lambda params: None)

    assert failing == design


def test_the_same_seed_and_trials_give_the_same_suggestions():
    def suggestions(seed):
        return told(study_of(sampler_of(seed=seed)), declared(), 5)

    assert suggestions(1) == suggestions(1)
    assert suggestions(1)[0] != suggestions(2)[0]


def test_without_a_seed_runs_differ():
    assert told(study_of(sampler_of(seed=None)), declared(), 1) != told(
        study_of(sampler_of(seed=None)), declared(), 1
    )


def test_reseeding_starts_from_fresh_randomness():
    sampler = sampler_of()
    sampler.reseed_rng()

    assert told(study_of(sampler), declared(), 1) != told(study_of(sampler_of()), declared(), 1)


def test_the_search_closes_in_on_the_optimum():
    study = study_of(sampler_of(method="ei"))
    told(study, declared(), 9)

    assert study.best_value > -0.001


def test_minimising_is_maximising_the_negative():
    down = told(
        study_of(sampler_of(), "minimize"), declared(), 6, value=lambda params: -objective(params)
    )

    assert down == told(study_of(sampler_of()), declared(), 6)


@pytest.mark.parametrize("method", ["eeipu", "ei", "random"])
def test_no_configuration_is_suggested_twice(method):
    pipeline = declared(x=Int(1, 3), y=Categorical(["u", "v", "w"]))
    study = study_of(sampler_of(pipeline, method=method, n_initial=2))
    asked = told(study, pipeline, 9, value=lambda params: params["prep.x"])

    assert len({tuple(params.values()) for params in asked}) == 9


def test_an_exhausted_space_is_suggested_from_all_the_same():
    pipeline = declared(x=Int(1, 2), y=Int(1, 1))
    study = study_of(sampler_of(pipeline))

    assert told(study, pipeline, 3)[2] in told(study, pipeline, 2)


def test_running_configurations_are_not_suggested_again():
    pipeline = declared(x=Int(1, 3), y=Int(1, 1))
    study = study_of(sampler_of(pipeline))

    assert {suggest(study.ask(), pipeline.space)["prep.x"] for _ in range(3)} == {1, 2, 3}


# --- what it learns from


def expensive_below(params):
    return [100.0 if params["prep.x"] < 0.6 else 0.01, 0.01, 0.01]


def test_eeipu_learns_stage_costs_from_user_attributes_and_ei_does_not():
    def next_after_warm_up(method, costs):
        study = study_of(sampler_of(method=method, budget=1e4))
        return told(study, declared(), 4, costs=costs)[-1]

    assert next_after_warm_up("eeipu", expensive_below) != next_after_warm_up("eeipu", None)
    assert next_after_warm_up("ei", expensive_below) == next_after_warm_up("ei", None)


def test_prefixes_are_offered_only_while_they_are_kept():
    def reused(cache_holds):
        kept = set()
        study = study_of(sampler_of(cache=kept, budget=1e4, n_initial=4))
        seen = told(study, declared(), 4, costs=lambda params: [10.0, 1.0, 1.0])
        if cache_holds:
            kept.update(key for trial in study.trials for key in trial.user_attrs["stage_keys"])
        (params,) = told(study, declared(), 1)
        return params["prep.x"] in [each["prep.x"] for each in seen]

    assert reused(cache_holds=True)
    assert not reused(cache_holds=False)


def test_other_parameters_of_the_objective_do_not_stop_the_search():
    pipeline = declared()
    study = study_of(sampler_of())

    def with_another(trial):
        params = suggest(trial, pipeline.space)
        return objective(params) - trial.suggest_float("other", 0.0, 0.001)

    study.optimize(with_another, n_trials=8)

    alone = told(study_of(sampler_of(method="random")), pipeline, 8)
    assert [params["prep.x"] for params in alone[:3]] == [
        trial.params["prep.x"] for trial in study.trials[:3]
    ]
    assert study.best_value > max(map(objective, alone))


def test_trials_without_costs_are_learnt_from_as_well():
    study = study_of(sampler_of())
    study.optimize(lambda trial: objective(suggest(trial, declared().space)), n_trials=6)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6


# --- with the rest of Optuna


def test_enqueued_configurations_are_taken_as_they_are():
    pipeline = Toy().pipeline
    study = study_of(sampler_of(pipeline))
    study.enqueue_trial(config(k=3))

    assert suggest(study.ask(), pipeline.space) == config(k=3)


def test_half_a_configuration_can_be_enqueued():
    study = study_of(sampler_of())
    study.enqueue_trial({"prep.x": 0.125})
    params = suggest(study.ask(), declared().space)

    assert params["prep.x"] == 0.125
    assert 0.0 <= params["fit.y"] <= 1.0


def test_some_parameters_can_be_fixed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.PartialFixedSampler({"prep.x": 0.125}, sampler_of())
    study = study_of(sampler)

    assert [params["prep.x"] for params in told(study, declared(), 5)] == [0.125] * 5


def test_trials_may_run_in_threads():
    pipeline, cache = Toy().pipeline, StageCache()
    study = study_of(sampler_of(pipeline, cache=cache))
    study.optimize(lambda trial: pipeline.run(trial, 1.0, cache=cache).value, n_trials=6, n_jobs=2)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6


def test_several_objectives_are_refused_by_methods_for_one():
    sampler = sampler_of(method="eips")
    study = optuna.create_study(sampler=sampler, directions=["minimize", "maximize"])

    with pytest.raises(ValueError, match="objective"):
        suggest(study.ask(), declared().space)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"budget": 0.0}, r"budget.*positive.*0\.0"),
        ({"budget": float("nan")}, r"budget.*positive.*nan"),
        ({"top_q": 0}, r"top_q.*>= 1.*0"),
        ({"n_initial": 0}, r"n_initial.*>= 1.*0"),
        ({"n_initial": 1.5}, r"n_initial.*whole.*1\.5"),
        ({"method": "bayes"}, r"no method 'bayes'"),
        ({"budget": True}, r"budget.*positive.*True"),
        ({"n_initial": True}, r"n_initial.*whole.*True"),
        ({"seed": "a"}, r"seed.*whole.*'a'"),
        ({"seed": -1}, r"seed.*>= 0.*-1"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        sampler_of(**arguments)


def test_suggestions_made_while_others_run_lie_apart():
    pipeline = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})
    tuner = Tuner(pipeline, budget=1e3, method="ei", n_initial=6, seed=0)
    for _ in range(6):
        suggestion = tuner.ask()
        x, y = suggestion.params.values()
        tuner.tell(suggestion, -((x - 0.3) ** 2) - (y - 0.6) ** 2, stage_costs=[1.0, 1.0])

    points = np.array([list(tuner.ask().params.values()) for _ in range(3)])

    apart = np.abs(points[:, None] - points[None]).max(-1)[np.triu_indices(3, 1)]
    assert apart.min() > 0.02


DISTRIBUTIONS = st.one_of(
    st.builds(lambda low, width: Float(low, low + width), st.floats(-5, 5), st.floats(0.1, 9)),
    st.builds(
        lambda low, factor: Float(low, low * factor, log=True),
        st.floats(1e-6, 1),
        st.floats(2, 1e4),
    ),
    st.builds(lambda low, count: Int(low, low + count), st.integers(-9, 9), st.integers(0, 40)),
    st.builds(lambda count: Categorical([f"c{i}" for i in range(count)]), st.integers(1, 60)),
)
STAGES = st.lists(
    st.dictionaries(st.sampled_from("abc"), DISTRIBUTIONS, max_size=3), min_size=1, max_size=3
).filter(any)


@settings(max_examples=15)
@given(spaces=STAGES, seed=st.integers(0, 9), method=st.sampled_from(["eeipu", "lambo", "pbgi"]))
def test_in_any_space_suggestions_are_new_and_what_they_count_on_is_kept(spaces, seed, method):
    pipeline = Pipeline.declare({f"s{k}": space for k, space in enumerate(spaces)})
    tuner = Tuner(pipeline, budget=1e3, method=method, n_initial=4, top_q=2, seed=seed)
    rng = np.random.default_rng(seed)
    seen, outputs = set(), {}
    for _ in range(8):
        try:
            suggestion = tuner.ask()
        except SpaceExhausted:
            assert len(seen) == pipeline.cube.size
            return
        configuration = tuple(suggestion.params.values())
        assert pipeline.cube.canonical(suggestion.params) == suggestion.params
        assert configuration not in seen
        seen.add(configuration)
        for k, reused in enumerate(suggestion.memoized):
            prefix = configuration[: sum(map(len, spaces[: k + 1]))]
            assert not reused or (k, prefix) in outputs
            outputs[k, prefix] = True
        costs = [None if reused else 1.0 for reused in suggestion.memoized]
        tuner.tell(suggestion, rng.normal(), stage_costs=costs)


# --- which trials it builds on


@pytest.mark.parametrize(
    ("method", "kept", "ended", "expected"),
    [
        ("eeipu", set(), 4, [3, 2]),
        ("eeipu", set(), 2, [1, 0, 1]),  # the warm-up shares prefixes
        ("eeipu", None, 2, [1, 0]),
        ("eeipu-paper", set(), 2, [1, 0]),
        ("lambo", set(), 4, [3, 2, 3]),
    ],
)
def test_it_builds_on_the_best_trials_and_at_times_on_the_last(method, kept, ended, expected):
    sampler = sampler_of(method=method, cache=kept, top_q=2)
    study = study_of(sampler)
    for value in range(ended):
        study.enqueue_trial(config(x=0.1 * value))
        study.tell(study.ask(declared().space), float(value))

    trials = sampler.builds_on(History.of(study, declared()))

    assert [trial.number for trial in trials] == expected


def test_it_does_not_build_on_the_last_trial_if_only_the_best_are_kept():
    sampler = sampler_of(top_q=1)
    study = study_of(sampler)
    for value in (1.0, 0.0):
        study.tell(study.ask(declared().space), value)
    history = History.of(study, declared())

    sampler.reuse_from({"key"}, keeps_last=True)
    assert [trial.number for trial in sampler.builds_on(history)] == [0, 1]
    sampler.reuse_from({"key"}, keeps_last=False)
    assert [trial.number for trial in sampler.builds_on(history)] == [0]


def test_a_history_that_was_read_is_used_for_its_trial_alone(monkeypatch):
    study = study_of(sampler_of(method="random"))
    history = History.of(study, declared())
    reads, get_trials = [], study.get_trials
    monkeypatch.setattr(study, "get_trials", lambda **kw: reads.append(1) or get_trials(**kw))

    with study.sampler.knowing(history, 0):
        suggest(study.ask(), declared().space)
        assert len(reads) == 0
        suggest(study.ask(), declared().space)
        assert len(reads) == 1


def test_a_sampler_serves_several_studies_one_after_another():
    """What it knows of one is not taken for what it knows of the next."""
    sampler = sampler_of(method="ei", n_initial=3)
    suggestions = []
    for sign in (1.0, -1.0):
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for x in (0.1, 0.5, 0.9):
            study.enqueue_trial(config(x=x, y=x))
            study.tell(study.ask(declared().space), sign * x)
        suggestions.append(study.ask(declared().space).params)

    assert suggestions[0] != suggestions[1]


@pytest.mark.parametrize("fails", [True, False])
def test_a_region_that_runs_out_of_memory_is_left(fails):
    @stage(
        space={"size": Float(0.0, 1.0), "rate": Float(0.0, 1.0)}, version="1", cost=lambda **_: 1
    )
    def train(data, *, size, rate):
        if fails and size > 0.5:
            raise MemoryError
        return size - (rate - 0.5) ** 2  # the larger the better, up to where memory ends

    tuner = Tuner(Pipeline([train]), budget=100.0, n_initial=8, seed=0, cache=None)
    study = tuner.run(0, max_trials=20, progress=False)
    large = [trial.params["train.size"] > 0.5 for trial in study.trials]

    assert sum(large[:8]) == 4
    assert (sum(large[8:]) <= 3) if fails else (sum(large[8:]) >= 9)


def test_a_method_of_ones_own_can_be_the_sampler_s():
    method = Method("two levels", None, design=no_design, levels=2)
    sampler = EEIPUSampler(Toy().pipeline, budget=100.0, method=method, seed=0)

    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: suggest(trial, Toy().pipeline.space)["fit.y"], n_trials=6)

    assert {trial.params["fit.y"] for trial in study.trials} <= {0.25, 0.75}


# --- beside many running trials


def crowded(running, ended=6, method="eeipu"):
    """A study in which many trials run, and a sampler that has seen its warm-up."""
    sampler = sampler_of(n_initial=3, method=method)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rng = np.random.default_rng(0)
    for x, y in rng.random((ended, 2)):
        study.enqueue_trial(config(x=x, y=y))
        trial = study.ask(declared().space)
        trial.set_user_attr("stage_costs", [1.0, 1.0, 1.0])
        trial.set_user_attr("charged", 3.0)
        study.tell(trial, -(x**2) - y)
    for x, y in rng.random((running, 2)):
        study.enqueue_trial(config(x=x, y=y))
        study.ask(declared().space)
    return study


def asked_with_models(study, count, monkeypatch):
    """What is suggested next, and how many maximisations it took."""
    calls = []
    maximize = eeipu.methods.proposals.maximize
    monkeypatch.setattr(
        eeipu.methods.proposals,
        "maximize",
        lambda *args, **kw: calls.append(1) or maximize(*args, **kw),
    )
    return [study.ask(declared().space).params for _ in range(count)], len(calls)


def test_beside_many_running_trials_one_maximisation_serves_several(monkeypatch):
    several, maximisations = asked_with_models(crowded(32), 3, monkeypatch)

    assert maximisations == 1
    assert len({tuple(params.values()) for params in several}) == 3


def test_few_running_trials_have_a_maximisation_each(monkeypatch):
    assert asked_with_models(crowded(3), 3, monkeypatch)[1] == 3


def test_what_is_left_of_a_batch_is_of_one_study_alone(monkeypatch):
    study = crowded(32)
    study.ask(declared().space)
    other = optuna.create_study(direction="maximize", sampler=study.sampler)
    sampler = study.sampler
    left = list(sampler._stock._params)
    params = other.ask(declared().space).params

    assert left
    assert params not in left


def test_what_has_begun_meanwhile_is_not_suggested_again():
    study = crowded(48, method="ei")  # which passes over nothing, so that the batch is whole
    study.ask(declared().space)
    first, second = study.sampler._stock._params[:2]
    study.enqueue_trial(first)
    study.ask(declared().space)

    assert study.ask(declared().space).params == second


@pytest.mark.parametrize("beside_workers", [False, True])
def test_beside_workers_a_suggestion_takes_one_thread(beside_workers, monkeypatch):
    asked = []

    def limit(limits):
        asked.append(limits)
        return nullcontext()

    libraries = SimpleNamespace(limit=limit)
    monkeypatch.setattr(eeipu.sampler, "loaded_libraries", lambda: libraries)
    monkeypatch.setattr(eeipu.sampler, "THREADED_FROM", 3)
    study = crowded(0)
    study.sampler.share_processors(beside_workers)
    asked.clear()
    study.ask(declared().space)

    assert asked == [1 if beside_workers else None]


@pytest.mark.parametrize("size", [1, 2])
def test_the_tuner_says_whether_there_are_workers_beside(size):
    tuner = Tuner(Toy().pipeline, budget=1.0, n_initial=1, executor=SimulatedPool(size), cache=None)
    tuner.run(1.0, progress=False)

    assert tuner.study.sampler._is_beside_workers == (size > 1)


def test_a_list_of_stages_is_no_pipeline():
    @stage(version="1", space={"x": Float(0.0, 1.0)})
    def only(data, *, x):
        return x

    for make in (EEIPUSampler, Tuner):
        with pytest.raises(PipelineError, match=r"must be a Pipeline\(\[...\]\).*got a list"):
            make([only], budget=5.0)
