"""Result files: one JSON object for each run, with one line for each trial.

A file is written when its run is complete, and under another name first, so that no incomplete
file is ever seen. docs/benchmarks.md describes the keys.
"""

import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from eeipu.benchmarks.runs.options import Options
from eeipu.errors import ConfigurationError

__all__ = ["FORMAT", "Result", "noise_free", "read", "read_all", "write", "write_whole"]

# The version of the file format, to be raised when it changes.
FORMAT = 1


@dataclass(frozen=True)
class Result:
    """The content of a result file.

    Attributes:
        options: The options of the run.
        problem: `direction`, `optimum`, `stages`, `parameters`, `n_initial` and `budget`.
        start: The objective of the best warm-up trial, without its noise.
        versions: Name of a package -> its version.
        hardware: A description of the machine.
        wall_s: The duration of the whole run in seconds.
        trials: The trials in the order of their numbers.
        code: A digest of the sources of eeipu that made the result; empty if the file has none.
    """

    options: Options
    problem: Mapping[str, Any]
    start: float
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    wall_s: float
    trials: tuple[Mapping[str, Any], ...]
    code: str = ""

    @property
    def sign(self) -> float:
        """1 where larger objectives are better, -1 where smaller ones are."""
        return 1.0 if self.problem["direction"] == "maximize" else -1.0

    @cached_property
    def candidates(self) -> int:
        """The number of configurations that were evaluated."""
        return sum(trial["value"] is not None for trial in self.trials)

    @cached_property
    def improvements(self) -> tuple[float, ...]:
        """For each trial, the improvement of the best trial so far over the best warm-up trial.

        The best trial is the one with the best observed value; its improvement is computed without
        noise where the noise-free value is known. The improvement is negative until the run has
        found a configuration as good as `start`, and NaN before the first success. Where rows name
        a trial that is `recommended` after them, it counts instead
        (`eeipu.benchmarks.analysis.recommendation`).
        """
        by_number = {trial["number"]: trial for trial in self.trials}
        curve: list[float] = []
        best = improvement = float("nan")
        for trial in self.trials:
            value = trial["value"]
            if value is not None and not self.sign * value <= self.sign * best:
                best = value
                improvement = self.sign * (noise_free(trial) - self.start)
            if "recommended" in trial:
                counts = by_number[trial["recommended"]]
                improvement = self.sign * (noise_free(counts) - self.start)
            curve.append(improvement)
        return tuple(curve)

    @property
    def improvement(self) -> float:
        """The improvement of the best trial over the best warm-up trial."""
        return self.improvements[-1]

    @cached_property
    def anytime(self) -> float:
        """The improvement averaged over the budget, for users who may end the run at any time.

        The improvement counts as zero until a trial as good as `start` has been paid for. The
        last trial does not count if it exceeds the budget. NaN if no trial succeeded.
        """
        if math.isnan(self.improvement):
            return math.nan
        budget = self.problem["budget"]
        improvements = np.array(self.improvements)
        has_begun = np.logical_or.accumulate(improvements >= 0.0)
        paid = np.minimum([*(trial["spent"] for trial in self.trials), budget], budget)
        return float(np.where(has_begun, improvements, 0.0) @ np.diff(paid) / budget)

    @cached_property
    def shares(self) -> tuple[float, ...] | None:
        """`improvements` as shares of the possible one; `None` if the optimum is unknown."""
        if self.problem["optimum"] is None:
            return None
        return tuple(self.share_of(each) for each in self.improvements)

    def share_of(self, improvement: float) -> float:
        """An improvement as a share of the possible improvement; the optimum must be known."""
        possible: float = self.sign * (self.problem["optimum"] - self.start)
        return improvement / possible if possible > 0 else 1.0

    @property
    def with_suggestions_charged(self) -> "Result":
        """The part of the run that the budget would have paid for together with all suggestions.

        Each second of a suggestion is charged one unit of cost. The configurations stay the same,
        although a method whose exponent depends on the remaining budget would have chosen others.
        """
        seconds = accumulate(trial["suggest_s"] for trial in self.trials)
        trials = [
            {
                **trial,
                "spent": trial["spent"] + so_far,
                "charged": trial["charged"] + trial["suggest_s"],
            }
            for trial, so_far in zip(self.trials, seconds, strict=True)
        ]
        # The run ends with the trial that exceeds the budget.
        within = sum(trial["spent"] < self.problem["budget"] for trial in trials)
        return replace(self, trials=tuple(trials[: within + 1]))

    @property
    def optimiser_s(self) -> float:
        """The time of all suggestions, in seconds."""
        return math.fsum(trial["suggest_s"] for trial in self.trials)


def noise_free(trial: Mapping[str, Any]) -> float:
    """The objective of a trial, without noise if the pipeline reports the noise-free value."""
    value: float = trial.get("metrics", {}).get("noise_free", trial["value"])
    return value


def write(path: Path, result: Result) -> None:
    """Write a result file."""
    head = {"format": FORMAT} | {f.name: _plain(getattr(result, f.name)) for f in fields(result)}
    del head["trials"]
    lines = ",\n".join("  " + json.dumps(t, allow_nan=False) for t in result.trials)
    text = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    write_whole(path, f'{text},\n "trials": [\n{lines}\n ]\n}}\n')


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all, by writing to another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    aside.write_text(text)
    aside.replace(path)


def _plain(value: object) -> object:
    return vars(value) if isinstance(value, Options) else value


def read(path: Path) -> Result:
    """Read a result file.

    Raises:
        ConfigurationError: The file is not a result file, or has another format.
    """
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != FORMAT:
            raise ValueError("another format")  # noqa: TRY301 - reported below with the other errors
        content["options"] = Options(**content["options"])
        content["trials"] = tuple(content["trials"])
        return Result(**content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is no result of `eeipu.benchmarks run` in format {FORMAT} ({error!r}); "
            f"move it elsewhere, or run it again."
        ) from error


def read_all(out: Path, *, leave_out: Collection[str] = ()) -> list[Result]:
    """Read all results in a directory and its subdirectories, in the order of their names.

    Args:
        out: The directory.
        leave_out: Names of problems whose results are skipped, most of them without reading.

    Raises:
        ConfigurationError: There is no result, a file is not a result file, or two files have the
            same options.
    """
    results: list[Result] = []
    paths: dict[Options, Path] = {}
    found = sorted(out.rglob("*-seed*-*.json"))
    for path in found:
        if path.parent.parent.name in leave_out:
            continue
        result = read(path)
        if result.options.problem in leave_out:
            continue
        results.append(result)
        # A run that is counted twice would make the intervals too narrow.
        first = paths.setdefault(results[-1].options, path)
        if first != path:
            raise ConfigurationError(
                f"{str(first)!r} and {str(path)!r} are results of the same options, which count "
                f"once; move one of them out of {str(out)!r}."
            )
    if not found:
        raise ConfigurationError(
            f"there are no results in {str(out)!r}; make some with "
            f"`python -m eeipu.benchmarks run --out {out}`."
        )
    return results
