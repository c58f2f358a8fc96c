"""The methods by name."""

import copy
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from optuna.trial import TrialState

from eeipu import INPUTS, ConfigurationError, Float, Pipeline, Tuner, stage
from eeipu.methods.baselines.per_cost import GittinsIndex
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS, eeipu, gittins_index, method_named
from eeipu.methods.history import History
from eeipu.methods.learning.fits import Fits
from eeipu.methods.search_state import Search

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


@pytest.fixture(scope="module")
def history():
    study = optuna.create_study(direction="minimize")
    rng = np.random.default_rng(0)
    for _ in range(8):
        trial = study.ask(PIPELINE.space)
        x, y = rng.random(2)
        study.tell(trial, x + y)
        del trial
    for trial in study.get_trials(deepcopy=False):
        trial.user_attrs["stage_costs"] = [1.0 + trial.params["prep.x"], None]
    return History.of(study, PIPELINE)


def search_of(history, spent_share=0.0, **arguments):
    """A search that has spent so much of its budget after the warm-up."""
    budget = history.spent / spent_share if spent_share else 1e9
    return Search(history, Budget(budget), n_initial=0, number=len(history), seed=0, **arguments)


def points(b=4):
    return torch.rand(b, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"no method 'eipu'.*'eeipu'"):
        method_named("eipu")


BRANCHES = {name: {"x": Float(0.0, 1.0)} for name in ("left", "right", "join")}


@pytest.mark.parametrize("name", [n for n, each in METHODS.items() if not each.needs_finite])
def test_methods_that_need_a_chain_refuse_a_graph_before_anything_runs(name):
    inputs = {"right": INPUTS, "join": ("left", "right")}
    graph = Pipeline.declare(BRANCHES, inputs=inputs)

    if name == "ms-bo":
        with pytest.raises(ConfigurationError, match=r"'ms-bo' needs a chain.*'right' gets"):
            Tuner(graph, budget=1.0, method=name)
    else:
        Tuner(graph, budget=1.0, method=name)


def test_a_chain_that_also_gets_the_inputs_again_is_one():
    METHODS["ms-bo"].check_suits(Pipeline.declare(BRANCHES, inputs={"join": ("right", INPUTS)}))


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.score is not None])
def test_every_method_scores_a_batch(name, history):
    score = METHODS[name].score(search_of(history))

    values = score(points(), torch.zeros(4, 2, dtype=torch.bool))

    assert values.shape == (4,)
    assert values.isfinite().all()


def chosen(method, pipeline, **arguments):
    tuner = Tuner(
        pipeline, budget=20.0, method=method, cache=None, n_initial=3, seed=0, **arguments
    )
    study = tuner.run(0.0, max_trials=6, progress=False)
    return [trial.params for trial in study.trials]


def test_multi_stage_bo_of_stages_that_pass_on_no_numbers_is_ei():
    @stage(space={"x": Float(0, 1)}, cost=lambda x: 1.0)
    def prep(data, *, x):
        return {"x": x}

    @stage(space={"y": Float(0, 1)}, cost=lambda y: 1.0)
    def fit(made, *, y):
        return -((made["x"] - 0.3) ** 2) - (y - made["x"]) ** 2

    pipeline = Pipeline([prep, fit])
    assert chosen("ms-bo", pipeline) == chosen("ei", pipeline)


def test_without_a_cache_ms_carbo_is_eeipu():
    """Where stages show numbers, EEIPU looks at these as well."""

    @stage(space={"x": Float(0, 1)}, cost=lambda x: 1.0 + x)
    def prep(data, *, x):
        return {"x": x}

    @stage(space={"y": Float(0, 1)}, cost=lambda y: 2.0 - y)
    def fit(made, *, y):
        return -((made["x"] - 0.3) ** 2) - (y - made["x"]) ** 2

    pipeline = Pipeline([prep, fit])
    assert chosen("ms-carbo", pipeline) == chosen("eeipu", pipeline)


