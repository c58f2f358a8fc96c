"""The distillation problem as a whole."""

import math
from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers")

from eeipu import StageCache, Tuner
from eeipu.benchmarks.distillation import corpus, work
from eeipu.benchmarks.distillation.batches import Batch
from eeipu.benchmarks.distillation.networks import Network, tokenizer
from eeipu.benchmarks.distillation.problem import paper, problem, problem_of
from eeipu.benchmarks.distillation.stages import Distillation
from eeipu.errors import ConfigurationError

TRAINING = {"lr": 3e-3, "weight_decay": 0.01}
BASE = {
    "preprocess.batch_size": 20,
    **{f"teacher.{name}": value for name, value in TRAINING.items()},
    **{
        f"distil_{k}.{name}": value
        for k in (1, 2, 3)
        for name, value in {**TRAINING, "temperature": 0.8}.items()
    },
}
MOVED = {"batch_size": 12, "lr": 1e-2, "weight_decay": 0.5, "temperature": 0.2}


@pytest.fixture(scope="module")
def smoke():
    return problem("smoke")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return StageCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def base(smoke, cache):
    """The run at the base, with every stage's output kept."""
    return smoke.pipeline.run(BASE, *smoke.inputs, cache=cache)


@pytest.mark.parametrize("parameter", BASE)
def test_every_tuned_hyper_parameter_changes_the_objective(smoke, cache, base, parameter):
    moved = BASE | {parameter: MOVED[parameter.split(".")[1]]}
    run = smoke.pipeline.run(moved, *smoke.inputs, cache=cache)
    assert run.error is None
    assert run.value != base.value


def test_the_space_is_five_stages_of_twelve_hyper_parameters(smoke):
    assert smoke.pipeline.stage_names == (
        "preprocess",
        "teacher",
        "distil_1",
        "distil_2",
        "distil_3",
    )
    assert set(smoke.pipeline.space) == set(BASE)


def test_a_run_on_kept_outputs_gives_what_a_fresh_one_gives(smoke, cache, base):
    parameter = {"distil_3.temperature": 0.4}
    resumed = smoke.pipeline.run(BASE | parameter, *smoke.inputs, cache=cache)
    fresh = smoke.pipeline.run(BASE | parameter, *smoke.inputs)

    assert resumed.memoized == [True] * 4 + [False]
    assert resumed.metrics == fresh.metrics
    assert fresh.memoized == [False] * 5


def test_the_value_is_the_validation_loss_and_rouge_is_reported(smoke, base):
    assert base.value == base.metrics["validation_loss"] > 0
    assert 0 <= base.metrics["rouge_l"] <= 1
    assert smoke.direction == "minimize"


def test_the_seed_changes_the_value(smoke, base):
    other = problem("smoke", seed=1)
    run = other.pipeline.run(BASE, *other.inputs)
    assert run.error is None
    assert run.value != base.value


def _declared(batch_size):
    """What each stage declares, behind stages that have prepared its input."""
    declared = problem("smoke", cost="declared")
    first, *later = declared.pipeline.stages
    work_done = first(*declared.inputs, batch_size=batch_size)
    costs = [first.declared_cost({"batch_size": batch_size}, declared.inputs)]
    return costs + [stage.declared_cost(_of(stage.name), [work_done]) for stage in later]


def test_declared_costs_are_the_work(smoke):
    costs = _declared(10)
    assert costs[2] == costs[3] < costs[4]
    assert [stage.declared_cost(_of(stage.name)) for stage in smoke.pipeline.stages] == [None] * 5


def test_small_batches_cost_more_in_every_stage():
    for small, large in zip(_declared(10), _declared(40), strict=True):
        assert small > large > 0


