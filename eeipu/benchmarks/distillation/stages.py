"""The five stages: preprocessing, fine-tuning of the teacher, and three of distillation.

Each passes on all that later ones need, as plain data: batches, weights and checkpoints in main
memory. The student, its optimiser and its random generators go on from one stage of distillation
to the next, so that three stages of equal hyper-parameters are one long one, bit for bit.
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
    """What is not tuned.

    Attributes:
        teacher: The network that is fine-tuned.
        student: The one that learns from it.
        tokenizer: A name on the Hugging Face hub or a folder; `None`: that of the docstrings.
        text_tokens: Where texts are cut.
        summary_tokens: Where summaries are.
        teacher_epochs: How often the teacher sees every pair.
        epochs: How often the student does, in each stage of distillation.
        summarised: Validation pairs that the student writes summaries of.
        seed: Of first weights, of the order of batches and of dropout.
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
    """What a stage hands on.

    Attributes:
        settings: As at the beginning.
        train: Batches to learn from.
        validation: Batches to score on.
        summarised: Batches that the student is to write summaries of.
        teacher: Where the teacher stands.
        student: Where the student stands.
    """

    settings: Settings
    train: tuple[Batch, ...]
    validation: tuple[Batch, ...]
    summarised: tuple[Batch, ...]
    teacher: Checkpoint | None = None
    student: Checkpoint | None = None


def preprocess(corpus: Corpus, settings: Settings, *, batch_size: int) -> Distillation:
    """Number the tokens of all pairs and batch them; the batches serve all later stages.

    Args:
        corpus: The pairs.
        settings: What is not tuned.
        batch_size: Pairs in a batch, and so in a step of training.
    """
    numbers = tokenizer(settings.tokenizer)
    parts = corpus.train, corpus.validation, corpus.validation[: settings.summarised]
    train, validation, summarised = (
        batches(part, numbers, batch_size, settings.text_tokens, settings.summary_tokens)
        for part in parts
    )
    return Distillation(settings, train, validation, summarised)


def fine_tune(work: Distillation, *, lr: float, weight_decay: float) -> Distillation:
    """Train the teacher on the labels.

    Args:
        work: What has been done.
        lr: The learning rate.
        weight_decay: AdamW's.
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
    # What it needs to learn more is as large as three teachers, and it will not.
    return replace(work, teacher=replace(teacher, optimizer={}))


def distil(
    work: Distillation, *, lr: float, temperature: float, weight_decay: float
) -> Distillation:
    """Train the student, from where it stands, on the teacher's answers and the labels.

    Args:
        work: What has been done.
        lr: The learning rate.
        temperature: What both networks' logits are divided by, above 0.
        weight_decay: AdamW's.
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
    """Train the student once more, as `distil` does, and score it.

    Returns:
        `validation_loss`, nats a token, and `rouge_l`, from 0 to 1, both of held-out pairs.
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
