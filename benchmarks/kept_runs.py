"""Runs of a benchmark that are kept as lines of JSON, so that it goes on where it was stopped."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["kept_runs"]

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
