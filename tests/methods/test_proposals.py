"""Configurations in order of preference."""

from dataclasses import replace

import branching
import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from eeipu import Categorical, Float, Int, NothingWorthwhile, Pipeline
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.proposals import (
    LEAST_GAIN,
    LEAST_NEWS,
    Proposals,
    _telling,
    check_not_done,
    unseen,
)
from eeipu.methods.reuse.candidates import Candidate, Reuse
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import independent, no_design

SMALL = Pipeline.declare({"only": {"a": Int(1, 40), "b": Categorical(["u", "v"])}})
WIDE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def history_of(pipeline, configurations, running=(), value=None):
    """A history of these configurations, with these values or else rising ones."""
    study = optuna.create_study(direction="maximize")
    for i, params in enumerate([*configurations, *running]):
        ended = i < len(configurations)
        result = float(i) if value is None else value(params)
        study.add_trial(
            create_trial(
                params=params,
                distributions=pipeline.space,
                value=result if ended else None,
                state=TrialState.COMPLETE if ended else TrialState.RUNNING,
                user_attrs={
                    "stage_keys": [f"{params}"] * len(pipeline.stages),
                    "stage_costs": [100.0, 0.1][: len(pipeline.stages)],
                },
            )
        )
    return History.of(study, pipeline)


def proposals_of(history, method, design, kept=()):
    search = Search(history, Budget(100.0), 2, len(history), seed=0)
    return Proposals(search, METHODS[method], design, top_q=2, kept=kept)


def test_the_only_configuration_that_has_not_run_is_found():
    *others, last = SMALL.cube.configurations()

    assert unseen(history_of(SMALL, others), None, seed=0) == last


def test_if_all_have_run_any_configuration_is_returned():
    everything = list(SMALL.cube.configurations())

    assert unseen(history_of(SMALL, everything), None, seed=0) in everything


def test_a_grid_is_used_up_before_values_off_the_grid():
    grid = [{"prep.x": x, "fit.y": y} for x in (0.25, 0.75) for y in (0.25, 0.75)]

    assert unseen(history_of(WIDE, grid[:3]), 2, seed=0) == grid[3]
    assert unseen(history_of(WIDE, grid), 2, seed=0) not in grid


def test_a_warm_up_proposes_its_point_and_nothing_else():
    proposals = proposals_of(history_of(WIDE, []), "eeipu", independent)

    assert proposals.new(3) == [WIDE.cube.decode(proposals.warm_up_point)]


def test_a_method_that_chooses_at_random_proposes_nothing():
    proposals = proposals_of(history_of(WIDE, []), "random-grid", no_design)

    assert proposals.warm_up_point is None
    assert proposals.new(3) == []


@pytest.mark.parametrize(("method", "expected"), [("eeipu", {True, False}), ("ei", {False})])
def test_kept_outputs_are_offered_to_methods_that_reuse_them(method, expected):
    configurations = [{"prep.x": x, "fit.y": x} for x in (0.2, 0.5, 0.8)]
    history = history_of(WIDE, configurations)
    kept = {key for trial in history.ended for key in trial.user_attrs["stage_keys"]}
    proposals = proposals_of(history, method, no_design, kept)

    candidates = list(proposals.candidates(METHODS["ei"].score(proposals.search)))

    assert {candidate.reuse.memoized[0] for candidate in candidates} == expected
    # top_q is 2: the first trial, which is the worst, offers nothing.
    assert {c.params["prep.x"] for c in candidates if c.reuse.memoized[0]} <= {0.5, 0.8}


def test_several_configurations_at_once_are_new_and_differ():
    configurations = [{"prep.x": x, "fit.y": 1 - x} for x in (0.2, 0.5, 0.8)]
    history = history_of(WIDE, configurations, running=[{"prep.x": 0.6, "fit.y": 0.6}])

    new = proposals_of(history, "ei", no_design).new(3)

    assert 1 < len({tuple(params.values()) for params in new}) == len(new) <= 3
    assert all(map(history.configurations.is_new, new))


# --- candidates that tell nothing new


def hill(params):
    return 1.0 - (params["prep.x"] - 0.3) ** 2 - (params["fit.y"] - 0.7) ** 2


def polished(value=hill, running=()):
    """A history that has been polishing: many trials at nearly the same place of a kept prefix."""
    rng = np.random.default_rng(0)
    spread = [{"prep.x": x, "fit.y": y} for x, y in rng.random((6, 2)).tolist()]
    along = [{"prep.x": 0.35, "fit.y": y} for y in np.linspace(0.05, 0.95, 13)]
    close = [{"prep.x": 0.35, "fit.y": 0.7 + 0.002 * z} for z in rng.normal(size=10).tolist()]
    return history_of(WIDE, [*spread, *along, *close], running, value)


class Everything:
    def __contains__(self, key):
        return True


def nearest(history, params):
    """The distance of a configuration to the nearest one that has run, in the cube."""
    return np.abs(history.X - WIDE.cube.encode([params])).max(axis=1).min()


def test_what_cannot_be_told_from_what_has_run_is_passed_over():
    history = polished()
    passing = proposals_of(history, "eeipu", no_design, Everything())
    polishing = replace(passing, method=replace(passing.method, seeks_news=False))

    (told,), (not_told,) = passing.new(1), polishing.new(1)

    assert nearest(history, not_told) < 0.01
    assert nearest(history, told) > 0.03
    assert passing.promising
    assert not passing.is_done