# --- each method's formula, from a search's models and its account


@pytest.fixture(scope="module")
def spent_history():
    """Twelve trials that cost 4 to 6 each, of which the last reused its first stage."""
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(1)
    for number, (x, y) in enumerate(rng.random((12, 2))):
        costs = [3.0 + x, 1.0 + y]
        reused = number == 11
        study.add_trial(
            optuna.trial.create_trial(
                params={"prep.x": x, "fit.y": y},
                distributions=PIPELINE.space,
                value=np.sin(5 * x) + y,
                user_attrs={
                    "stage_keys": [f"{number}", f"{number}-"],
                    "stage_costs": [None, costs[1]] if reused else costs,
                    "memoized": [reused, False],
                    "charged": costs[1] + 0.25 if reused else sum(costs),
                },
            )
        )
    return History.of(study, PIPELINE)


BUDGET = 100.0
X = torch.rand(5, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(3))
NONE, FIRST = torch.zeros(5, 2, dtype=torch.bool), torch.tensor([[True, False]]).expand(5, 2)


def scores_of(name, history, masks=NONE, n_initial=4):
    search = Search(history, Budget(BUDGET), n_initial, number=12, seed=0)
    return search, METHODS[name].score(search)(X, masks)


def log_ei_of(search):
    return LogExpectedImprovement(search.models.objective, search.models.best_f)(X)


def log_mean_inverse(search, *, free=None, overhead=0.0):
    """`log E[1/C]` by plain sampling; the first stage costs `free` where that is given."""
    mean, std = search.models.costs.by_stage.log_cost_posterior(X.squeeze(-2))
    normal = torch.randn(
        100_000, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0)
    )
    costs = (mean + std * normal).exp()
    if free is not None:
        costs[..., 0] = free
    return (1.0 / (costs.sum(-1) + overhead)).mean(0).log()


@pytest.mark.parametrize(("name", "free"), [("eeipu", 0.25), ("eeipu-paper", 0.1)])
def test_eeipu_is_ei_times_the_cooled_inverse_of_what_is_left_to_pay(name, free, spent_history):
    warm_up = spent_history.spent_by(4)
    cooling = (BUDGET - spent_history.spent) / (BUDGET - warm_up)

    for masks, cost in ((NONE, None), (FIRST, free)):
        search, scores = scores_of(name, spent_history, masks)
        expected = log_ei_of(search) + cooling * log_mean_inverse(search, free=cost)
        torch.testing.assert_close(scores, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "counted"), [("eeipu", 2.5), ("eeipu-careful", 2.5), ("eeipu-paper", 0.0)]
)
def test_choosing_costs_too_but_for_the_paper(name, counted, spent_history):
    """What is free to run again is not free: another suggestion has to be paid for."""
    budget = Budget(BUDGET, overhead=2.5)
    search = Search(spent_history, budget, 4, number=12, seed=0)
    scores = METHODS[name].score(search)(X, NONE)

    expected = log_ei_of(search) + search.cooling * log_mean_inverse(search, overhead=counted)
    torch.testing.assert_close(scores, expected, rtol=0, atol=2e-3)


def test_a_careful_search_without_a_budget_can_pay_for_everything(spent_history):
    search = Search(spent_history, Budget(), 4, number=12, seed=0)
    careful, careless = (
        METHODS[name].score(search)(X, NONE) for name in ("eeipu-careful", "eeipu")
    )
    assert search.cooling == 1.0
    torch.testing.assert_close(careful, careless)


def test_a_price_is_compared_with_the_cost_of_choosing_too(spent_history):
    free, paid = (
        gittins_index(Search(spent_history, budget, 4, number=12, seed=0), 1e-2)(X, NONE)
        for budget in (Budget(BUDGET), Budget(BUDGET, overhead=2.5))
    )
    assert (paid < free).all()


