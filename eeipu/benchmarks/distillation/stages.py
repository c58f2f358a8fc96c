"""The five stages: preprocessing, fine-tuning of the teacher, and three stages of distillation.

The output of a stage contains all data that later stages need: batches, weights and checkpoints,
in main memory. Each stage of distillation continues with the student, the optimiser and the random
generators of the one before, so that three stages with equal hyper-parameters give the same
weights as a single long one, bit for bit.
"""

from dataclasses import dataclass, replace

from eeipu.benchmarks.distillation.batches import IGNORED, Batch, batches
from eeipu.benchmarks.distillation.corpus import Corpus
from eeipu.benchmarks.distillation.networks import Network, device, tokenizer
from eeipu.benchmarks.distillation.scoring import rouge_l, summaries, validation_loss
from eeipu.benchmarks.distillation.training import (
    Checkpoint,
    begin,
    distillation_loss,
    go_on,
    label_loss,
    restored,
)

__all__ = [
    "Distillation",
    "Settings",
    "distil",
    "distil_and_score",
    "fine_tune",
    "preprocess",
]


@dataclass(frozen=True)
class Settings:
    """The settings that are not tuned.

    Attributes:
        teacher: The network that is fine-tuned.
        student: The network that learns from the teacher.
        tokenizer: A name on the Hugging Face hub, or a folder; `None` takes the tokenizer of the
            docstrings.
        text_tokens: The maximal number of tokens of a text.
        summary_tokens: The maximal number of tokens of a summary.
        teacher_epochs: The number of passes of the teacher over all pairs.
        epochs: The number of passes of the student, in each stage of distillation.
        summarised: The number of validation pairs for which the student writes summaries.
        seed: The seed of first weights, of the order of batches and of dropout.
    """

    teacher: Network
    student: Network
    tokenizer: str | None
    text_tokens: int
    summary_tokens: int
    teacher_epochs: int
    epochs: int
    summarised: int
    seed: int = 0


@dataclass(frozen=True)
class Distillation:
    """The output of a stage.

    Attributes:
        settings: The settings, as the first stage got them.
        train: The batches for training.
        validation: The batches for the validation loss.
        summarised: The batches for which the student writes summaries.
        teacher: The state of the teacher's training; `None` before it began.
        student: The state of the student's training; `None` before it began.
    """

    settings: Settings
    train: tuple[Batch, ...]
    validation: tuple[Batch, ...]
    summarised: tuple[Batch, ...]
    teacher: Checkpoint | None = None
    student: Checkpoint | None = None


def preprocess(corpus: Corpus, settings: Settings, *, batch_size: int) -> Distillation:
    """Tokenise all pairs and make the batches, which all later stages use.

    Args:
        corpus: The pairs of texts and summaries.
        settings: The settings that are not tuned.
        batch_size: The number of pairs in a batch, and so in a step of training.
    """
    numbers = tokenizer(settings.tokenizer)
    parts = corpus.train, corpus.validation, corpus.validation[: settings.summarised]
    train, validation, summarised = (
        batches(part, numbers, batch_size, settings.text_tokens, settings.summary_tokens)
        for part in parts
    )
    return Distillation(settings, train, validation, summarised)


def fine_tune(work: Distillation, *, lr: float, weight_decay: float) -> Distillation:
    """Train the teacher on the reference summaries.

    Args:
        work: The output of the stage before.
        lr: The learning rate.
        weight_decay: The weight decay of AdamW.
    """
    settings = work.settings
    teacher = go_on(
        settings.teacher,
        begin(settings.teacher, settings.seed),
        work.train,
        label_loss,
        epochs=settings.teacher_epochs,
        lr=lr,
        weight_decay=weight_decay,
    )
    # The state of its optimiser is twice as large as the teacher, and is not needed any more.
    return replace(work, teacher=replace(teacher, optimizer={}))


def distil(
    work: Distillation, *, lr: float, temperature: float, weight_decay: float
) -> Distillation:
    """Continue to train the student on the answers of the teacher and the reference summaries.

    Args:
        work: The output of the stage before.
        lr: The learning rate.
        temperature: The divisor of the logits of both networks, above 0.
        weight_decay: The weight decay of AdamW.
    """
    settings = work.settings
    assert work.teacher is not None
    teacher = restored(settings.teacher, work.teacher.weights).eval()
    student = go_on(
        settings.student,
        work.student or begin(settings.student, settings.seed),
        work.train,
        distillation_loss(teacher, temperature),
        epochs=settings.epochs,
        lr=lr,
        weight_decay=weight_decay,
    )
    return replace(work, student=student)


def distil_and_score(
    work: Distillation, *, lr: float, temperature: float, weight_decay: float
) -> dict[str, float]:
    """Train the student once more, as `distil` does, and score it; arguments as for `distil`.

    Returns:
        `validation_loss` in nats for each token, and `rouge_l` from 0 to 1, both of validation
        pairs.
    """
    return score(distil(work, lr=lr, temperature=temperature, weight_decay=weight_decay))


def score(work: Distillation) -> dict[str, float]:
    """The student's validation loss, and the mean ROUGE-L of its summaries."""
    settings = work.settings
    assert work.student is not None
    model = restored(settings.student, work.student.weights)
    validation, summarised = (
        [batch.to(device()) for batch in part] for part in (work.validation, work.summarised)
    )
    numbers = tokenizer(settings.tokenizer)
    written = summaries(model, summarised, numbers, settings.summary_tokens)
    labels = [row[row != IGNORED] for batch in summarised for row in batch.labels]
    references = numbers.batch_decode(labels, skip_special_tokens=True)
    scores = [rouge_l(ours, theirs) for ours, theirs in zip(written, references, strict=True)]
    return {
        "validation_loss": validation_loss(model, validation),
        "rouge_l": sum(scores) / len(scores),
    }
