"""Which configurations are worth another run."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from eeipu import EEIPUSampler, Float, Pipeline, StageCache, Tuner, stage
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.noise.repeats import draws_anew
from eeipu.methods.proposals import Proposals
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import no_design

NOISE = 0.3


def pipeline_of(seed=0, *, noise=NOISE, memoize=False, last_cost=0.1):
    """Two stages, of which the cheap last one adds noise in each run."""
    rng = np.random.default_rng(seed)

    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 5.0, version="1")
    def prep(data, *, x):
        return -((x - 0.3) ** 2)

    @stage(space={"y": Float(0.0, 1.0)}, cost=lambda y: last_cost, version="1", memoize=memoize)
    def score(prepared, *, y):
        return prepared - (y - 0.6) ** 2 + noise * rng.standard_normal()

    return Pipeline([prep, score])


def searched(pipeline, trials=30, **options):
    tuner = Tuner(pipeline, budget=None, cache=StageCache(), seed=0, n_initial=6, **options)
    return tuner.run(0.0, max_trials=trials, progress=False)


def configurations(study):
    return [tuple(trial.params.values()) for trial in study.trials]


def runs_twice(study):
    return len(configurations(study)) > len(set(configurations(study)))


def test_where_the_last_stage_draws_anew_a_configuration_runs_again():
    study = searched(pipeline_of())

    again = [t for t in study.trials if "repeats" in t.user_attrs.get("chosen", {})]

    assert again
    for trial in again:
        first = study.trials[trial.user_attrs["chosen"]["repeats"]]
        assert first.params == trial.params
        assert first.number < trial.number
        assert first.value != trial.value
        assert trial.user_attrs["chosen"]["by"] == "models"
        assert trial.user_attrs["chosen"]["gain"] > 0.0


def test_a_repeat_pays_for_the_last_stages_alone():
    study = searched(pipeline_of())

    paid = {
        tuple(t.user_attrs["memoized"]): t.user_attrs["charged"]
        for t in study.trials
        if "repeats" in t.user_attrs.get("chosen", {})
    }

    assert paid[True, False] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "cache"),
    [({"memoize": True}, StageCache()), ({}, None)],
    ids=["all stages are memoized", "nothing is kept"],
)
def test_otherwise_nothing_runs_again(options, cache):
    tuner = Tuner(pipeline_of(**options), budget=None, cache=cache, seed=0, n_initial=6)

    assert not runs_twice(tuner.run(0.0, max_trials=20, progress=False))


@pytest.mark.parametrize("method", ["ei", "eeipu-paper"])
def test_other_methods_do_not_repeat(method):
    assert not runs_twice(searched(pipeline_of(), trials=20, method=method))


def test_stages_that_are_not_random_are_found_out():
    study = searched(pipeline_of(noise=0.0))

    again = len(study.trials) - len(set(configurations(study)))

    assert again <= 2


def test_a_study_that_is_resumed_goes_on_alike():
    whole = searched(pipeline_of(noise=0.0), trials=14)
    parts = Tuner(pipeline_of(noise=0.0), cache=StageCache(), seed=0, n_initial=6)
    parts.run(0.0, max_trials=9, progress=False)

    assert configurations(parts.run(0.0, max_trials=5, progress=False)) == configurations(whole)


def test_repeats_run_beside_other_trials():
    study = searched(pipeline_of(), max_parallel=3, executor="threads")

    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    assert runs_twice(study)


def test_an_optuna_loop_repeats_too():
    pipeline, cache = pipeline_of(), StageCache()
    sampler = EEIPUSampler(pipeline, budget=1e3, cache=cache, seed=0, n_initial=6)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    study.optimize(lambda trial: pipeline.run(trial, 0.0, cache=cache).value, n_trials=30)

    assert runs_twice(study)


def test_what_the_user_has_enqueued_is_run_first_and_may_be_repeated():
    tuner = Tuner(pipeline_of(), cache=StageCache(), seed=0, n_initial=6)
    best = {"prep.x": 0.3, "score.y": 0.6}
    tuner.enqueue(best)

    study = tuner.run(0.0, max_trials=30, progress=False)

    assert study.trials[0].params == best
    assert runs_twice(study)


def test_a_part_that_the_user_has_enqueued_is_completed_with_something_new():
    tuner = Tuner(pipeline_of(), cache=StageCache(), seed=0, n_initial=6)
    tuner.run(0.0, max_trials=25, progress=False)
    tuner.enqueue({"prep.x": 0.3})

    study = tuner.run(0.0, max_trials=1, progress=False)

    assert study.trials[-1].params["prep.x"] == 0.3
    assert "repeats" not in study.trials[-1].user_attrs.get("chosen", {})


# --- From trials that are written down


def history_of(pipeline, rows, running=()):
    """A history of trials `(x, y, value)`, whose first stages all have the same kept output."""
    study = optuna.create_study(direction="maximize")
    for x, y, value in [*rows, *((x, y, None) for x, y in running)]:
        study.add_trial(
            create_trial(
                params={"prep.x": x, "score.y": y},
                distributions=pipeline.space,
                value=value,
                state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
                user_attrs={"stage_keys": [f"{x}", f"{x} {y}"], "stage_costs": [5.0, 0.1]},
            )
        )
    return History.of(study, pipeline)


def scattered(seed=0, noise=0.05):
    rng = np.random.default_rng(seed)
    points = rng.random((14, 2))
    values = -((points - 0.5) ** 2).sum(axis=1) + noise * rng.standard_normal(14)
    return [(*point, value) for point, value in zip(points.tolist(), values, strict=True)]


def proposals_of(history, kept, **options):
    search = Search(history, Budget(1e4), 2, len(history), seed=0)
    return Proposals(search, METHODS["eeipu"], no_design, top_q=5, kept=kept, **options)


def all_kept(rows):
    return {f"{x}" for x, _, _ in rows}


def test_values_that_are_equal_whenever_repeated_are_not_drawn_anew():
    pipeline = pipeline_of()
    rows = [(0.1, 0.1, 1.0), (0.2, 0.2, 2.0)]

    def may_differ(more):
        history = history_of(pipeline, [*rows, *more])
        return draws_anew(Search(history, Budget(1.0), 2, len(history), seed=0))

    assert may_differ([])
    assert may_differ([(0.1, 0.1, 1.0)])
    assert not may_differ([(0.1, 0.1, 1.0), (0.2, 0.2, 2.0)])
    assert may_differ([(0.1, 0.1, 1.0), (0.2, 0.2, 2.0), (0.2, 0.2, 2.1)])


def test_a_repeat_is_one_of_the_best_and_has_the_values_as_stored():
    rows = scattered()
    pipeline = pipeline_of()
    repeat = proposals_of(history_of(pipeline, rows), all_kept(rows)).repeat

    assert repeat is not None
    x, y, _ = rows[repeat.number]
    assert repeat.candidate.params == {"prep.x": x, "score.y": y}
    assert repeat.candidate.reuse.memoized == (True, False)


def test_running_repeats_make_further_ones_worth_less():
    rows, pipeline = scattered(), pipeline_of()
    alone = proposals_of(history_of(pipeline, rows), all_kept(rows)).repeat
    x, y, _ = rows[alone.number]
    busy = history_of(pipeline, rows, running=[(x, y)] * 8)

    beside = proposals_of(busy, all_kept(rows)).repeat

    assert beside is None or beside.gain < alone.gain


def test_with_values_of_the_users_own_or_early_stopping_nothing_is_repeated():
    rows, pipeline = scattered(), pipeline_of()
    history = history_of(pipeline, rows)

    assert proposals_of(history, all_kept(rows), given={"prep.x": 0.5}).repeat is None
    assert proposals_of(history, all_kept(rows), may_repeat=False).repeat is None
