"""The laboratory of look-ahead, in which the models are known (benchmarks/look_ahead.py)."""

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

FOLDER = Path(__file__).parents[2] / "benchmarks"
SETTINGS = (3, 2, 2)


@pytest.fixture
def lab(monkeypatch):
    # The script sets these for its own process.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("look_ahead")


@pytest.fixture
def prior(lab):
    return import_module("known_prior")


def begun(prior, budget_left, *, seed=0, keeps=5):
    """A search after the common trials that has so much left of its budget."""
    problem = next(prior.problems(1, "equal", SETTINGS, 10.0, seed))
    runs = replace(problem, first=problem.first[:3]).begun(keeps)
    runs.budget = runs.first + budget_left
    return runs


def generator():
    return torch.Generator().manual_seed(0)


def test_reused_stages_cost_nothing(prior):
    costs = (torch.tensor([10.0, 20.0]), torch.tensor([3.0, 4.0, 5.0]), torch.tensor([0.5, 0.7]))
    chain = prior.Chain(costs)
    trial = 1 * 6 + 2 * 2 + 0  # the settings 1, 2 and 0
    left = chain.cost_left(chain.kept(torch.tensor([[trial]])))[0]
    assert left[trial].item() == pytest.approx(0.5)  # the last output is not reused
    assert left[trial + 1].item() == pytest.approx(0.7)
    assert left[1 * 6 + 0 * 2 + 1].item() == pytest.approx(3.0 + 0.7)
    assert left[0 * 6 + 2 * 2 + 0].item() == pytest.approx(10.0 + 5.0 + 0.5)
    nothing = chain.kept(torch.zeros(1, 0, dtype=torch.long))
    assert chain.cost_left(nothing)[0, trial].item() == pytest.approx(20.0 + 5.0 + 0.5)


def test_a_trial_is_charged_for_what_is_not_kept(prior):
    runs = begun(prior, 100.0)
    trial = int(runs.trials[0, 0])
    sibling = trial - trial % 2 + (1 - trial % 2)  # another setting of the last stage alone
    spent = float(runs.spent)
    runs.run(torch.tensor([sibling]))
    assert float(runs.spent) - spent == pytest.approx(float(runs.chain.costs[-1][sibling % 2]))


def test_only_the_best_trials_outputs_are_kept(prior):
    runs = begun(prior, 100.0, keeps=1)
    best = int(runs.trials[0, runs.shown[0].argmax()])
    for depth, flags in enumerate(runs.kept, start=1):
        assert flags.nonzero().tolist() == [[0, best // runs.chain.below(depth)]]


def test_beliefs_are_those_of_conditioning(prior):
    problem = next(prior.problems(1, "equal", SETTINGS, 10.0, 0))
    runs = begun(prior, 100.0)
    seen, prior_covariance = runs.trials[0], problem.covariance
    noisy = prior_covariance[seen][:, seen] + prior.NOISE * torch.eye(len(seen))
    weights = torch.linalg.solve(noisy, prior_covariance[seen])
    expected = prior_covariance - prior_covariance[:, seen] @ weights
    torch.testing.assert_close(runs.mean[0], runs.shown[0] @ weights)
    torch.testing.assert_close(runs.draws(1, generator())[1], expected)
    unseen = ~runs.seen[0]
    torch.testing.assert_close(runs.variance[0, unseen], expected.diagonal()[unseen])


def test_joint_draws_agree_with_what_has_been_seen(prior):
    runs = begun(prior, 100.0)
    drawn, _ = runs.draws(4, generator())
    torch.testing.assert_close(
        drawn[:, runs.trials[0]], runs.shown.expand(4, -1), atol=0.01, rtol=0.0
    )


def test_outputs_of_simulated_trials_are_kept_in_them_alone(prior):
    runs = begun(prior, 100.0)
    drawn, covariance = runs.draws(1, generator())
    ahead = runs.branches(drawn.repeat(2, 1), covariance)
    before = [flags[0].clone() for flags in runs.kept]
    new = (~before[0]).nonzero()[0]  # a setting of the first stage
    used = before[0].nonzero()[0]
    ahead.run(torch.cat([new, used]) * runs.chain.below(1))
    assert ahead.kept[0][0, new]
    assert not ahead.kept[0][1, new]
    assert all(torch.equal(flags[0], old) for flags, old in zip(runs.kept, before, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_when_one_trial_is_left_a_rollout_is_ei(lab, prior, seed):
    runs = begun(prior, 0.01, seed=seed)
    base = lab.Index(power=0.0)
    choice = lab.Rollout(base, draws=4096, actions=12).choose(runs, generator())
    gain = runs.log_improvement()[0].exp()
    assert gain[choice].item() == pytest.approx(gain.max().item(), abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_a_rollout_that_asks_for_much_certainty_is_its_rule(lab, prior, seed):
    runs = begun(prior, 5.0, seed=seed)
    base = lab.Index()
    rollout = lab.Rollout(base, draws=8, certainty=1e6)
    assert torch.equal(rollout.choose(runs, generator()), base.choose(runs, generator()))


def test_a_rollout_compares_candidates_of_each_depth_of_reuse(lab, prior):
    runs = begun(prior, 5.0)
    left = [flags[0] for flags in runs.kept]
    first = lab.Rollout(actions=1).first_trials(runs)
    depths = {
        sum(int(flags[int(at) // runs.chain.below(k + 1)]) for k, flags in enumerate(left))
        for at in first
    }
    unseen = (~runs.seen[0]).nonzero()[:, 0]
    assert depths == {
        sum(int(flags[int(at) // runs.chain.below(k + 1)]) for k, flags in enumerate(left))
        for at in unseen
    }


def test_a_fan_out_of_nearly_free_last_stages_opens_where_the_batch_is_best(lab):
    # Two prefixes. The first has the better single trial, the second four good ones whose gains
    # fall on different draws.
    gains = torch.zeros(4, 2, 4)
    gains[:, 0, 0] = 0.5
    gains[:, 1] = 1.5 * torch.eye(4)
    batches, first = lab.FanOut._batches(
        gains, gains.mean(dim=0), torch.tensor([10.0, 10.0]), torch.full((2, 4), 0.01), 1.0
    )
    assert batches[1] > batches[0]
    assert first[0] == 0


@pytest.mark.parametrize("z", [-12.0, -6.0, -4.9, -1.0, 0.0, 3.0])
def test_log_gain_is_that_of_a_standard_normal(prior, z):
    found = prior.log_gain(torch.tensor([z], dtype=torch.float64))
    exact, _ = quad(lambda t: t * norm.pdf(t - z), 0.0, 12.0, epsabs=0.0)
    assert found.item() == pytest.approx(math.log(exact), abs=0.01)
    assert prior.inverse_log_gain(found).item() == pytest.approx(z, abs=0.01)


def test_all_policies_end_at_their_budget(lab, prior):
    problem = next(prior.problems(1, "costly-early", (3, 3, 3), 7.0, 1))
    for name, policy in lab.policies(4).items():
        at_end, on_the_way, _ = problem.solved_by(policy)
        assert 0.0 <= at_end <= on_the_way, name
