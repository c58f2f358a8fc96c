"""The output of benchmark scripts: measured figures, as text or as JSON."""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number and its target.

    Attributes:
        figure: What was measured.
        value: The measurement.
        unit: Its unit.
        target: What it should be, in words; `-` where it is printed for information.
        ok: Whether it is; `None` where there is no target.
    """

    figure: str
    value: float
    unit: str
    target: str = "-"
    ok: bool | None = None


def at_most(figure: str, value: float, unit: str, limit: float) -> Figure:
    """A figure that should not be larger than `limit`."""
    # NumPy's truth values are not JSON's.
    return Figure(figure, value, unit, f"<= {limit:g}", bool(value <= limit))


def at_least(figure: str, value: float, unit: str, limit: float) -> Figure:
    """A figure that should not be smaller than `limit`."""
    return Figure(figure, value, unit, f">= {limit:g}", bool(value >= limit))


def arguments_of(docstring: str | None) -> argparse.ArgumentParser:
    """A parser of a script's arguments, `--json` among them.

    Args:
        docstring: The script's, which its help shows as it is written.
    """
    parser = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def show(figures: Iterable[Figure]) -> None:
    """Print figures as they come: JSON objects with `--json`, aligned text without."""
    as_json = "--json" in sys.argv[1:]
    for figure in figures:
        if as_json:
            print(json.dumps(asdict(figure)), flush=True)
        else:
            verdict = {True: "ok", False: "MISSED", None: ""}[figure.ok]
            print(
                f"{figure.figure:<64} {figure.value:>9.4g} {figure.unit:<8} "
                f"{figure.target:<9} {verdict}",
                flush=True,
            )
