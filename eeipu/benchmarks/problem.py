"""What every benchmark problem is: a pipeline, its inputs, and what a run of it may spend."""

from dataclasses import dataclass
from typing import Literal, get_args

from eeipu.errors import ConfigurationError
from eeipu.pipeline import Pipeline

__all__ = ["CostKind", "Preset", "Problem", "check_size"]

Preset = Literal["smoke", "cpu", "paper"]
"""How large a problem is: under a minute in all, about ten minutes a method, or as published."""

CostKind = Literal["measured", "declared"]
"""Seconds by the clock, or a work model's units, which are the same on every machine."""


def check_size(preset: Preset, cost: CostKind) -> None:
    """Check what a problem is asked for.

    Raises:
        ConfigurationError: There is no such preset or no such kind of cost.
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
        name: As the command line and the result files call it.
        pipeline: The pipeline to tune.
        inputs: The run's inputs, for `Tuner.run(*inputs)`.
        direction: `"minimize"` or `"maximize"`.
        n_initial: Warm-up trials.
        budget: In units of cost, seconds where it is measured; `None` stands for three times what
            the warm-up costs.
        optimum: The best value there is, where it is known.
    """

    name: str
    pipeline: Pipeline
    inputs: tuple[object, ...]
    direction: Literal["minimize", "maximize"]
    n_initial: int = 11
    budget: float | None = None
    optimum: float | None = None
