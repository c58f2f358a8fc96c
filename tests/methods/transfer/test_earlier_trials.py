"""What models take from earlier studies, and what they leave."""

import math

import numpy as np
import optuna
import pytest
import torch
from histories import PIPELINE, history_of, trial

from eeipu.cost_models import StageCostModel
from eeipu.methods.search_models import SearchModels
from eeipu.methods.transfer.earlier_trials import APART, MOST_TRIALS, EarlierTrials
from eeipu.models.objective import ObjectiveModel


def good(x, y):
    return math.sin(5 * x) + 2 * (y - 0.3) ** 2


def trials_of(n, seed, value=good, factor=1.0):
    rng = np.random.default_rng(seed)
    return [
        trial(x, y, value(x, y), stage_costs=[factor * (1 + 4 * x), factor * (0.2 + y), factor])
        for x, y in rng.random((n, 2))
    ]


def models_of(n, earlier=None, seed=0):
    return SearchModels(history_of(*trials_of(n, seed)), earlier=earlier)


def earlier_of(*studies, objectives=1):
    return EarlierTrials.of([history_of(*each) for each in studies], objectives)


def errors(models, seed=9):
    """Root mean squares of what the objective's and the costs' models do not predict."""
    points = np.random.default_rng(seed).random((60, 2))
    X = torch.from_numpy(points)
    truth = np.array([good(x, y) for x, y in points])
    mean = models.objective.gp.posterior(X)[0][0].numpy()
    rest = truth - models.standard.unit * mean
    costs, _ = models.costs.by_stage.log_cost_posterior(X)
    wrong = costs.numpy()[:, :2] - np.log(np.stack([1 + 4 * points[:, 0], 0.2 + points[:, 1]], 1))
    return float(np.std(rest)), float(np.sqrt((wrong**2).mean()))


def test_rows_say_which_study_they_are_from_and_the_present_one_is_nowhere():
    earlier = earlier_of(trials_of(4, 1), trials_of(3, 2))
    assert earlier.X.shape == (7, 4)
    assert earlier.X[:, 2].tolist() == [APART] * 4 + [0.0] * 3
    assert earlier.X[:, 3].tolist() == [0.0] * 4 + [APART] * 3
    whole = earlier.followed_by(np.array([[0.5, 0.25]]))
    assert whole[-1].tolist() == [0.5, 0.25, 0.0, 0.0]


def test_values_of_each_study_are_on_its_own_scale():
    earlier = earlier_of([trial(value=v) for v in (10.0, 20.0, 40.0)], [trial(value=0.5)])
    assert earlier.values[:, 0].tolist() == [-0.5, 0.0, 1.0, 0.0]


def test_directions_may_differ_and_the_best_trials_are_told():
    minimized = history_of(trial(value=3.0), trial(value=1.0), direction="minimize")
    earlier = EarlierTrials.of([minimized], 1)
    assert earlier.values[:, 0].tolist() == [-1.0, 1.0] or earlier.values[1] > earlier.values[0]
    assert [each.values for each in earlier.best] == [[1.0]]


def test_of_a_study_with_other_objectives_costs_alone_are_learnt():
    earlier = earlier_of(trials_of(3, 1), objectives=2)
    assert np.isnan(earlier.values).all()
    assert np.isfinite(earlier.stage_costs).all()


def test_the_best_of_very_many_trials_are_among_those_that_count():
    many = [trial(x=i / 400, value=float(i == 17)) for i in range(400)]
    earlier = earlier_of(many)
    assert len(earlier) == MOST_TRIALS
    assert earlier.values[:, 0].max() == 1.0


def test_without_trials_there_is_nothing_to_learn():
    assert EarlierTrials.of([], 1) is None
    assert EarlierTrials.of([history_of()], 1) is None
    strangers = optuna.create_study()
    strangers.add_trial(optuna.trial.create_trial(value=1.0))
    from eeipu.methods.history import History

    assert EarlierTrials.of([History.of(strangers, PIPELINE)], 1) is None


def test_models_of_few_trials_predict_far_better_with_a_study_of_the_same():
    """The earlier costs are three times as large: another machine."""
    earlier = earlier_of(trials_of(40, 1, factor=3.0))
    alone, learnt = errors(models_of(6)), errors(models_of(6, earlier))
    assert learnt[0] < 0.5 * alone[0]
    assert learnt[1] < 0.5 * alone[1]


