"""The records of what running stages gave: one stage call, one whole configuration."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any, Protocol

import numpy as np

from eeipu.html_tables import box, facts, table
from eeipu.serialization.library_types import package_and_name

__all__ = [
    "Observation",
    "PipelineRun",
    "StageRun",
    "TakesNotes",
    "by_own_names",
    "error_line",
    "first_failed",
    "noted_by_stage",
    "noted_observations",
    "number_of",
    "numbers_of",
    "observations_of",
]

# A longer Series is a column of data.
MOST_NAMES = 1000

Observation = float | Mapping[str, float]
"""What was observed of a stage's output: a finite number, or several by name."""

_NUMBERS = (Real, Decimal)

# The lines of an exception group begin with a margin of bars.
_TRACEBACK = re.compile(
    r"^(?P<margin>[ |+]*)(Exception Group )?Traceback \(most recent call last\):$", re.MULTILINE
)


class TakesNotes(Protocol):
    """What user attributes are written into: a trial, or what gathers them for one."""

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set a user attribute."""


@dataclass(frozen=True)
class StageRun:
    """The result of one stage call.

    Attributes:
        name: The stage's name.
        key: The content key of the call.
        cost: What executing it cost, measured in seconds or declared; `None` if not executed.
        memoized: Whether its output was reused.
        error: The traceback if the stage failed, or one line if it ran out of memory.
        charged: What the budget pays: the cost, or the seconds that loading took.
        load_s: The part of `charged` that is for loading the output.
        keep_s: The part of `charged` that is for looking at the run's inputs, and for keeping the
            output in the cache.
        saved: What the output cost when it was made, where it was reused and that is known.
        output: The stage's output; for reused stages only the last one's was loaded.
        observation: What `stage(observe=...)` found in the output, or the output itself, where it
            is a number; `None` where there is nothing to show, or nothing is known.
        is_unobserved: Whether the stage has an observer that has told nothing of the output, which
            is good: the observer has failed, or must still see an output that is kept.
        is_transient: Whether the error is one that may not come again.
        is_bug: Whether the error is one of programming (`eeipu.stages.running.programming_errors`).
        is_about_values: Whether the error probably means that this configuration does not work.
        is_pruned: Whether the stage has raised `optuna.TrialPruned`; it is in `error` too, as it
            ends the trial.
        peak_gpu_bytes: The most memory that torch had in use on GPUs meanwhile; `None` where the
            stage was not executed, or nothing was there.
    """

    name: str
    key: str
    cost: float | None = None
    memoized: bool = False
    error: str | None = None
    charged: float = 0.0
    load_s: float = 0.0
    keep_s: float = 0.0
    saved: float = 0.0
    output: Any = field(default=None, repr=False)
    observation: Observation | None = None
    is_unobserved: bool = False
    is_transient: bool = False
    is_bug: bool = False
    is_about_values: bool = False
    is_pruned: bool = False
    peak_gpu_bytes: int | None = None


@dataclass(frozen=True)
class PipelineRun:
    """The result of one configuration.

    Attributes:
        stage_names: The names of all stages, also of those that were not reached.
        stage_runs: The stages that were reached, in the pipeline's order.
        value: The objective, the first of several; `None` if a stage failed.
        metrics: All metrics, where the last stage returned a dict.
        left_out: The names of the stages that the configuration leaves out, as it chose others.
        outputs: Stage name -> output. An output that is not in memory is loaded from the cache, or
            made again, when it is asked for (`eeipu.stages.running.outputs.StageOutputs`).
        values: All objectives; empty if a stage failed.
    """

    stage_names: tuple[str, ...]
    stage_runs: tuple[StageRun, ...]
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    values: tuple[float, ...] = ()

    def _repr_html_(self) -> str:
        columns: dict[str, list[str | None]] = {
            "stage": [run.name for run in self.stage_runs],
            "cost": [None if run.cost is None else f"{run.cost:.4g}" for run in self.stage_runs],
            "reused": ["yes" if run.memoized else None for run in self.stage_runs],
            "saved": [f"{run.saved:.4g}" if run.saved else None for run in self.stage_runs],
            "error": [run.error and error_line(run.error) for run in self.stage_runs],
        }
        told = {head: cells for head, cells in columns.items() if any(cells)}
        right = {k for k, head in enumerate(told) if head in ("cost", "saved")}
        known = {"value": "none" if self.value is None else self.value, **self.metrics}
        rows = zip(*told.values(), strict=True)
        return box("PipelineRun", facts(known), table(told, rows, right=right))

    @property
    def failed(self) -> StageRun | None:
        """The stage that failed or was pruned; `None` if none was."""
        return first_failed(self.stage_runs)

    @property
    def error(self) -> str | None:
        """The traceback of the stage that failed, if one did."""
        return None if self.failed is None else self.failed.error

    @property
    def is_pruned(self) -> bool:
        """Whether a stage has raised `optuna.TrialPruned`, so that the run has not failed."""
        return self.failed is not None and self.failed.is_pruned

    @property
    def _by_stage(self) -> list[StageRun | None]:
        """The run of each stage; `None` for a stage that was not reached."""
        reached = {run.name: run for run in self.stage_runs}
        return [reached.get(name) for name in self.stage_names]

    @property
    def stage_costs(self) -> list[float | None]:
        """The true cost of each stage; `None` for a stage that was not executed."""
        return [None if run is None else run.cost for run in self._by_stage]

    @property
    def observations(self) -> dict[str, float]:
        """What is known of the stages' outputs: `"stage"`, or `"stage.entry"`, -> number."""
        return observations_of((run.name, run.observation) for run in self.stage_runs)

    @property
    def peak_gpu_bytes(self) -> list[int | None]:
        """The most memory that was in use on GPUs during each stage; see `StageRun`."""
        return [None if run is None else run.peak_gpu_bytes for run in self._by_stage]

    @property
    def reused(self) -> list[bool]:
        """Whether each stage's output was reused."""
        return [run is not None and run.memoized for run in self._by_stage]

    @property
    def memoized(self) -> list[bool]:
        """Whether each stage need not run: its output was reused, or it was left out."""
        pairs = zip(self.stage_names, self.reused, strict=True)
        return [is_reused or name in self.left_out for name, is_reused in pairs]

    @property
    def charged(self) -> float:
        """What the budget pays for the run."""
        return math.fsum(run.charged for run in self.stage_runs)

    @property
    def load_s(self) -> float:
        """The part of `charged` that is for loading outputs."""
        return math.fsum(run.load_s for run in self.stage_runs)

    @property
    def keep_s(self) -> float:
        """The part of `charged` that is for looking at the run's inputs and for keeping outputs."""
        return math.fsum(run.keep_s for run in self.stage_runs)

    @property
    def saved(self) -> float:
        """What the reused stages would have cost."""
        return math.fsum(run.saved for run in self.stage_runs)


