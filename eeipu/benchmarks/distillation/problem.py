"""The distillation problem: its networks, its data, and the ranges of its hyper-parameters.

The paper (Essofi et al. 2024, arXiv 2411.03731) tunes a batch size in [10, 40]; the learning rate
in [1e-5, 1e-3] and the weight decay in [1e-4, 0.8] of the teacher, both on a log scale; and the
learning rate, the weight decay and a temperature in [0, 1] of each stage of distillation. Its
objective is the ROUGE of CNN/DailyMail. The preset `paper` has these ranges. The other presets
train new networks with some hundred thousand weights on docstrings, which needs learning rates
thirty times as high.

Note:
    The objective of all presets is the validation loss, because the ROUGE of few short summaries
    is mostly noise; it is reported as the metric `rouge_l`. Temperatures are above 0, since logits
    are divided by them.
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
from eeipu.stages.decorator import stage

__all__ = ["Size", "paper", "problem", "problem_of"]

VERSION = (
    "2"  # of the code of the stages, for content keys; raise it with every change of their results
)

LEAST_TEMPERATURE = 0.01  # the teacher's answer is then nearly its first choice alone


@dataclass(frozen=True)
class Size:
    """The size of a problem.

    Attributes:
        corpus: The pairs of texts and summaries.
        settings: The settings that are not tuned.
        lr: The range of the learning rates of teacher and student.
        speed: The speed that defines the unit of declared costs.
        num_gpus: The number of GPUs that a training stage needs.
        n_initial: The number of warm-up trials.
        budget: The budget in measured seconds; `None` is three times the cost of the warm-up.
    """

    corpus: Corpus
    settings: Settings
    lr: tuple[float, float]
    speed: work.Speed = work.CORE
    num_gpus: float = 0
    n_initial: int = 11
    budget: float | None = None


def problem(preset: Preset = "cpu", *, cost: CostKind = "measured", seed: int = 0) -> Problem:
    """Make the distillation problem; its objective is a loss, which is minimised.

    Args:
        preset: `smoke` and `cpu` train new networks on docstrings. `paper` trains pretrained T5
            networks on CNN/DailyMail; both have to be downloaded.
        cost: Measured seconds, or the units of `eeipu.benchmarks.distillation.work`.
        seed: The seed of first weights, of the order of batches and of dropout.

    Raises:
        MissingExtraError: `transformers`, or `datasets` for `paper`, is not installed.
        ConfigurationError: There is no such preset or kind of cost, or the articles cannot be
            loaded.
    """
    check_size(preset, cost)
    sizes: dict[Preset, Callable[[int], Size]] = {"smoke": _smoke, "cpu": _cpu, "paper": paper}
    return problem_of(sizes[preset](seed), cost=cost)


def problem_of(size: Size, *, cost: CostKind = "measured") -> Problem:
    """Make the problem in a size of your own.

    Args:
        size: The size.
        cost: Measured seconds, or the units of `eeipu.benchmarks.distillation.work`.
    """
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
    """A training stage; its declared cost depends on its batches, not on its hyper-parameters."""

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


# The range of learning rates for new weights: thirty times that of the paper for pretrained ones.
NEW_LR = (3e-4, 3e-2)


def _new(width: int, layers: int) -> Network:
    """A new network with proportions like those of T5, for the tokenizer of the docstrings."""
    return Network(width=width, inner=2 * width, layers=layers, heads=4, vocabulary=1024)


def _smoke(seed: int) -> Size:
    """The preset `smoke`: a trial takes less than a second of one core."""
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
    """The preset `cpu`: a trial takes about 5 s of one core.

    The teacher has 0.46 million weights, the student 0.15 million.
    """
    settings = Settings(
        teacher=_new(128, 1),
        student=_new(64, 1),
        tokenizer=None,
        text_tokens=16,  # nearly the first sentence; the median docstring has 125
        summary_tokens=12,  # the median summary has 20
        teacher_epochs=4,  # one more than all those of the student, so that the teacher is better
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
    """The preset `paper`: pretrained networks on news, for a GPU.

    Args:
        seed: The seed of the order of batches and of dropout.
        teacher: The teacher's name on the Hugging Face hub, or a folder that `save_pretrained`
            has written.
        student: The same for the student, whose tokenizer serves both.
        corpus: A function from the numbers of training and validation pairs to the pairs.
        pairs: These two numbers; the paper has 2,500 samples in all.
    """
    settings = Settings(
        # The shapes and the vocabulary of T5 base and T5 small, for declared costs.
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
