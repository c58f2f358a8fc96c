"""The form of a benchmark problem: a pipeline, its inputs, and the budget of a run."""

from dataclasses import dataclass
from typing import Literal, get_args

from eeipu.errors import ConfigurationError
from eeipu.pipeline import Pipeline

__all__ = ["CostKind", "Preset", "Problem", "check_size"]

Preset = Literal["smoke", "cpu", "paper"]
"""The size of a problem: `smoke` takes less than a minute in all, `cpu` about ten minutes for each
method, and `paper` has the published size."""

CostKind = Literal["measured", "declared"]
"""`measured`: seconds by the clock; `declared`: units of a work model, equal on every machine."""


def check_size(preset: Preset, cost: CostKind) -> None:
    """Check the preset and the kind of cost that a problem is asked for.

    Raises:
        ConfigurationError: There is no such preset, or no such kind of cost.
    """
    for name, value, choices in (
        ("preset", preset, get_args(Preset)),
        ("cost", cost, get_args(CostKind)),
    ):
        if value not in choices:
            raise ConfigurationError(f"{name} must be one of {choices}, but got {value!r}.")


@dataclass(frozen=True)
class Problem:
    """A benchmark problem of one size.

    Attributes:
        name: Its name on the command line and in result files.
        pipeline: The pipeline to tune.
        inputs: The run's inputs, for `Tuner.run(*inputs)`.
        direction: `"minimize"` or `"maximize"`.
        n_initial: The number of warm-up trials.
        budget: The budget of a run in units of cost, which are seconds where costs are measured;
            `None` stands for three times the cost of the warm-up.
        optimum: The best possible value; `None` if it is not known.
    """

    name: str
    pipeline: Pipeline
    inputs: tuple[object, ...]
    direction: Literal["minimize", "maximize"]
    n_initial: int = 11
    budget: float | None = None
    optimum: float | None = None