def test_a_study_of_something_else_does_not_lead_astray():
    """Five histories: the errors with a wrong source are about those without one."""

    def other(x, y):
        return math.cos(9 * x * y) - 3 * x

    alone, misled = [], []
    for seed in range(5):
        costs = np.random.default_rng(seed).lognormal(0, 1, (40, 3)).tolist()
        params = [tuple(each.params.values()) for each in trials_of(40, 50 + seed)]
        wrong = [
            trial(x, y, other(x, y), stage_costs=paid)
            for (x, y), paid in zip(params, costs, strict=True)
        ]
        alone.append(errors(models_of(12, seed=seed)))
        misled.append(errors(models_of(12, earlier_of(wrong), seed=seed)))
    assert (np.mean(misled, axis=0) < 1.3 * np.mean(alone, axis=0)).all()


def test_of_two_studies_the_one_that_agrees_is_followed():
    wrong, right = trials_of(40, 2, lambda x, y: -good(x, y)), trials_of(40, 1)
    both, one = errors(models_of(8, earlier_of(wrong, right))), errors(models_of(8))
    assert both[0] < 0.7 * one[0]


def test_a_stage_that_was_never_executed_has_the_cost_of_the_earlier_study():
    X = np.random.default_rng(0).random((20, 3))
    X[:, 2] = APART
    costs = np.stack([1 + 4 * X[:, 0], 0.5 + X[:, 1]], axis=1)
    here = np.array([[0.2, 0.5, 0.0], [0.8, 0.5, 0.0]])
    known = np.array([[1.8, math.nan], [4.2, math.nan]])
    model = StageCostModel(
        torch.from_numpy(np.concatenate([X, here])),
        torch.from_numpy(np.concatenate([costs, known])),
        [(0,), (1,)],
        borrowed=20,
        study_columns=[2],
    )
    mean, std = model.log_cost_posterior(torch.tensor([[0.5, 0.1], [0.5, 0.9]]).double())
    assert mean[1, 1] - mean[0, 1] > 0.3
    assert (std[:, 1] > std[:, 0]).all()


def test_without_earlier_trials_a_model_is_what_it_was():
    X, y = np.random.default_rng(0).random((9, 2)), np.arange(9.0) / 9
    plain = ObjectiveModel(X, y, [(0,), (1,)])
    none = ObjectiveModel(X, y, [(0,), (1,)], borrowed=0, study_columns=[])
    assert torch.equal(plain.hyperparameters, none.hyperparameters)


@pytest.mark.parametrize("method", ["eeipu", "ei"])
def test_scores_have_their_closed_form_and_right_gradients_with_earlier_trials(method):
    from eeipu.methods.acquisition_gradients import ClosedFormEEIPU
    from eeipu.methods.budget import Budget
    from eeipu.methods.catalogue import METHODS
    from eeipu.methods.search_state import Search

    search = Search(
        history_of(*trials_of(6, 0)),
        Budget.of(100.0),
        3,
        6,
        0,
        earlier=earlier_of(trials_of(20, 1)),
    )
    score = METHODS[method].score(search)
    assert isinstance(score, ClosedFormEEIPU)
    X = torch.rand(5, 1, 2, dtype=torch.double)
    memoized = torch.zeros(5, 3, dtype=torch.bool)
    value, gradient = score.value_and_gradient(X, memoized)
    torch.testing.assert_close(value, score(X, memoized))
    assert gradient.shape == X.shape
    for column in range(2):
        shift = torch.zeros_like(X)
        shift[..., column] = 1e-6
        slope = (score(X + shift, memoized) - score(X - shift, memoized)) / 2e-6
        torch.testing.assert_close(slope, gradient[:, 0, column], rtol=1e-3, atol=1e-4)
    fixed = torch.tensor([True, False])
    rough = score.rank_completions(X[:, 0], fixed, memoized[0], X[:, 0])
    assert rough.shape == (5, 5)
    assert rough.isfinite().all()


def test_running_trials_are_believed_with_earlier_ones():
    models = models_of(6, earlier_of(trials_of(10, 1)))
    believer = models.objective.believing(torch.tensor([[0.5, 0.5]], dtype=torch.double))
    _, variance = believer.gp.posterior(torch.tensor([[0.5, 0.5]], dtype=torch.double))
    _, before = models.objective.gp.posterior(torch.tensor([[0.5, 0.5]], dtype=torch.double))
    assert variance.item() <= before.item()
