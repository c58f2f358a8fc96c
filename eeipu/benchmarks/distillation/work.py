"""What a stage declares to cost: its floating-point operations and calls, at stated speeds.

A multiplication and an addition for every weight that a token meets, once forward and twice
backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), padding included; the softmax over the
vocabulary; and for every layer of every batch what it takes to call it, however little it computes.
All depend on the batches, and so the batch size of the first stage changes what all later ones
declare. No machine is asked: the declared costs of a call are the same everywhere.
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

FORWARD = 2  # operations a weight and token: a multiplication and an addition
EXPONENTIAL = 300  # operations as long as a token's share of the softmaxes of a pass, about
TRAINING = 3  # forward passes that a step of training is worth
SECONDS_PER_PAIR = 3e-4  # to number its tokens on one core of a CPU, those behind a cut as well
SECONDS_PER_BATCH = 1e-4  # to pad one, likewise


@dataclass(frozen=True)
class Speed:
    """What a unit of declared cost is.

    Attributes:
        operations: Floating-point operations in it.
        call: Units that a layer of the encoder and one of the decoder take in a forward pass,
            however few the tokens.
    """

    operations: float
    call: float


# A unit is about a second: of one core of a CPU, and of a large GPU, in float32 and rounded.
CORE = Speed(operations=7e10, call=2e-3)
GPU = Speed(operations=3e13, call=1e-3)


def preprocessing_cost(corpus: Corpus, settings: Settings, batch_size: int) -> float:
    """Of the tokens of all pairs, and of their batches."""
    pairs = len(corpus.train) + len(corpus.validation) + settings.summarised
    return pairs * (SECONDS_PER_PAIR + SECONDS_PER_BATCH / batch_size)


def teacher_cost(work: Distillation, speed: Speed) -> float:
    """Of fine-tuning the teacher.

    Args:
        work: What the stage gets.
        speed: What a unit of cost is.
    """
    settings = work.settings
    return settings.teacher_epochs * TRAINING * _forward(settings.teacher, work.train, speed)


def distillation_cost(work: Distillation, speed: Speed) -> float:
    """Of a stage of distillation, in which the student trains and the teacher answers."""
    settings = work.settings
    student, teacher = (
        _forward(network, work.train, speed) for network in (settings.student, settings.teacher)
    )
    return settings.epochs * (TRAINING * student + teacher)


def scoring_cost(work: Distillation, speed: Speed) -> float:
    """Of the validation loss, and of writing summaries, which calls the student for each token."""
    student, written = work.settings.student, work.summarised
    calls = len(written) * work.settings.summary_tokens * student.layers * speed.call
    return _forward(student, work.validation, speed) + _forward(student, written, speed) + calls


def last_cost(work: Distillation, speed: Speed) -> float:
    """Of distillation, and of scoring."""
    return distillation_cost(work, speed) + scoring_cost(work, speed)


def _forward(network: Network, batches: Sequence[Batch], speed: Speed) -> float:
    """Of a forward pass over all batches."""
    encoder = network.encoder_weights * sum(batch.text.numel() for batch in batches)
    summaries = sum(batch.labels.numel() for batch in batches)
    operations = FORWARD * (encoder + network.decoder_weights * summaries)
    operations += EXPONENTIAL * network.vocabulary * summaries
    return operations / speed.operations + len(batches) * network.layers * speed.call