def test_eeipu_as_published_models_a_stages_cost_by_its_own_inputs(spent_history):
    search, _ = scores_of("eeipu-paper", spent_history)
    assert eeipu(search, is_published=True).cost.cost_model.columns == [(0,), (1,)]


def test_careful_eeipu_counts_the_chance_to_pay(spent_history):
    search, careless = scores_of("eeipu", spent_history)
    _, careful = scores_of("eeipu-careful", spent_history)
    torch.testing.assert_close(careful, careless)  # plenty is left

    poor = Search(spent_history, Budget(spent_history.spent + 4.5), 4, number=12, seed=0)
    mean = search.models.costs.by_stage.log_cost_posterior(X.squeeze(-2))[0].exp().sum(-1)
    added = METHODS["eeipu-careful"].score(poor)(X, NONE) - METHODS["eeipu"].score(poor)(X, NONE)
    assert ((added.exp() > 0.5) == (mean < 4.5)).all()


def test_ei_is_blind_to_costs(spent_history):
    search, scores = scores_of("ei", spent_history, FIRST)

    torch.testing.assert_close(scores, log_ei_of(search))


def test_eips_divides_by_the_cost_of_a_whole_trial(spent_history):
    search, scores = scores_of("eips", spent_history, FIRST)

    mean, std = (
        part.squeeze(-1) for part in search.models.costs.total.log_cost_posterior(X.squeeze(-2))
    )
    torch.testing.assert_close(scores, log_ei_of(search) - mean + 0.5 * std**2)


def test_carbos_exponent_is_the_share_left_after_an_eighth_of_the_budget(spent_history):
    search, scores = scores_of("carbo", spent_history, FIRST)

    alpha = (BUDGET - spent_history.spent) / (BUDGET - BUDGET / 8)
    mean = search.models.costs.total.log_cost_posterior(X.squeeze(-2))[0].squeeze(-1)
    torch.testing.assert_close(scores, log_ei_of(search) - alpha * mean)


def test_carbos_exponent_begins_after_the_warm_up_that_it_was_given(spent_history):
    given = replace(spent_history, ended=tuple(map(copy.deepcopy, spent_history.ended)))
    for trial in given.ended[:3]:
        trial.user_attrs["warm_up"] = True
    first = given.spent_by(0)
    assert first > BUDGET / 8
    search, scores = scores_of("carbo", given, FIRST)

    alpha = (BUDGET - given.spent) / (BUDGET - first)
    mean = search.models.costs.total.log_cost_posterior(X.squeeze(-2))[0].squeeze(-1)
    torch.testing.assert_close(scores, log_ei_of(search) - alpha * mean)


def test_ms_carbo_is_blind_eeipu(spent_history):
    search, scores = scores_of("ms-carbo", spent_history, FIRST)

    expected = log_ei_of(search) + search.cooling * log_mean_inverse(search)
    torch.testing.assert_close(scores, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("is_limited", [True, False])
def test_pbgi_solves_for_the_value_worth_the_cost(is_limited, spent_history):
    search = Search(spent_history, Budget(BUDGET) if is_limited else Budget(), 4, number=12, seed=0)
    index = METHODS["pbgi"].score(search)(X, FIRST)

    mean, std = (
        part.squeeze(-1) for part in search.models.costs.total.log_cost_posterior(X.squeeze(-2))
    )
    unit = search.models.objective.scale
    first = sum(trial.user_attrs["charged"] for trial in spent_history.ended[:4])
    price = 2.5 * unit / (BUDGET - first) if is_limited else 1e-4 * unit / search.mean_cost
    gain = torch.stack(
        [
            LogExpectedImprovement(search.models.objective, g)(x[None])
            for g, x in zip(index, X, strict=True)
        ]
    )
    expected = np.log(price) + mean + 0.5 * std**2
    torch.testing.assert_close(gain.squeeze(-1), expected, rtol=0, atol=1e-6)


def test_lambo_maximises_a_bound_of_two_standard_deviations(spent_history):
    search, scores = scores_of("lambo", spent_history)

    posterior = search.models.objective.posterior(X)
    expected = posterior.mean.flatten() + 2.0 * posterior.variance.sqrt().flatten()
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.score is not None])
def test_what_is_running_tempts_less(name, spent_history):
    running = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params={"prep.x": float(X[0, 0, 0]), "fit.y": float(X[0, 0, 1])},
        distributions=PIPELINE.space,
    )
    beside = replace(spent_history, running=(running,))

    alone, after = (scores_of(name, h)[1] for h in (spent_history, beside))

    assert after[0] < alone[0]


