"""Configurations in order of preference."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from eeipu import Categorical, Float, Int, Pipeline
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.proposals import Proposals, unseen
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import independent, no_design

SMALL = Pipeline.declare({"only": {"a": Int(1, 40), "b": Categorical(["u", "v"])}})
WIDE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def history_of(pipeline, configurations, running=()):
    study = optuna.create_study(direction="maximize")
    for i, params in enumerate([*configurations, *running]):
        ended = i < len(configurations)
        study.add_trial(
            create_trial(
                params=params,
                distributions=pipeline.space,
                value=float(i) if ended else None,
                state=TrialState.COMPLETE if ended else TrialState.RUNNING,
                user_attrs={"stage_keys": [f"{params}", f"{params}-"]},
            )
        )
    return History.of(study, pipeline)


def proposals_of(history, method, design, kept=()):
    search = Search(history, 100.0, 2, len(history), seed=0)
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
def test_kept_prefixes_are_offered_to_methods_that_use_them(method, expected):
    configurations = [{"prep.x": x, "fit.y": x} for x in (0.2, 0.5, 0.8)]
    history = history_of(WIDE, configurations)
    kept = {key for trial in history.ended for key in trial.user_attrs["stage_keys"]}
    proposals = proposals_of(history, method, no_design, kept)

    candidates = list(proposals.candidates(METHODS["ei"].score(proposals.search)))

    assert {candidate.prefix.memoized[0] for candidate in candidates} == expected
    # top_q is 2: the first trial, which is the worst, offers nothing.
    assert {c.params["prep.x"] for c in candidates if c.prefix.memoized[0]} <= {0.5, 0.8}


def test_several_configurations_at_once_are_new_and_differ():
    configurations = [{"prep.x": x, "fit.y": 1 - x} for x in (0.2, 0.5, 0.8)]
    history = history_of(WIDE, configurations, running=[{"prep.x": 0.6, "fit.y": 0.6}])

    new = proposals_of(history, "ei", no_design).new(3)

    assert 1 < len({tuple(params.values()) for params in new}) == len(new) <= 3
    assert all(map(history.is_new, new))