def test_a_corner_where_the_model_is_sure_of_a_trend_is_left():
    """Branin in minimisation, as a search saw it that stayed at the bound x = 10 to its end."""
    rng = np.random.default_rng(1)
    points = [*(rng.random((8, 2))).tolist(), (1.0, 0.31), (1.0, 0.0)]
    points += [(1.0, 0.2 + 0.003 * z) for z in rng.normal(size=12).tolist()]

    def branin(params):
        x, y = 15 * params["only.x"] - 5, 15 * params["only.y"]
        curve = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
        return -(curve**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)

    plane = Pipeline.declare({"only": {"x": Float(0, 1), "y": Float(0, 1)}})
    configurations = [{"only.x": x, "only.y": y} for x, y in points]
    history = history_of(plane, configurations, value=branin)

    (next_one,) = proposals_of(history, "eeipu", no_design).new(1)

    distances = np.abs(history.X - plane.cube.encode([next_one])).max(axis=1)
    assert distances.min() > 0.01


def telling(history, points, **arguments):
    """Which of some points of the cube may tell more than is known."""
    search = proposals_of(history, "eeipu", no_design).search
    nothing = Reuse({}, (False, False))
    candidates = [
        Candidate(WIDE.cube.decode(np.array(point)), np.array(point), nothing, 0.0)
        for point in points
    ]
    left = _telling(candidates, search, **arguments)
    return [candidate in left for candidate in candidates]


def test_a_place_is_known_where_the_deviation_is_far_below_the_noise():
    history = polished()
    search = proposals_of(history, "eeipu", no_design).search
    points = [(0.35, 0.7003), (0.25, 0.7)]
    model = search.models.objective
    std = model.posterior(torch.tensor(points)[:, None]).variance.sqrt().flatten()

    assert (std <= LEAST_NEWS * model.noise_std).tolist() == [True, False]
    assert telling(history, points) == [False, True]


def test_running_trials_count_as_known():
    point = {"prep.x": 0.25, "fit.y": 0.7}
    alone, beside = polished(), polished(running=[point] * 5)

    here = [(point["prep.x"], point["fit.y"])]
    assert telling(alone, here) == [True]
    assert telling(beside, here) == [False]


def test_how_bad_bad_values_are_does_not_hide_a_gain():
    def cliff(params):
        return -1e30 if params["prep.x"] > 0.8 else hill(params)

    assert telling(polished(cliff), [(0.2, 0.75)]) == [True]


def test_a_gain_below_the_rounding_of_the_best_value_is_none():
    def far_up(params):
        return 1e16 + 2.0 * (params["fit.y"] > 0.5)

    history = polished(far_up)
    assert np.spacing(1e16) == 2.0
    assert telling(history, [(0.2, 0.75), (0.6, 0.2)]) == [False, False]


def test_a_search_is_done_if_even_a_doubtful_model_expects_nothing():
    grid = [{"prep.x": x, "fit.y": y} for x in np.linspace(0, 1, 8) for y in np.linspace(0, 1, 8)]
    done = proposals_of(history_of(WIDE, grid, value=lambda params: 1.0), "eeipu", no_design)
    young = proposals_of(history_of(WIDE, grid[::9], value=hill), "eeipu", no_design)

    assert done.is_done
    assert done.new(1)  # a search that goes on all the same has something to try
    with pytest.raises(NothingWorthwhile, match="no configuration is left"):
        check_not_done(done)
    assert not young.is_done
    check_not_done(young)


def test_where_nothing_is_promising_candidates_explore_without_reuse(monkeypatch):
    proposals = proposals_of(polished(), "eeipu", no_design, Everything())
    monkeypatch.setattr(Proposals, "promising", [])

    assert proposals.exploring
    assert all(candidate.reuse.params == {} for candidate in proposals.exploring)
    assert proposals.new(1) == [proposals.exploring[0].params]
    assert 0.0 < LEAST_GAIN < 1e-3


def test_methods_of_others_try_what_they_prefer(monkeypatch):
    promising = Candidate(
        {"prep.x": 0.9, "fit.y": 0.1}, np.array([0.9, 0.1]), Reuse({}, (False, False)), 0.0
    )
    monkeypatch.setattr(Proposals, "promising", [promising])

    ours, ei = (proposals_of(polished(), name, no_design).new(1) for name in ("eeipu", "ei"))

    assert ours == [promising.params] != ei
    assert [name for name, method in METHODS.items() if method.seeks_news] == [
        "eeipu",
        "eeipu-careful",
    ]


@pytest.mark.parametrize("shape", [branching.BRANCHES, branching.DIAMOND, branching.TWO_LEVELS])
def test_on_graphs_what_candidates_reuse_is_kept_for_them(shape):
    """The keys of a candidate's own stages say which of them need not run."""
    pipeline = branching.pipeline_of(shape)
    study = optuna.create_study(direction="maximize")
    names = list(pipeline.space)
    for x in np.random.default_rng(0).random((8, len(names))):
        params = dict(zip(names, x.tolist(), strict=True))
        study.add_trial(branching.trial_of(pipeline, params, value=-float(((x - 0.5) ** 2).sum())))
    history = History.of(study, pipeline)
    kept = {key for t in history.ended for key in t.user_attrs["stage_keys"][1:]}
    search = Search(history, Budget(2 * history.spent), 2, len(history), seed=0)

    found = Proposals(search, METHODS["eeipu"], no_design, top_q=5, kept=kept)._maximisers

    for candidate in found:
        held = [key in kept for key in branching.keys_of(pipeline, candidate.params)]
        assert candidate.reuse.memoized == pipeline.graph.free(held)
    sources = [
        {t.number for t in history.ended if value in t.params.values()}
        for value in found[0].reuse.params.values()
    ]
    assert any(found[0].reuse.memoized)
    if shape is branching.BRANCHES:
        assert len(set.union(*sources)) > 1  # its branches come from several trials
