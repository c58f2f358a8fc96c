"""What stages show, in the choice of the next configuration."""

import math

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from eeipu import Float, OneOf, Pipeline, Tuner, stage
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.proposals import Proposals
from eeipu.methods.search_models import SearchModels
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import independent
from eeipu.models.observed_stages.chain import StageChain

SPACE = {"first": {"x": Float(0, 1)}, "second": {"y": Float(0, 1)}, "third": {"z": Float(0, 1)}}
PIPELINE = Pipeline.declare(SPACE)
POINTS = np.random.default_rng(0).random((24, 3))


def shown(point):
    """The sums after each of three stages, the last of which is the objective."""
    return np.cumsum([math.sin(9 * point[0]), math.cos(8 * point[1]), -((point[2] - 0.3) ** 2)])


def study_of(points=POINTS, *, sign=1.0, names=("first", "second"), running=()):
    study = optuna.create_study(direction="maximize" if sign > 0 else "minimize")
    for i, point in enumerate([*points, *running]):
        is_running = i >= len(points)
        sums = sign * shown(point)
        attrs = {"stage_costs": [1.0, 1.0, 1.0], "stage_keys": [f"{i}-{k}" for k in range(3)]}
        if names and not is_running:
            attrs["observations"] = dict(zip(names, sums.tolist(), strict=False))
        study.add_trial(
            create_trial(
                params=dict(zip(PIPELINE.space, point.tolist(), strict=True)),
                distributions=PIPELINE.space,
                value=None if is_running else sums[-1],
                state=TrialState.RUNNING if is_running else TrialState.COMPLETE,
                user_attrs=attrs,
            )
        )
    return study


def search_of(**options):
    history = History.of(study_of(**options), PIPELINE)
    return Search(history, Budget(200.0), n_initial=0, number=len(history), seed=0)


X = torch.rand(30, 1, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
NOTHING = torch.zeros(30, 3, dtype=torch.bool)


def scores(search, method="eeipu", blind=False):
    chosen = METHODS[method].without_stages() if blind else METHODS[method]
    return chosen.score(search)(X, NOTHING)


def test_what_stages_show_leads_where_it_predicts_better():
    models = search_of().models

    assert models.weighed_chain is not None
    assert models.weighed_chain.share > 0.7
    assert models.leading is models.chain


@pytest.mark.parametrize("names", [("first.loss", "second.loss"), ("first", "second.loss")])
def test_what_observers_find_counts_as_numbers_do(names):
    assert search_of(names=names).models.leading.reach.tolist() == [1.0, 1.0, 1.0]


def test_a_study_that_is_minimised_is_the_same_upside_down():
    up, down = search_of().models.chain, search_of(sign=-1.0).models.chain

    torch.testing.assert_close(up.moments(X.squeeze(1)), down.moments(X.squeeze(1)))


@pytest.mark.parametrize("method", ["eeipu", "eeipu-careful"])
def test_without_observations_nothing_changes(method):
    search = search_of(names=())

    assert search.models.chain is None
    assert torch.equal(scores(search, method), scores(search, method, blind=True))


@pytest.mark.parametrize("method", ["eeipu-paper", "ei", "ms-carbo"])
def test_other_methods_do_not_look_at_what_stages_show(method):
    assert torch.equal(scores(search_of(), method), scores(search_of(names=()), method))


@pytest.mark.parametrize("method", ["eeipu", "eeipu-careful"])
def test_the_score_is_another_with_what_stages_show(method):
    search = search_of()

    seeing, blind = scores(search, method), scores(search, method, blind=True)

    assert not torch.allclose(seeing, blind)
    torch.testing.assert_close(blind, scores(search_of(names=()), method))


def test_what_says_nothing_does_not_count():
    """Numbers that have nothing to do with what follows, and vary much more."""
    study = study_of(names=())
    rng = np.random.default_rng(1)
    noisy = optuna.create_study(direction="maximize")
    for trial in study.get_trials():
        trial.user_attrs["observations"] = {"first": 100.0 * rng.random()}
        noisy.add_trial(trial)
    models = SearchModels(History.of(noisy, PIPELINE))

    assert models.weighed_chain is None or models.weighed_chain.share < 0.6


def test_what_the_last_stage_shows_is_the_objective():
    observed = search_of(names=("first", "second", "third.loss")).models.chain

    assert [node.stage for node in observed.nodes] == [0, 1, 2]


def test_alternatives_are_modelled_without_what_they_show():
    @stage(space={"x": Float(0, 1)})
    def one(data, *, x):
        return data + x

    @stage(space={"y": Float(0, 1)})
    def other(data, *, y):
        return data - y

    @stage(space={"z": Float(0, 1)})
    def last(value, *, z):
        return value - z**2

    pipeline = Pipeline([OneOf("model", [one, other]), last])
    study = Tuner(pipeline, budget=1e9, overhead=0.0, seed=0).run(
        0.0, max_trials=12, progress=False
    )

    assert all("observations" in trial.user_attrs for trial in study.trials)
    assert SearchModels(History.of(study, pipeline)).chain is None


def test_beside_running_trials_the_better_model_stands_for_both():
    running = np.random.default_rng(5).random((3, 3))
    search = search_of(running=running)

    beside = scores(search)

    assert torch.isfinite(beside).all()
    at_running = torch.from_numpy(running[0]).reshape(1, 1, 3)
    there = METHODS["eeipu"].score(search)(at_running, NOTHING[:1])
    alone = METHODS["eeipu"].score(search_of())(at_running, NOTHING[:1])
    assert there < alone


def test_running_trials_and_kept_outputs_lead_to_a_new_configuration():
    kept = {f"{i}-{k}" for i in range(24) for k in range(2)}
    for running in ((), np.random.default_rng(5).random((20, 3))):
        search = search_of(running=running)
        proposals = Proposals(search, METHODS["eeipu"], independent, 5, kept)

        (params,) = proposals.new(1)

        assert search.history.configurations.is_new(params)
        reason = proposals.reason(params)
        assert reason["by"] == "models"
        assert math.isfinite(reason["improvement"])
        assert math.isfinite(reason["std"])


def test_a_reason_is_what_the_leading_model_says():
    search = search_of()
    proposals = Proposals(search, METHODS["eeipu"], independent, 5, ())

    (params,) = proposals.new(1)

    point = torch.from_numpy(PIPELINE.cube.encode([params]))
    chain = search.models.leading
    assert isinstance(chain, StageChain)
    mean, _ = search.models.standard.in_units(*chain.moments(point))
    assert proposals.reason(params)["mean"] == pytest.approx(mean.item(), rel=1e-3)
