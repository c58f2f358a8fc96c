"""What a stage declares to cost: its floating-point operations at a stated rate.

A multiplication and an addition for every weight that a token meets, once forward and twice
backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). A stage declares from its own
hyper-parameters, which do not change how often it goes through the data, so that the cost of
training is that of the data at its longest; what batch size adds in padding and in calls of small
operations is in measured costs alone.
"""

from eeipu.benchmarks.distillation.corpus import Corpus
from eeipu.benchmarks.distillation.networks import Network
from eeipu.benchmarks.distillation.stages import Settings

__all__ = ["distillation_cost", "preprocessing_cost", "scoring_cost", "teacher_cost"]

FORWARD = 2  # operations a weight and token: a multiplication and an addition
TRAINING = 3  # forward passes that a step of training is worth
TOKENS_PER_SECOND = 2e5  # that the tokenizer numbers on one core of a CPU
SECONDS_PER_BATCH = 1e-4  # to pad one, likewise


def preprocessing_cost(corpus: Corpus, settings: Settings, batch_size: int) -> float:
    """Of the tokens of all pairs, and of their batches."""
    pairs = len(corpus.train) + len(corpus.validation)
    tokens = pairs * (settings.text_tokens + settings.summary_tokens)
    return tokens / TOKENS_PER_SECOND + pairs / batch_size * SECONDS_PER_BATCH


def teacher_cost(corpus: Corpus, settings: Settings, rate: float) -> float:
    """Of fine-tuning the teacher.

    Args:
        corpus: The pairs.
        settings: The networks and how long they train.
        rate: Floating-point operations a unit of cost.
    """
    steps = settings.teacher_epochs * len(corpus.train)
    return steps * TRAINING * _forward(settings.teacher, settings) / rate


def distillation_cost(corpus: Corpus, settings: Settings, rate: float) -> float:
    """Of a stage of distillation, in which the student trains and the teacher answers."""
    student, teacher = (_forward(net, settings) for net in (settings.student, settings.teacher))
    return settings.epochs * len(corpus.train) * (TRAINING * student + teacher) / rate


def scoring_cost(corpus: Corpus, settings: Settings, rate: float) -> float:
    """Of the validation loss, and of writing summaries, each as one more pass."""
    pairs = len(corpus.validation) + settings.summarised
    return pairs * _forward(settings.student, settings) / rate


def _forward(network: Network, settings: Settings) -> float:
    """Operations of one pair, forward."""
    encoder = network.encoder_weights * settings.text_tokens
    decoder = network.decoder_weights * settings.summary_tokens
    return FORWARD * float(encoder + decoder)
