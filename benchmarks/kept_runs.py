"""Runs of a benchmark that are kept as lines of JSON, so that it goes on where it was stopped."""

import argparse
import json
import logging
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna
import torch
from figures import Figure, show

__all__ = ["kept_runs", "show_kept_runs"]

# Problem, contender, seed and budget factor.
Key = tuple[str, str, int, float]
_FIELDS = ("problem", "contender", "seed", "factor")


def kept_runs(
    out: Path, keys: Iterable[Key], run: Callable[..., dict[str, Any]]
) -> list[dict[str, Any]]:
    """The runs of these keys, of which only those are made that a directory does not have.

    Args:
        out: The directory, which is made where it is not there.
        keys: Problem, contender, seed and budget factor of each run.
        run: Makes a run of these four. Its result has them under `problem`, `contender`, `seed` and
            `factor`.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "runs.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    done = {tuple(each[name] for name in _FIELDS): each for each in map(json.loads, lines)}
    found = []
    for key in keys:
        if key not in done:
            done[key] = run(*key)
            with file.open("a") as lasting:
                lasting.write(json.dumps(done[key]) + "\n")
        found.append(done[key])
    return found


def show_kept_runs(
    parser: argparse.ArgumentParser,
    run: Callable[..., dict[str, Any]],
    figures: Callable[[list[dict[str, Any]], str, list[str]], Iterable[Figure]],
) -> None:
    """Run what has not been run, and show the figures of each problem.

    Args:
        parser: The script's arguments `problems` and `contenders`, and what `seeds`,
            `budget_factor` and `out` are by default.
        run: As in `kept_runs`.
        figures: The figures of the runs of a problem, by these contenders.
    """
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--budget-factor", type=float)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    keys = [
        (problem, contender, seed, args.budget_factor)
        for seed in range(args.seeds)
        for problem in args.problems
        for contender in args.contenders
    ]
    runs = kept_runs(args.out, keys, run)
    shown: list[Figure] = []
    for problem in args.problems:
        own = [each for each in runs if each["problem"] == problem]
        shown += figures(own, problem, args.contenders)
    show(shown)
