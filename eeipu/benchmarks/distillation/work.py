"""Declared costs of the stages of distillation: operations and calls, at stated speeds.

Three parts are counted. Every weight that is used for a token takes a multiplication and an
addition, once in a forward pass and twice in a backward pass (Kaplan et al. 2020, arXiv 2001.08361,
section 2.1); padding counts as tokens. The softmax over the vocabulary is counted in addition. And
every call of a layer takes some time, no matter how small the batch. All parts depend on the
batches, so the batch size of the first stage changes the declared costs of all later stages.
Declared costs are the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eeipu.benchmarks.distillation.batches import Batch
from eeipu.benchmarks.distillation.corpus import Corpus
from eeipu.benchmarks.distillation.networks import Network
from eeipu.benchmarks.distillation.stages import Distillation, Settings

__all__ = [
    "CORE",
    "GPU",
    "Speed",
    "distillation_cost",
    "last_cost",
    "preprocessing_cost",
    "scoring_cost",
    "teacher_cost",
]

FORWARD = 2  # operations for each weight and token: a multiplication and an addition
EXPONENTIAL = 300  # operations for each entry of a softmax, by the time that it takes
TRAINING = 3  # the cost of a training step, in forward passes
SECONDS_PER_PAIR = 3e-4  # to tokenise a pair on one core, including the part that is cut off
SECONDS_PER_BATCH = 1e-4  # to pad a batch on one core


@dataclass(frozen=True)
class Speed:
    """The speed that defines the unit of declared costs.

    Attributes:
        operations: The number of floating-point operations in a unit.
        call: The cost of calling one layer of the encoder and one of the decoder in a forward
            pass, in units.
    """

    operations: float
    call: float


# A unit is about one second: of one core of a CPU, and of a large GPU, both in float32.
CORE = Speed(operations=7e10, call=2e-3)
GPU = Speed(operations=3e13, call=1e-3)


def preprocessing_cost(corpus: Corpus, settings: Settings, batch_size: int) -> float:
    """The cost of tokenising all pairs and making batches."""
    pairs = len(corpus.train) + len(corpus.validation) + settings.summarised
    return pairs * (SECONDS_PER_PAIR + SECONDS_PER_BATCH / batch_size)


def teacher_cost(work: Distillation, speed: Speed) -> float:
    """The cost of fine-tuning the teacher.

    Args:
        work: The input of the stage.
        speed: The speed that defines the unit.
    """
    settings = work.settings
    return settings.teacher_epochs * TRAINING * _forward(settings.teacher, work.train, speed)


def distillation_cost(work: Distillation, speed: Speed) -> float:
    """The cost of a stage of distillation; arguments as for `teacher_cost`."""
    settings = work.settings
    student, teacher = (
        _forward(network, work.train, speed) for network in (settings.student, settings.teacher)
    )
    return settings.epochs * (TRAINING * student + teacher)


def scoring_cost(work: Distillation, speed: Speed) -> float:
    """The cost of the validation loss and of writing summaries, token by token."""
    student, written = work.settings.student, work.summarised
    calls = len(written) * work.settings.summary_tokens * student.layers * speed.call
    return _forward(student, work.validation, speed) + _forward(student, written, speed) + calls


def last_cost(work: Distillation, speed: Speed) -> float:
    """The cost of the last stage: distillation and scoring."""
    return distillation_cost(work, speed) + scoring_cost(work, speed)


def _forward(network: Network, batches: Sequence[Batch], speed: Speed) -> float:
    """The cost of a forward pass over all batches."""
    encoder = network.encoder_weights * sum(batch.text.numel() for batch in batches)
    summaries = sum(batch.labels.numel() for batch in batches)
    operations = FORWARD * (encoder + network.decoder_weights * summaries)
    operations += EXPONENTIAL * network.vocabulary * summaries
    return operations / speed.operations + len(batches) * network.layers * speed.call
