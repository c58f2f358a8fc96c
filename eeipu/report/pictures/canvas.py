"""What the figures have in common: an empty figure, and the colours of stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eeipu.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["CALM", "STRONG", "Row", "colours_of", "new_figure", "nothing_to_draw", "trace"]

Row = dict[str, Any]

# The colours of Okabe and Ito without black, which cannot be seen on a dark page, and three more.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#B0A030")

STRONG = _COLOURS[1]
CALM = "#8A8F98"  # for what is no stage, and for the background of a picture


def new_figure(title: str, x: str, y: str, *, height: int = 360) -> "Figure":
    """An empty figure.

    Args:
        title: Its title.
        x: The title of the horizontal axis.
        y: The title of the vertical axis.
        height: Its height in pixels; it is as wide as its place.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    figure = _plotly().Figure()
    figure.update_layout(
        title={"text": title, "x": 0.0, "xref": "paper", "font": {"size": 16}},
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 13},
        height=height,
        margin={"l": 10, "r": 10, "t": 48, "b": 10},
        legend={"orientation": "h", "y": -0.22, "x": 0.0},
        hoverlabel={"align": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=_COLOURS,
    )
    figure.update_xaxes(title=x, automargin=True, gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(title=y, automargin=True, gridcolor="rgba(128,128,128,0.25)")
    figure.update_xaxes(zerolinecolor="rgba(128,128,128,0.4)")
    figure.update_yaxes(zerolinecolor="rgba(128,128,128,0.4)")
    return figure


def trace(kind: str, **options: Any) -> Any:
    """A trace of Plotly's, such as `trace("Bar", x=..., y=...)`."""
    return getattr(_plotly(), kind)(**options)


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
