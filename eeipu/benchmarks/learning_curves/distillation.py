"""The distillation problem with its three stages as one training in epochs.

Batches, networks, losses and ranges are those of `eeipu.benchmarks.distillation`. The teacher is a
plain stage in front. The student goes through the three stages of distillation one after the other,
nine epochs each, with a learning rate, a weight decay and a temperature for each stage. The
objective is the validation loss.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from eeipu.benchmarks.distillation import work
from eeipu.benchmarks.distillation.corpus import docstrings
from eeipu.benchmarks.distillation.networks import Network, device
from eeipu.benchmarks.distillation.problem import LEAST_TEMPERATURE, NEW_LR
from eeipu.benchmarks.distillation.scoring import validation_loss
from eeipu.benchmarks.distillation.stages import (
    Distillation,
    Settings,
    distil,
    fine_tune,
    preprocess,
)
from eeipu.benchmarks.distillation.training import Checkpoint, begin, restored
from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution, Float, Int
from eeipu.stages.decorator import stage
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.schedules import Piecewise
from eeipu.stages.searchable_schedules import Searchable

__all__ = ["problem"]

STAGES = 3
EPOCHS = 9  # of each stage
AVERAGE_BATCH = 25  # declared costs are in epochs with batches of this size

SETTINGS = Settings(
    teacher=Network(width=96, inner=192, layers=1, heads=4, vocabulary=1024),
    student=Network(width=64, inner=128, layers=1, heads=4, vocabulary=1024),
    tokenizer=None,
    text_tokens=16,
    summary_tokens=12,
    teacher_epochs=6,
    epochs=1,
    summarised=1,  # nobody asks for summaries here
)


def problem() -> CurveProblem:
    """The problem: 27 epochs of the student, behind 6 of the teacher.

    Raises:
        MissingExtraError: `transformers` is not installed.
    """
    corpus = docstrings(80, 60)

    @cache
    def batches(batch_size: int) -> Distillation:
        return preprocess(corpus, SETTINGS, batch_size=batch_size)

    def epoch_cost(batch_size: int, **_: float) -> float:
        return work.distillation_cost(batches(batch_size), work.CORE) / unit

    def teacher_cost(batch_size: int, **_: float) -> float:
        return work.teacher_cost(batches(batch_size), work.CORE) / unit

    def batching_cost(batch_size: int) -> float:
        return work.preprocessing_cost(corpus, SETTINGS, batch_size) / unit

    unit = work.distillation_cost(batches(AVERAGE_BATCH), work.CORE)
    lr, weight_decay = Float(*NEW_LR, log=True), Float(1e-4, 0.8, log=True)
    student = {
        "lr": _each(lr),
        "weight_decay": _each(weight_decay),
        "temperature": _each(Float(LEAST_TEMPERATURE, 1.0)),
    }
    training = Training(_begin, _advance, _loss, _save, _load)
    stages = [
        stage(name="preprocess", space={"batch_size": Int(10, 40)}, version="1")(preprocess),
        stage(name="teacher", space={"lr": lr, "weight_decay": weight_decay}, version="1")(
            fine_tune
        ),
        iterative(training, student, STAGES * EPOCHS, name="student", version="1"),
    ]
    return CurveProblem(
        "distillation",
        Pipeline(stages, name="distillation"),
        (corpus, SETTINGS),
        "minimize",
        steps=STAGES * EPOCHS,
        stage_costs={"preprocess": batching_cost, "teacher": teacher_cost},
        step_cost=epoch_cost,
    )


def _each(distribution: Distribution) -> Searchable:
    """A hyper-parameter with a value for each stage of distillation."""
    ends = [EPOCHS * k for k in range(1, STAGES)]
    return Searchable(Piecewise, [distribution] * STAGES, ends)


def _begin(given: Distillation) -> Distillation:
    return replace(given, student=begin(given.settings.student, given.settings.seed))


def _advance(
    state: Distillation, start: int, stop: int, schedules: Mapping[str, Any]
) -> Distillation:
    for step in range(start, stop):
        state = distil(state, **{name: schedule(step) for name, schedule in schedules.items()})
    return state


def _loss(state: Distillation) -> float:
    assert state.student is not None
    model = restored(state.settings.student, state.student.weights)
    return validation_loss(model, [batch.to(device()) for batch in state.validation])


def _save(state: Distillation) -> Checkpoint | None:
    return state.student


def _load(saved: Checkpoint, given: Distillation) -> Distillation:
    return replace(given, student=saved)
