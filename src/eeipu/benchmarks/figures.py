"""Pictures of results: curves over budget and iterations, cost a stage, and the optimiser's time.

They read nothing but the results, and need no display.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeipu.benchmarks.curves import Curve, over_budget, over_iterations, suggestion_seconds
from eeipu.benchmarks.files import Result
from eeipu.benchmarks.tables import by_setting, stage_costs
from eeipu.plots import COLOURS, DASHES, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

Contenders = Mapping[str, Sequence[Result]]

# Of the band of an interval: several lie over one another.
BAND_OPACITY = 0.12

DOTS_PER_INCH = 150


def draw(results: Iterable[Result], folder: Path) -> list[Path]:
    """Draw four pictures for every setting.

    Args:
        results: The runs.
        folder: Where the pictures go.

    Returns:
        Their paths.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for title, contenders in by_setting(results).items():
        for kind, draw_one in _KINDS.items():
            ax = new_axes()
            draw_one(contenders, ax)
            ax.set_title(title, fontsize="medium")
            path = folder / f"{_file_name(title)}-{kind}.png"
            ax.get_figure().savefig(path, dpi=DOTS_PER_INCH)  # type: ignore[union-attr]
            paths.append(path)
    return paths


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", title.lower())


def _draw_budget(contenders: Contenders, ax: "Axes") -> None:
    _draw_curves(contenders, over_budget, ax)
    ax.set_xlabel("share of the budget spent")
    ax.set_ylabel("improvement since warm-up")


def _draw_iterations(contenders: Contenders, ax: "Axes") -> None:
    _draw_curves(contenders, over_iterations, ax)
    ax.set_xlabel("trials")
    ax.set_ylabel("improvement since warm-up")


def _draw_overhead(contenders: Contenders, ax: "Axes") -> None:
    _draw_curves(contenders, suggestion_seconds, ax)
    ax.set_xlabel("trials")
    ax.set_ylabel("seconds for a suggestion")


def _draw_curves(
    contenders: Contenders, curve_of: Callable[[Sequence[Result]], Curve], ax: "Axes"
) -> None:
    for index, (method, runs) in enumerate(contenders.items()):
        curve = curve_of(runs)
        colour = COLOURS[index % len(COLOURS)]
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        ax.plot(curve.x, curve.mean, color=colour, linestyle=dash, linewidth=1.8, label=method)
        low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
        ax.fill_between(curve.x, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)
    ax.grid(color="#DDDDDD", linewidth=0.8)
    _finish(ax)


def _draw_stages(contenders: Contenders, ax: "Axes") -> None:
    rows = stage_costs(run for runs in contenders.values() for run in runs)
    methods = list(dict.fromkeys(row.method for row in rows))
    left = np.zeros(len(methods))
    for k, stage in enumerate(dict.fromkeys(row.stage for row in rows)):
        spent = np.array([row.spent for row in rows if row.stage == stage])
        # Long pipelines use every colour twice, the second time paler.
        opacity = 1.0 if k < len(COLOURS) else 0.5
        colour = COLOURS[k % len(COLOURS)]
        ax.barh(methods, spent, left=left, color=colour, alpha=opacity, label=stage)
        left += spent
    ax.invert_yaxis()
    ax.set_xlabel("cost of a run's executed stages")
    _finish(ax)


def _finish(ax: "Axes") -> None:
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")


_KINDS: dict[str, Callable[[Contenders, "Axes"], None]] = {
    "budget": _draw_budget,
    "iterations": _draw_iterations,
    "stages": _draw_stages,
    "overhead": _draw_overhead,
}