def test_the_work_is_two_operations_a_weight_and_token_forward_and_four_backward(padded):
    # An attention is 4 * 4 * 4 weights, a feed-forward layer 2 * 4 * 8, the output 4 * 10.
    text, summary = 2 * 5 * (64 + 64), 2 * 3 * (2 * 64 + 64 + 40)
    forward = 2 * (text + summary) + work.EXPONENTIAL * 2 * 3 * 10
    speed = work.Speed(operations=2.0, call=0.0)

    assert work.teacher_cost(padded, speed) == 3 * forward / 2
    assert work.distillation_cost(padded, speed) == 4 * forward / 2
    assert work.scoring_cost(padded, speed) == 2 * forward / 2
    assert work.last_cost(padded, speed) == 6 * forward / 2


def test_every_call_of_a_layer_costs(padded):
    speed = work.Speed(operations=math.inf, call=1.0)
    thrice = replace(padded, train=padded.train * 3)

    assert work.teacher_cost(padded, speed) == 3
    assert work.teacher_cost(thrice, speed) == 9
    assert work.distillation_cost(thrice, speed) == 12
    assert work.scoring_cost(thrice, speed) == 2 + padded.settings.summary_tokens


@pytest.fixture
def padded():
    """A batch of two pairs, padded to five tokens and to three, for a small network."""
    network = Network(width=4, inner=8, layers=1, heads=2, vocabulary=10)
    settings = replace(problem("smoke").inputs[1], teacher=network, student=network)
    text, labels = torch.ones(2, 5), torch.ones(2, 3)
    batches = (Batch(text, text, labels),)
    return Distillation(settings, batches, batches, batches)


def _of(stage):
    return {
        name.split(".")[1]: value for name, value in BASE.items() if name.startswith(f"{stage}.")
    }


def test_a_tuner_tunes_it():
    smoke = problem("smoke", cost="declared")
    tuner = Tuner(smoke.pipeline, budget=10.0, direction=smoke.direction, n_initial=2, seed=0)
    study = tuner.run(*smoke.inputs, max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_the_cpu_preset_has_a_teacher_of_half_a_million_weights_and_a_smaller_student():
    settings = problem("cpu").inputs[1]
    student, teacher = (
        sum(weight.numel() for weight in network.make().parameters())
        for network in (settings.student, settings.teacher)
    )
    assert 0.4e6 < teacher < 0.6e6
    assert 2.5 < teacher / student < 4


def test_unknown_presets_and_costs_are_named(smoke):
    with pytest.raises(ConfigurationError, match="'huge'"):
        problem("huge")
    with pytest.raises(ConfigurationError, match="'guessed'"):
        problem("smoke", cost="guessed")


def test_the_paper_preset_distils_pretrained_networks(tmp_path):
    networks = {}
    for name, width in (("teacher", 24), ("student", 16)):
        Network(width, 32, 1, 2, 1024).make().save_pretrained(tmp_path / name)
        networks[name] = str(tmp_path / name)
    tokenizer().save_pretrained(networks["student"])
    size = paper(**networks, corpus=corpus.docstrings, pairs=(24, 8))
    assert (problem_of(size).budget, problem_of(size, cost="declared").budget) == (25_000.0, None)

    published = problem_of(size)
    run = published.pipeline.run(
        {name: 1e-4 if name.endswith("lr") else value for name, value in BASE.items()},
        *published.inputs,
    )

    assert run.error is None
    assert [stage.num_gpus for stage in published.pipeline.stages] == [0, 1, 1, 1, 1]
    assert published.pipeline.space["teacher.lr"].low == 1e-5
    assert published.pipeline.space["teacher.lr"].high == 1e-3


def test_the_paper_preset_asks_for_its_articles(monkeypatch):
    asked = []

    class Library:
        @staticmethod
        def load_dataset(*arguments, **keywords):
            asked.append((arguments, keywords))
            raise ConnectionError("no network")

    monkeypatch.setattr(corpus, "library", lambda name: Library)
    with pytest.raises(ConfigurationError, match="abisee/cnn_dailymail"):
        problem("paper")
    assert asked == [(("abisee/cnn_dailymail", "3.0.0"), {"split": "train"})]
