"""The result files: one JSON object a run, with a line for each of its trials.

A file is written when its run is complete, under another name first, so that there are no halves.
Its keys are described in docs/benchmarks.md.
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

# A later format writes another number.
FORMAT = 1


@dataclass(frozen=True)
class Result:
    """A run as its file has it.

    Attributes:
        options: What was asked for.
        problem: `direction`, `optimum`, `stages`, `parameters`, `n_initial` and `budget`.
        start: The objective of the best warm-up trial, without its noise.
        versions: Package -> version.
        hardware: What it ran on.
        wall_s: Seconds that the whole run took.
        trials: In the order of their numbers.
        code: A digest of the sources that made it; empty where the file does not say.
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
        """The configurations that were evaluated."""
        return sum(trial["value"] is not None for trial in self.trials)

    @cached_property
    def improvements(self) -> tuple[float, ...]:
        """After each trial: how much better the best is than the best warm-up trial.

        The best is the one with the best value, and counts without its noise where that is known.
        Negative until a run has found as good a configuration; NaN before the first success.
        """
        curve: list[float] = []
        best = improvement = float("nan")
        for trial in self.trials:
            value = trial["value"]
            if value is not None and not self.sign * value <= self.sign * best:
                best = value
                improvement = self.sign * (noise_free(trial) - self.start)
            curve.append(improvement)
        return tuple(curve)

    @property
    def improvement(self) -> float:
        """How much better the best trial is than the best warm-up trial."""
        return self.improvements[-1]

    @cached_property
    def anytime(self) -> float:
        """The improvement in the mean over the budget: of a run that may be ended anywhere in it.

        There is none before a trial that is as good as `start` has been paid for; the last trial's
        does not count where it exceeds the budget. NaN without any success.
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
        """After each trial: the improvement as a share of the possible one; `None`: unknown."""
        if self.problem["optimum"] is None:
            return None
        return tuple(self.share_of(each) for each in self.improvements)

    def share_of(self, improvement: float) -> float:
        """An improvement as a share of the possible one, where the optimum is known."""
        possible: float = self.sign * (self.problem["optimum"] - self.start)
        return improvement / possible if possible > 0 else 1.0

    @property
    def with_suggestions_charged(self) -> "Result":
        """The run as far as it would have come, had the seconds of suggestions been paid as well.

        What was chosen stays as it is, also where a method cools with what is left of the budget.
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
        # The trial that exceeds the budget is the last.
        within = sum(trial["spent"] < self.problem["budget"] for trial in trials)
        return replace(self, trials=tuple(trials[: within + 1]))

    @property
    def optimiser_s(self) -> float:
        """Seconds that all suggestions took."""
        return math.fsum(trial["suggest_s"] for trial in self.trials)


def noise_free(trial: Mapping[str, Any]) -> float:
    """A trial's objective, without its noise where the pipeline tells."""
    value: float = trial.get("metrics", {}).get("noise_free", trial["value"])
    return value


def write(path: Path, result: Result) -> None:
    """Write a run's file."""
    head = {"format": FORMAT} | {f.name: _plain(getattr(result, f.name)) for f in fields(result)}
    del head["trials"]
    lines = ",\n".join("  " + json.dumps(t, allow_nan=False) for t in result.trials)
    text = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    write_whole(path, f'{text},\n "trials": [\n{lines}\n ]\n}}\n')


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name first, so that there is all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    aside.write_text(text)
    aside.replace(path)


def _plain(value: object) -> object:
    return vars(value) if isinstance(value, Options) else value


def read(path: Path) -> Result:
    """Read a run's file.

    Raises:
        ConfigurationError: It is none, or of another format.
    """
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != FORMAT:
            raise ValueError("another format")  # noqa: TRY301 - it is told like all others
        content["options"] = Options(**content["options"])
        content["trials"] = tuple(content["trials"])
        return Result(**content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is no result of `eeipu.benchmarks run` in format {FORMAT} ({error!r}); "
            f"move it elsewhere, or run it again."
        ) from error


def read_all(out: Path, *, leave_out: Collection[str] = ()) -> list[Result]:
    """The results in a directory and those below, by name.

    Args:
        out: The directory.
        leave_out: Problems without whose results it goes faster.

    Raises:
        ConfigurationError: There are none, a file is none, or two are of the same options.
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
        # Counted twice, a run would make intervals narrower than they are.
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