def test_random_grids_repeat_values_from_the_first_trial_on_and_never_a_configuration():
    tuner = Tuner(PIPELINE, budget=1e9, method="random-grid", seed=0)
    seen = []
    for _ in range(30):  # the grid has 25
        suggestion = tuner.ask()
        tuner.tell(suggestion, 0.0, stage_costs=[1.0, 1.0])
        seen.append(tuple(suggestion.params.values()))

    assert len(set(seen)) == 30
    assert sorted({x for x, _ in seen[:25]}) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_eeipu_prefers_what_is_memoized_and_ei_does_not_care(history):
    masks = torch.tensor([[False, False], [True, False]])
    X = points(1).expand(2, 1, 2)

    eeipu, ei = (METHODS[name].score(search_of(history))(X, masks) for name in ("eeipu", "ei"))

    assert eeipu[1] > eeipu[0]
    assert ei[1] == ei[0]


def test_models_are_fitted_when_they_are_used_and_go_on_from_there(history):
    search = search_of(history)
    assert search.models.fits.hyperparameters == {}

    METHODS["ei"].score(search)
    assert set(search.models.fits.hyperparameters) == {"objective"}

    METHODS["eeipu"].score(search)
    again = search_of(history, fits=Fits(search.models.fits.hyperparameters))
    torch.testing.assert_close(
        again.models.objective.posterior(points()).mean,
        search.models.objective.posterior(points()).mean,
        rtol=1e-2,
        atol=1e-2,
    )


def failing_history(direction="minimize"):
    """Trials of which those with a large x have failed."""
    study, rng = optuna.create_study(direction=direction), np.random.default_rng(0)
    for x, y in rng.random((24, 2)):
        trial = optuna.trial.create_trial(
            params={"prep.x": x, "fit.y": y},
            distributions=PIPELINE.space,
            value=x + y if x < 0.6 else None,
            state=TrialState.COMPLETE if x < 0.6 else TrialState.FAIL,
            user_attrs={"stage_costs": [1.0 + x, 1.0], "error": "ValueError: too large"},
        )
        study.add_trial(trial)
    return History.of(study, PIPELINE)


@pytest.mark.parametrize(
    "name", [n for n, m in METHODS.items() if m.score is not None and n != "pbgi"]
)
def test_methods_leave_a_region_that_fails(name):
    """The objective grows into the region that fails."""
    search = search_of(failing_history("maximize"))
    X = points(256)

    score = METHODS[name].score(search)(X, torch.zeros(256, 2, dtype=torch.bool)).detach()

    assert X[score.argmax(), 0, 0] < 0.7


def test_a_price_is_paid_for_failures_too():
    """An index that is earned half of the time is that of twice the price."""
    history = failing_history()
    models, X = search_of(history).models, points()
    chance = models.chances.feasibility.log_probability(X.squeeze(-2)).exp()
    free = torch.zeros(4, 2, dtype=torch.bool)

    index = gittins_index(search_of(history), 0.1)(X, free)

    for i in range(4):
        sure = GittinsIndex(
            models.believer,
            models.costs.by_stage,
            price=0.1 / chance[i].item(),
            memoized_cost=search_of(history).load_cost + 1e-9,
        )
        assert sure.score(X, free)[i].item() == pytest.approx(index[i].item(), rel=1e-6)
