"""What the figures have in common: an empty figure, and the colours of stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eeipu.counts import counted
from eeipu.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "CALM",
    "STRONG",
    "Row",
    "colours_of",
    "left_out_note",
    "new_figure",
    "nothing_to_draw",
    "trace",
    "without_outliers",
]

Row = dict[str, Any]

# The colours of Okabe and Ito without black, which cannot be seen on a dark page, and three more.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#B0A030")

STRONG = _COLOURS[1]
CALM = "#8A8F98"  # for what is no stage, and for the background of a picture

# Values further from the quartiles than this many times their distance are outliers (Tukey).
FENCE = 1.5


def new_figure(title: str, x: str, y: str, *, note: str = "", height: int = 360) -> "Figure":
    """An empty figure.

    Args:
        title: Its title.
        x: The title of the horizontal axis.
        y: The title of the vertical axis.
        note: What to say below the title.
        height: Its height in pixels; it is as wide as its place.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    axis = {
        "automargin": True,
        "gridcolor": "rgba(128,128,128,0.25)",
        "zerolinecolor": "rgba(128,128,128,0.4)",
        "showline": False,
    }
    layout = {
        "title": {
            "text": title,
            "subtitle": {"text": note, "font": {"size": 12}},
            "x": 0.0,
            "y": 1.0,
            "yanchor": "top",
            "pad": {"l": 4, "t": 14},
            "font": {"size": 16},
        },
        # Without Plotly's own template, which takes longer to copy than a figure to draw.
        "template": {"layout": {"colorway": _COLOURS}},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#2A3038"},
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 96 if note else 60, "b": 10},
        # Between the title and the axes, where it never lies on the axis's own title.
        "legend": {
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "x": 0.0,
            "font": {"size": 12},
        },
        "hoverlabel": {"align": "left"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": {"title": {"text": x}, **axis},
        "yaxis": {"title": {"text": y}, **axis},
    }
    return _plotly().Figure(layout=layout)


def trace(kind: str, **options: Any) -> Any:
    """A trace of Plotly's, such as `trace("Bar", x=..., y=...)`."""
    return getattr(_plotly(), kind)(**options)


def without_outliers(values: Sequence[float]) -> tuple[float, float] | None:
    """A range for an axis that leaves outliers out; `None` if there are none.

    A few very bad values would leave no room to tell the good ones apart.

    Args:
        values: The values. Infinite ones are outliers.
    """
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return None
    first, third = np.quantile(finite, [0.25, 0.75]).tolist()
    reach = FENCE * (third - first)
    inside = [value for value in finite if first - reach <= value <= third + reach]
    if len(inside) == len(values):
        return None
    low, high = min(inside), max(inside)
    pad = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - pad, high + pad


def left_out_note(count: int) -> str:
    """What a picture says of values beyond its axes; nothing if there are none."""
    if count == 0:
        return ""
    return counted(count, "far value is left out", "far values are left out")


def colours_of(stages: Sequence[str]) -> dict[str, str]:
    """A colour for each stage, the same in all pictures."""
    return {name: _COLOURS[k % len(_COLOURS)] for k, name in enumerate(stages)}


def nothing_to_draw(study_name: str, what: str) -> ConfigurationError:
    """The error of a picture that would be empty.

    Args:
        study_name: The name of the study.
        what: What the study lacks.
    """
    return ConfigurationError(f"the study {study_name!r} has {what}, so there is nothing to draw.")


def _plotly() -> Any:
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise MissingExtraError(
            f'pictures need plotly ({error}); pip install "eeipu[report]"'
        ) from error
    return graph_objects
