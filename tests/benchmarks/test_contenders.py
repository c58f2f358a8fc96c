"""Who takes part in a comparison, and what can be changed in them."""

import pytest
import torch
from optuna.samplers import GPSampler, TPESampler
from toys import Toy, config

from eeipu import Tuner
from eeipu.acquisition import LogCostFactor
from eeipu.benchmarks.ablations import Ablation, CommonSamples
from eeipu.benchmarks.contenders import OPTUNA, Contender
from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS, method_named
from eeipu.methods.history import History
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import independent
from eeipu.sampler import EEIPUSampler


@pytest.mark.parametrize(
    "text",
    [
        *METHODS,
        *OPTUNA,
        "eeipu+cache",
        "tpe+cache+top-q=1",
        "eeipu+cache+cooling=off+epsilon=0.1",
        "eeipu+cache+cost-inputs=own+samples=common+top-q=all+design=independent",
        "ei+design=none",
        "eeipu+cache+n-initial=usual+polishing=on",
        "eeipu+cache+stages=off",
    ],
)
def test_contenders_read_as_they_are_written(text):
    assert str(Contender.parse(text)) == text
    assert Contender.parse(text) == Contender.parse(f" {text} ")


def test_a_contender_is_a_method_with_or_without_a_cache():
    assert Contender.parse("ei") == Contender("ei", cached=False)
    assert Contender.parse("ei+cache") == Contender("ei", cached=True)
    assert Contender.parse("ei").top_q == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ei+cash", r"'ei\+cash': after a method.*'\+cash'"),
        ("anneal", "no method 'anneal'.*'tpe'"),
        ("eeipu+heat=1", "no change 'heat'.*'cooling'"),
        ("eeipu+cooling=-1", "'cooling' does not take '-1'.*'off'"),
        ("eeipu+epsilon=0", "'epsilon' does not take '0'"),
        ("eeipu+cost-inputs=all", "'cost-inputs' does not take 'all'"),
        ("eeipu+samples=few", "'samples' does not take 'few'"),
        ("eeipu+top-q=0", "'top-q' does not take '0'"),
        ("eeipu+design=grid", "'design' does not take 'grid'.*'prefix-sharing'"),
        ("eeipu+n-initial=0", "'n-initial' does not take '0'.*'usual'"),
        ("eeipu+stages=blind", "'stages' does not take 'blind'.*'on'"),
        ("eeipu+polishing=yes", "'polishing' does not take 'yes'.*'on'"),
        ("gp+n-initial=4", r"'gp\+n-initial=4'.*only top-q"),
        ("ei+cache+cooling=off", r"'\+cooling=off' after 'ei'.*in 'eeipu' only"),
        ("tpe+cooling=off", r"'tpe\+cooling=off'.*only top-q"),
        ("gp+design=none", r"'gp\+design=none'.*only top-q"),
    ],
)
def test_what_is_no_contender_is_told(text, message):
    with pytest.raises(ConfigurationError, match=message):
        Contender.parse(text)


def sampler(text):
    return Contender.parse(text).sampler(Toy().pipeline, budget=50.0, n_initial=4, seed=0)


def test_samplers_are_optuna_s_or_eeipu_s():
    assert isinstance(sampler("tpe"), TPESampler)
    assert isinstance(sampler("gp+cache"), GPSampler)
    ours = sampler("carbo")
    assert isinstance(ours, EEIPUSampler)
    assert (ours.method.name, ours.n_initial, ours.budget.total) == ("carbo", 4, 50.0)


def test_a_warm_up_of_its_own_has_its_own_length():
    lengths = [
        Contender.parse(f"eeipu{change}").own_n_initial(given)
        for change, given in (
            ("", 5),
            ("", None),
            ("+n-initial=3", 5),
            ("+n-initial=3", None),
            ("+n-initial=usual", 5),
        )
    ]

    assert lengths == [5, None, 3, 3, None]
    usual = Contender.parse("tpe").sampler(Toy().pipeline, budget=1.0, n_initial=None, seed=0)
    assert usual._n_startup_trials == 10


