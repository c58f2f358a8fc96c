"""Pictures of results: curves over budget and trials, cost of each stage, time of suggestions.

They are made from the result files alone, and need no display.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeipu.benchmarks.analysis.curves import (
    Curve,
    over_budget,
    over_iterations,
    shares,
    suggestion_seconds,
)
from eeipu.benchmarks.analysis.stage_costs import stage_costs
from eeipu.benchmarks.analysis.tables import by_setting, everywhere, families
from eeipu.benchmarks.runs.results import Result
from eeipu.report.figures import COLOURS, DASHES, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

Contenders = Mapping[str, Sequence[Result]]

# The opacity of the band that shows an interval, so that overlapping bands stay visible.
BAND_OPACITY = 0.12

DOTS_PER_INCH = 150

SHARE = "share of the possible improvement"

# The space above and below the intervals at the ends of curves, as a share of their height.
MARGIN = 0.05


def draw(results: Iterable[Result], folder: Path) -> list[Path]:
    """Draw four pictures for each setting, and two for each family of settings with known optima.

    Args:
        results: The runs.
        folder: The directory of the pictures.

    Returns:
        The paths of the pictures.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = by_setting(results)
    paths = [
        _draw(folder, title, kind, contenders)
        for title, contenders in settings.items()
        for kind in _KINDS
    ]
    for title, family in families(settings).items():
        together = _together(family)
        if together:
            paths += [_draw(folder, title, kind, together) for kind in _KINDS_FOR_ALL]
    return paths


def _together(settings: Iterable[Contenders]) -> Contenders:
    """The runs in all settings whose optima are known, for seeds that ran in all of them."""
    known = [
        each
        for each in settings
        if all(run.shares is not None for runs in each.values() for run in runs)
    ]
    if len(known) < 2:
        return {}
    return {
        method: [run for runs in by_seed.values() for run in runs]
        for method, by_seed in everywhere(known).items()
    }


def _draw(folder: Path, title: str, kind: str, contenders: Contenders) -> Path:
    ax = new_axes()
    (_KINDS | _KINDS_FOR_ALL)[kind](contenders, ax)
    ax.set_title(title, fontsize="medium")
    path = folder / f"{_file_name(title)}-{kind}.png"
    ax.get_figure().savefig(path, dpi=DOTS_PER_INCH)  # type: ignore[union-attr]
    return path


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", title.lower())


def _draw_budget(contenders: Contenders, ax: "Axes") -> None:
    curves = _draw_curves(contenders, over_budget, ax)
    _label_improvement(ax, curves, "share of the budget spent", "improvement since warm-up")


def _draw_iterations(contenders: Contenders, ax: "Axes") -> None:
    curves = _draw_curves(contenders, over_iterations, ax)
    _label_improvement(ax, curves, "trials", "improvement since warm-up")


def _draw_shares(contenders: Contenders, ax: "Axes") -> None:
    curves = _draw_curves(contenders, partial(over_budget, course=shares), ax)
    _label_improvement(ax, curves, "share of the budget spent", SHARE)


def _draw_shares_over_iterations(contenders: Contenders, ax: "Axes") -> None:
    curves = _draw_curves(contenders, partial(over_iterations, course=shares), ax)
    _label_improvement(ax, curves, "trials", SHARE)


def _label_improvement(ax: "Axes", curves: Sequence[Curve], x: str, y: str) -> None:
    """Label the axes, and cut off low first values, which would flatten all differences."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if not curves:
        return
    lows, highs = zip(*(curve.ends_within for curve in curves), strict=True)
    least, largest = min(0.0, *lows), max(highs)
    if largest > least:
        margin = MARGIN * (largest - least)
        ax.set_ylim(least - margin, largest + margin)


def _draw_overhead(contenders: Contenders, ax: "Axes") -> None:
    _draw_curves(contenders, suggestion_seconds, ax)
    ax.set_xlabel("trials")
    ax.set_ylabel("seconds for a suggestion")


def _draw_curves(
    contenders: Contenders, curve_of: Callable[[Sequence[Result]], Curve], ax: "Axes"
) -> list[Curve]:
    found = {method: curve_of(runs) for method, runs in contenders.items()}
    curves = {method: curve for method, curve in found.items() if len(curve.x)}  # some success
    labels = _labels(curves)
    for index, (method, curve) in enumerate(curves.items()):
        if method not in labels:
            continue
        colour = COLOURS[index % len(COLOURS)]
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        ax.plot(
            curve.x, curve.mean, color=colour, linestyle=dash, linewidth=1.8, label=labels[method]
        )
        low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
        shown = curve.mean >= 0.0  # wide bands below zero would hide everything else
        ax.fill_between(
            curve.x, low, high, where=shown, color=colour, alpha=BAND_OPACITY, linewidth=0
        )
    ax.grid(color="#DDDDDD", linewidth=0.8)
    _finish(ax)
    return list(curves.values())


def _labels(curves: Mapping[str, Curve]) -> dict[str, str]:
    """The contenders to draw -> their legend entries, which name all contenders with that curve.

    Of several curves that coincide, the longest is drawn; the legend says where the others end.
    """
    names: dict[str, list[str]] = {}
    for method, curve in curves.items():
        same = [other for other, longer in curves.items() if longer.begins_with(curve)]
        drawn = max(same, key=lambda other: len(curves[other].x))
        ends = len(curve.x) < len(curves[drawn].x)
        names.setdefault(drawn, []).append(f"{method} (to {curve.x[-1]:g})" if ends else method)
    return {drawn: ", ".join(all_names) for drawn, all_names in names.items()}


def _draw_stages(contenders: Contenders, ax: "Axes") -> None:
    rows = stage_costs(run for runs in contenders.values() for run in runs)
    methods = list(dict.fromkeys(row.method for row in rows))
    left = np.zeros(len(methods))
    for k, stage in enumerate(dict.fromkeys(row.stage for row in rows)):
        spent = np.array([row.spent for row in rows if row.stage == stage])
        # Pipelines with many stages use each colour twice, the second time paler.
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
    if ax.get_legend_handles_labels()[0]:  # matplotlib warns of an empty legend
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")


_KINDS: dict[str, Callable[[Contenders, "Axes"], None]] = {
    "budget": _draw_budget,
    "iterations": _draw_iterations,
    "stages": _draw_stages,
    "overhead": _draw_overhead,
}
_KINDS_FOR_ALL: dict[str, Callable[[Contenders, "Axes"], None]] = {
    "shares": _draw_shares,
    "shares-over-iterations": _draw_shares_over_iterations,
}