def first_failed(runs: Iterable[StageRun]) -> StageRun | None:
    """The first run that has failed or was pruned; a failure comes before what was pruned."""
    broken = [run for run in runs if run.error is not None]
    return min(broken, key=lambda run: run.is_pruned, default=None)


def observations_of(
    found: Iterable[tuple[str, Observation | None]],
) -> dict[str, float]:
    """Observations by flat names.

    Args:
        found: The name of each stage, and what was observed of it.

    >>> observations_of([("prep", 2.0), ("train", {"loss": 0.5, "epochs": 3.0}), ("score", None)])
    {'prep': 2.0, 'train.loss': 0.5, 'train.epochs': 3.0}
    """
    flat: dict[str, float] = {}
    for name, each in found:
        if isinstance(each, Mapping):
            flat |= {f"{name}.{entry}": number for entry, number in each.items()}
        elif each is not None:
            flat[name] = each
    return flat


def noted_observations(attrs: Mapping[str, Any], stage_names: Sequence[str]) -> dict[str, float]:
    """The observations that a trial has noted, by flat names.

    Args:
        attrs: The trial's user attributes. Trials of earlier versions have `stage_values`: the
            output of each stage where that is a number.
        stage_names: The names of the stages that the trial had.
    """
    if "observations" in attrs:
        return dict(attrs["observations"])
    values = attrs.get("stage_values") or ()
    if len(values) != len(stage_names):
        return {}
    return observations_of(zip(stage_names, values, strict=True))


def noted_by_stage(attrs: Mapping[str, Any], stage_names: Sequence[str]) -> dict[str, Observation]:
    """What a trial has noted of each stage, as it was observed; see `noted_observations`.

    >>> attrs = {"observations": {"prep": 2.0, "train.loss": 0.5, "train.epochs": 3.0}}
    >>> noted_by_stage(attrs, ["prep", "train"])
    {'prep': 2.0, 'train': {'loss': 0.5, 'epochs': 3.0}}
    """
    found: dict[str, Any] = {}
    for name, number in noted_observations(attrs, stage_names).items():
        stage, _, entry = name.partition(".")
        if entry:
            found.setdefault(stage, {})[entry] = number
        else:
            found[stage] = number
    return found


def error_line(error: str) -> str:
    """The first line of an error's message, from its traceback or from the message itself."""
    line = error.strip().partition("\n")[0]
    headers = list(_TRACEBACK.finditer(error))
    if headers:
        margin = headers[-1]["margin"].replace("+", "|")
        below = error[headers[-1].end() :].splitlines()
        cut = [each.removeprefix(margin) for each in below]
        line = next((each for each in cut if each and not each[0].isspace()), line)
    return line


def by_own_names(output: Any) -> Any:
    """A named tuple, or a `Series` of pandas whose names differ, as a dict; all else as it is.

    Their order is their author's. Taken by position, their numbers would pass for one another.
    """
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    is_series = any(package_and_name(kind) == ("pandas", "Series") for kind in type(output).__mro__)
    if is_series and len(output) <= MOST_NAMES:
        names = list(output.index)
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return dict(zip(names, output, strict=True))
    return output


def number_of(output: Any) -> float | None:
    """An output as a float, where it is a number of Python, NumPy or torch; else `None`.

    The masked number of NumPy, which stands for no number, is NaN.
    """
    try:
        if not isinstance(output, _NUMBERS) and getattr(output, "shape", None) == ():
            if isinstance(output, np.ma.MaskedArray) and output.mask:
                return math.nan
            output = output.item()
        return float(output) if isinstance(output, _NUMBERS) else None
    except Exception:  # whatever an output of the user's own type raises, or one beyond floats
        return None


def numbers_of(output: Any) -> float | dict[str, float] | None:
    """The number that an output is, or the numbers in it where it is a dict; `None` for others."""
    output = by_own_names(output)
    if isinstance(output, Mapping):
        numbers = {str(name): number_of(each) for name, each in output.items()}
        return {name: each for name, each in numbers.items() if each is not None} or None
    return number_of(output)