def test_polishing_can_be_let_in():
    assert sampler("eeipu").method.seeks_news
    assert not sampler("eeipu+polishing=on").method.seeks_news


def test_top_q_and_the_design_are_the_sampler_s():
    assert sampler("eeipu+top-q=1").top_q == 1
    assert sampler("eeipu+top-q=all").top_q > 10**6
    assert sampler("eeipu+design=independent").method.design is independent
    assert sampler("eeipu").method is METHODS["eeipu"]


@pytest.fixture(scope="module")
def search():
    """A search after a few trials, whose cost of reuse and cooling are neither 1 nor 0."""
    tuner = Tuner(Toy().pipeline, budget=100.0, method="random", n_initial=4, seed=0)
    tuner.enqueue(config(x=0.25, y=0.5))
    tuner.run(0.0, max_trials=7, progress=False)
    return Search(History.of(tuner.study, tuner.pipeline), Budget(100.0), 4, 7, 0)


def scored(search, **changes):
    changes = {name.replace("_", "-"): value for name, value in changes.items()}
    method = Ablation.parse(changes).applied_to(method_named("eeipu"))
    X = torch.tensor([[[0.3, 0.6, 0.25, 0.4]], [[0.9, 0.1, 0.75, 0.6]]], dtype=torch.double)
    return method.score(search)(X, torch.tensor([[True, False, False]] * 2))


def test_nothing_changed_is_eeipu_that_does_not_look_at_stages(search):
    expected = scored(search, stages="off")
    torch.testing.assert_close(
        scored(search, cost_inputs="chosen", samples="independent", epsilon="load"), expected
    )


@pytest.mark.parametrize(
    "change",
    [
        {"cooling": "off"},
        {"cooling": "0"},
        {"epsilon": "2.5"},
        {"samples": "common"},
        {"cost_inputs": "upstream"},
    ],
)
def test_every_change_changes_the_acquisition(search, change):
    # The costs are constant, and so surely known that how they are sampled hardly matters.
    blind = scored(search, stages="off")
    assert not torch.allclose(scored(search, **change), blind, rtol=1e-10, atol=0.0)


def test_what_stages_show_can_be_left_out(search):
    assert search.models.weighed_chain is not None
    assert not torch.allclose(scored(search, stages="off"), scored(search))
    assert torch.equal(scored(search, stages="on"), scored(search))
    paper = method_named("eeipu-paper")
    assert Ablation.parse({"stages": "off"}).applied_to(paper) is paper


def test_cooling_is_the_power_of_the_expected_inverse_cost(search):
    at = [scored(search, cooling=text) for text in ("0", "0.5", "1")]
    torch.testing.assert_close(at[2] - at[1], at[1] - at[0])
    torch.testing.assert_close(at[2], scored(search, cooling="off"))
    assert 0 < search.cooling < 1


def test_common_samples_move_all_stages_together(search):
    kinds = [kind(search.models.costs.by_stage) for kind in (CommonSamples, LogCostFactor)]
    like = torch.zeros(2, 3, dtype=torch.double)
    common, own = (kind._samples(like) for kind in kinds)
    assert common.shape == own.shape
    assert torch.equal(common[:, 0], common[:, 2])
    assert not torch.equal(own[:, 0], own[:, 2])


def test_prescribed_cost_inputs_are_those_of_the_model(search):
    model = Ablation.parse({"cost-inputs": "own"})._costs(search)
    assert isinstance(model, StageCostModel)
    assert model.columns == [(0,), (1, 2), (3,)]


def test_a_contender_has_one_name():
    one = Contender.parse("eeipu+cooling=off+cache+top-q=1")
    assert str(one) == str(Contender.parse("eeipu+top-q=1+cooling=off+cache+cache"))
    with pytest.raises(ConfigurationError, match="changes something twice"):
        Contender.parse("eeipu+top-q=1+top-q=2")


def test_changes_are_finite():
    with pytest.raises(ConfigurationError, match="'cooling' does not take 'inf'"):
        Contender.parse("eeipu+cooling=inf")
