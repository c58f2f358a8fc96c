"""Figures of studies. They are drawn from the studies alone, and need no display."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import ConfigurationError, MissingExtraError
from eeipu.methods.budget import STUDY_ID
from eeipu.methods.budget import spent as charged_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "DASHES", "new_axes", "plot_best_over_budget"]

# The colours of Okabe and Ito, which colour-blind people can distinguish, without the pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")  # for prints without colours

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class _Curve:
    """The best value of a study after each trial that has ended.

    Attributes:
        numbers: The numbers of these trials, ascending.
        spent: The sum of all charges up to the end of each trial.
        best: The best value up to then; NaN before the first success.
    """

    numbers: tuple[int, ...]
    spent: tuple[float, ...]
    best: tuple[float, ...]


def plot_best_over_budget(
    studies: Mapping[str, optuna.Study | Sequence[optuna.Study]],
    *,
    warm_up: int | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the best value of each study over the budget that it had spent.

    Trials are taken in the order of their numbers. Failed trials contribute their costs only, and
    results from elsewhere (`Tuner.add_trial`, or trials of another study) their values only.

    Args:
        studies: Label -> a study, or several studies of the same search, such as those of several
            seeds. Their trials must have the user attribute `charged`. Several studies are drawn
            as thin lines, and the mean of their best values as a thick one, from the budget on at
            which each of them has a value.
        warm_up: The number of warm-up trials; if given, their end is marked on each curve.
        ax: The axes to draw on; by default those of a new figure.

    Returns:
        The axes; their figure is `axes.figure`.

    Raises:
        ConfigurationError: There is no study, or a study has no successful trial with a charge.
        MissingExtraError: matplotlib is not installed.
    """
    curves = {label: _curves(label, found) for label, found in studies.items()}
    if not any(curves.values()):
        raise ConfigurationError("there is nothing to plot: studies is empty.")
    if ax is None:
        ax = new_axes()
    means = {
        label: found[0] if len(found) == 1 else _mean(found) for label, found in curves.items()
    }
    topmost = max(means, key=lambda label: means[label].best[-1])
    for index, (label, mean) in enumerate(means.items()):
        colour, dashes = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        for curve in curves[label]:
            if warm_up is not None:
                _mark_warm_up(ax, curve, colour, warm_up)
            if len(curves[label]) > 1:
                _draw(ax, curve, color=colour, linestyle=dashes, linewidth=0.9, alpha=0.5)
        name = label if len(curves[label]) == 1 else f"{label}, mean of {len(curves[label])}"
        _draw(ax, mean, color=colour, linestyle=dashes, linewidth=2.0, label=name)
        _annotate_end(ax, mean, colour, is_above=label == topmost)
    _finish(ax, has_marks=bool(warm_up))
    return ax


def _draw(ax: "Axes", curve: _Curve, **style: Any) -> None:
    ax.step(curve.spent, curve.best, where="post", **style)


def _curves(label: str, studies: optuna.Study | Sequence[optuna.Study]) -> list[_Curve]:
    several = [studies] if isinstance(studies, optuna.Study) else studies
    return [_curve(label, study) for study in several]


def _mean(curves: Sequence[_Curve]) -> _Curve:
    """The mean best value at each budget at which one of the curves has a step.

    It begins where all curves have a value, and ends with the last of them; a curve that ends
    earlier keeps its best value.
    """
    steps = sorted({spent for curve in curves for spent in curve.spent})
    means = []
    for spent in steps:
        ended = [bisect_right(curve.spent, spent) for curve in curves]
        bests = [c.best[n - 1] if n else math.nan for c, n in zip(curves, ended, strict=True)]
        means.append(math.fsum(bests) / len(bests))
    return _Curve((), tuple(steps), tuple(means))


def _curve(label: str, study: optuna.Study) -> _Curve:
    trials = study.get_trials(deepcopy=False, states=_ENDED)
    spent, best = [0.0], [math.nan]
    better = max if study.direction is StudyDirection.MAXIMIZE else min
    for trial in trials:
        spent.append(spent[-1] + charged_for((trial,), study.user_attrs.get(STUDY_ID)))
        known = [value for value in (best[-1], _value(trial)) if not math.isnan(value)]
        best.append(better(known, default=math.nan))
    if math.isnan(best[-1]) or spent[-1] == 0.0:
        raise ConfigurationError(
            f"the study {label!r} has no successful trial that was charged (user attribute "
            f"'charged'), so there is no curve to draw; plot studies that eeipu has run."
        )
    return _Curve(tuple(trial.number for trial in trials), tuple(spent[1:]), tuple(best[1:]))


def _value(trial: FrozenTrial) -> float:
    return trial.values[0] if trial.state is TrialState.COMPLETE else math.nan


def new_axes() -> "Axes":
    """Make the axes of a new figure, without a window.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f'plotting needs matplotlib ({error}); pip install "eeipu[plots]"'
        ) from error
    # Not with pyplot, which keeps figures in a global list and may need a display.
    return Figure(figsize=(7.0, 4.2), layout="constrained").add_subplot()


def _annotate_end(ax: "Axes", curve: _Curve, colour: str, *, is_above: bool) -> None:
    """Write the final value near the last point: above the highest curve, below the others."""
    end = (curve.spent[-1], curve.best[-1])
    ax.plot(*end, marker="o", markersize=6, color=colour)
    ax.annotate(
        f"{curve.best[-1]:#.4g}",
        end,
        xytext=(0, 7 if is_above else -7),
        textcoords="offset points",
        horizontalalignment="center",
        verticalalignment="bottom" if is_above else "top",
        color=colour,
        fontweight="bold",
    )


def _mark_warm_up(ax: "Axes", curve: _Curve, colour: str, warm_up: int) -> None:
    ended = sum(number < warm_up for number in curve.numbers)
    if ended:
        at = (curve.spent[ended - 1], curve.best[ended - 1])
        ax.plot(*at, marker="D", markersize=7, color=colour, markerfacecolor="white")


def _finish(ax: "Axes", *, has_marks: bool) -> None:
    if has_marks:
        ax.plot([], [], "D", color="#555555", markerfacecolor="white", label="end of warm-up")
    ax.set_xlabel("budget spent")
    ax.set_ylabel("best value so far")
    ax.set_xlim(left=0.0)
    ax.margins(y=0.1)  # makes room for the final values
    ax.grid(color="#DDDDDD", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="best", frameon=False)
