"""The problem: which networks learn from what, and what is tuned over which range.

The paper (Essofi et al. 2024, arXiv 2411.03731) tunes a batch size in [10, 40], the teacher's
learning rate in [1e-5, 1e-3] and weight decay in [1e-4, 0.8], both on a log scale, and learning
rate, temperature in [0, 1] and weight decay of each stage of distillation, for the ROUGE of
CNN/DailyMail. Preset `paper` has these ranges. The others train new networks of some hundred
thousand weights, which need learning rates thirty times as high, on docstrings.

Note:
    The objective is the validation loss in all presets: ROUGE of few short summaries is noise. It
    is reported as the metric `rouge_l`. No temperature is 0, which nothing can be divided by.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from eeipu.benchmarks.distillation import work
from eeipu.benchmarks.distillation.corpus import Corpus, cnn_dailymail, docstrings
from eeipu.benchmarks.distillation.networks import Network
from eeipu.benchmarks.distillation.stages import (
    Distillation,
    Settings,
    distil,
    distil_and_score,
    fine_tune,
    preprocess,
)
from eeipu.benchmarks.problem import CostKind, Preset, Problem, check_size
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution, Float, Int
from eeipu.stages.declaration import stage

__all__ = ["Size", "paper", "problem", "problem_of"]

VERSION = "2"  # of the stages' code, in content keys: to be raised with every change of a result

LEAST_TEMPERATURE = 0.01  # the teacher's first choice alone, nearly


@dataclass(frozen=True)
class Size:
    """A problem of some size.

    Attributes:
        corpus: The pairs.
        settings: What is not tuned.
        lr: The range of learning rates, of the teacher and of the student.
        speed: What the units of declared costs are.
        num_gpus: That a stage of training takes.
        n_initial: Warm-up trials.
        budget: Measured seconds; `None` stands for three times the warm-up.
    """

    corpus: Corpus
    settings: Settings
    lr: tuple[float, float]
    speed: work.Speed = work.CORE
    num_gpus: float = 0
    n_initial: int = 11
    budget: float | None = None


def problem(preset: Preset = "cpu", *, cost: CostKind = "measured", seed: int = 0) -> Problem:
    """T5 distillation of one size; its value is a loss, to be minimised.

    Args:
        preset: `smoke` and `cpu` distil docstrings; `paper` pretrained T5 networks on
            CNN/DailyMail, which have to be downloaded.
        cost: Measured seconds, or what `work` declares.
        seed: Of first weights, of the order of batches and of dropout.

    Raises:
        MissingExtraError: `transformers`, or `datasets` for `paper`, is not installed.
        ConfigurationError: There is no such preset or cost, or the articles cannot be had.
    """
    check_size(preset, cost)
    sizes: dict[Preset, Callable[[int], Size]] = {"smoke": _smoke, "cpu": _cpu, "paper": paper}
    return problem_of(sizes[preset](seed), cost=cost)


def problem_of(size: Size, *, cost: CostKind = "measured") -> Problem:
    """The problem of a size of one's own."""
    return Problem(
        name="distillation",
        pipeline=_pipeline(size, is_declared=cost == "declared"),
        inputs=(size.corpus, size.settings),
        direction="minimize",
        n_initial=size.n_initial,
        budget=size.budget if cost == "measured" else None,
    )


def _pipeline(size: Size, *, is_declared: bool) -> Pipeline:
    made = partial(_stage, size, is_declared)
    batching = partial(work.preprocessing_cost, size.corpus, size.settings)
    student = _training_space(size) | {"temperature": Float(LEAST_TEMPERATURE, 1.0)}
    stages = [
        stage(
            name="preprocess",
            space={"batch_size": Int(10, 40)},
            version=VERSION,
            cost=batching if is_declared else None,
        )(preprocess),
        made("teacher", _training_space(size), fine_tune, work.teacher_cost),
        made("distil_1", student, distil, work.distillation_cost),
        made("distil_2", student, distil, work.distillation_cost),
        made("distil_3", student, distil_and_score, work.last_cost),
    ]
    return Pipeline(stages, objective="validation_loss", name="distillation")


def _stage(
    size: Size,
    is_declared: bool,
    name: str,
    space: dict[str, Distribution],
    function: Callable[..., Any],
    cost: Callable[[Distillation, work.Speed], float],
) -> Any:
    """A stage of training, of the same work whatever its hyper-parameters, but by its batches."""

    def declared(distillation: Distillation, **_: float) -> float:
        return cost(distillation, size.speed)

    return stage(
        name=name,
        space=space,
        version=VERSION,
        cost=declared if is_declared else None,
        num_gpus=size.num_gpus,
    )(function)


def _training_space(size: Size) -> dict[str, Distribution]:
    return {"lr": Float(*size.lr, log=True), "weight_decay": Float(1e-4, 0.8, log=True)}


# A learning rate for new weights: thirty times the paper's, whose networks are pretrained.
NEW_LR = (3e-4, 3e-2)


def _new(width: int, layers: int) -> Network:
    """A new network of a shape like T5's, for the tokenizer of the docstrings."""
    return Network(width=width, inner=2 * width, layers=layers, heads=4, vocabulary=1024)


def _smoke(seed: int) -> Size:
    """A trial in less than a second of one core."""
    settings = Settings(
        teacher=_new(96, 1),
        student=_new(64, 1),
        tokenizer=None,
        text_tokens=16,
        summary_tokens=12,
        teacher_epochs=1,
        epochs=1,
        summarised=8,
        seed=seed,
    )
    return Size(docstrings(120, 40), settings, NEW_LR, n_initial=3)


def _cpu(seed: int) -> Size:
    """A trial in about 5 s of one core; a teacher of 0.46 million weights, a student of 0.15."""
    settings = Settings(
        teacher=_new(128, 1),
        student=_new(64, 1),
        tokenizer=None,
        text_tokens=16,  # of a docstring's 125 at the median: its first sentence, nearly
        summary_tokens=12,  # of 20
        teacher_epochs=4,  # one more than the student has in all, so that it is ahead
        epochs=1,
        summarised=16,
        seed=seed,
    )
    return Size(docstrings(600, 200), settings, NEW_LR)


def paper(
    seed: int = 0,
    *,
    teacher: str = "google-t5/t5-base",
    student: str = "google-t5/t5-small",
    corpus: Callable[[int, int], Corpus] = cnn_dailymail,
    pairs: tuple[int, int] = (2000, 500),
) -> Size:
    """Pretrained networks on news, for a GPU.

    Args:
        seed: Of the order of batches and of dropout.
        teacher: Its name on the Hugging Face hub or a folder that `save_pretrained` has written.
        student: The student's, likewise; its tokenizer serves both.
        corpus: Numbers of pairs to learn from and to score on -> the pairs.
        pairs: These numbers; the paper has 2,500 samples in all.
    """
    settings = Settings(
        # The shapes and the vocabulary of T5 base and T5 small, to declare costs by.
        teacher=Network(768, 3072, 12, 12, 32128, pretrained=teacher),
        student=Network(512, 2048, 6, 8, 32128, pretrained=student),
        tokenizer=student,
        text_tokens=512,
        summary_tokens=128,
        teacher_epochs=1,
        epochs=1,
        summarised=100,
        seed=seed,
    )
    return Size(
        corpus(*pairs),
        settings,
        lr=(1e-5, 1e-3),
        speed=work.GPU,
        num_gpus=1,
        n_initial=10,
        budget=25_000.0,
    )
