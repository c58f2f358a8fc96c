"""Problems with a stage that trains in steps: they run, resume, and declare what they cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eeipu import ASHA, FreezeThaw, StageCache, Tuner
from eeipu.algorithms.node_tasks import NodeTasks
from eeipu.benchmarks.learning_curves import distillation, segmentation
from eeipu.benchmarks.learning_curves.problem import CURVE_PROBLEMS, EVALUATION, load
from eeipu.benchmarks.segmentation.unet import Architecture
from eeipu.errors import ConfigurationError
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.resources import Resources
from eeipu.stages.running.worker import Job
from eeipu.studies.early_stopping.trial_paths import TrialPaths, counted_stages


@pytest.fixture(autouse=True)
def small(monkeypatch):
    tiny = segmentation.Size(9, 16, 16, Architecture(0.25, 2, 1), epochs=4)
    monkeypatch.setattr(segmentation, "SIZE", tiny)
    monkeypatch.setattr(distillation, "EPOCHS", 1)
    monkeypatch.setattr(distillation, "SETTINGS", replace(distillation.SETTINGS, teacher_epochs=1))


def middle(pipeline):
    return pipeline.cube.decode(np.full(len(pipeline.cube), 0.5))


def params_of(problem, stage):
    own = f"{stage.name}."
    chosen = middle(problem.pipeline)
    return {n.removeprefix(own): value for n, value in chosen.items() if n.startswith(own)}


def same(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    return np.array_equal(one, two)


@pytest.mark.parametrize("name", CURVE_PROBLEMS)
def test_a_training_that_was_saved_goes_on_as_if_it_had_not_stopped(name):
    if name == "distillation":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    problem = load(name)
    (stage,) = counted_stages(problem.pipeline)
    assert stage.steps == problem.steps
    given = problem.inputs
    for before in problem.pipeline.stages[: problem.pipeline.stages.index(stage)]:
        given = (before(*given, **params_of(problem, before)),)
    training, schedules = stage.training, stage.schedules(params_of(problem, stage))
    whole = training.evaluate(training.advance(training.init(*given), 0, 3, schedules))
    saved = training.save(training.advance(training.init(*given), 0, 1, schedules))
    back = training.load(saved, *given) if training.loads_inputs else training.load(saved)
    training.evaluate(back)  # which changes nothing
    assert same(training.evaluate(training.advance(back, 1, 3, schedules)), whole)


@pytest.mark.parametrize("name", ["segmentation", "distillation"])
def test_every_call_has_a_declared_cost_and_the_pipeline_a_value(name):
    if name == "distillation":
        pytest.importorskip("transformers")
    problem = load(name)
    run = problem.pipeline.run(middle(problem.pipeline), *problem.inputs)
    assert run.error is None
    assert np.isfinite(run.value)
    paths = TrialPaths(problem.pipeline, inputs_key(problem.inputs))
    plan = SearchPlan()
    node = plan.request("study", 0, paths(middle(problem.pipeline), problem.steps)).node
    tasks = NodeTasks(Job(problem.pipeline.stages, problem.inputs))
    costs = {}
    for each in node.ancestry():
        task = tasks.task(each, Resources())
        costs[task.call.stage.name, task.call.kind] = problem.cost_of(task)
    trained = counted_stages(problem.pipeline)[0].name
    assert costs.pop((trained, "evaluation")) == EVALUATION
    assert costs.pop((trained, "training")) == pytest.approx(problem.steps, rel=0.5)
    assert all(0.0 < cost < problem.steps for cost in costs.values())


@pytest.mark.parametrize("name", ["segmentation", "distillation"])
@pytest.mark.parametrize("rule", [FreezeThaw(), ASHA()])
def test_rules_train_it_in_virtual_time(name, rule):
    if name == "distillation":
        pytest.importorskip("transformers")
    problem = load(name)
    cache = StageCache()
    no_time = lambda _: 0.0  # noqa: E731
    pool = SimulatedPool(1, cache, problem.cost_of, thinking_s=no_time, driving_s=no_time)
    tuner = Tuner(
        problem.pipeline,
        direction=problem.direction,
        early_stopping=rule,
        executor=pool,
        cache=cache,
        seed=0,
    )
    study = tuner.run(*problem.inputs, max_trials=3, progress=False)
    assert len(study.trials) == 3
    assert all(trial.intermediate_values for trial in study.trials)
    assert tuner.spent == pytest.approx(pool.busy_s)


def test_an_epoch_of_the_student_costs_more_with_smaller_batches():
    pytest.importorskip("transformers")
    problem = load("distillation")
    small, large = (problem.step_cost(batch_size=size) for size in (10, 40))
    assert small > 1.0 > large


def test_a_problem_that_there_is_not_is_refused():
    with pytest.raises(ConfigurationError, match="no problem 'mnist'"):
        load("mnist")
