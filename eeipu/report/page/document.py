"""The report of a study as one HTML file, with Plotly's code and all data in it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from eeipu.errors import ConfigurationError, MissingExtraError
from eeipu.report.page import sections
from eeipu.report.pictures.best import best_figure
from eeipu.report.pictures.call_tree import CacheLike
from eeipu.report.pictures.choices import choice_figure, choice_rows, why_figure
from eeipu.report.pictures.costs import cost_figure, savings_figure
from eeipu.report.pictures.front import front_figure
from eeipu.report.pictures.graph import graph_figure
from eeipu.report.pictures.importance import importance_figure
from eeipu.report.pictures.learning import learning_figure
from eeipu.report.pictures.predictions import prediction_figure
from eeipu.report.pictures.timeline import timeline_figure
from eeipu.report.pictures.tree import tree_figure
from eeipu.studies.records.study_record import StudyLike, StudyRecord
from eeipu.studies.records.tables import aim, as_json, failures

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["DrawnModels", "draw_models", "report_html", "write_report"]

# The page offers the reasons of this many trials, the last ones, and of the best five.
MOST_REASONS = 50

# Pixels above the axes of a picture, without its legend.
TOP = 12

# The page reaches no network: nothing is loaded, and nothing can be sent.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
# A page that follows its study asks its own server for news.
_LIVE = "; connect-src 'self'"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body{live}>
<header><h1>{title}</h1><p id="state">{subtitle}</p>
<button id="theme" type="button">light / dark</button></header>
<main>{body}</main>
<script>{plotly}</script>
<script id="pictures" type="application/json">{pictures}</script>
<script>{script}</script>
</body>
</html>
"""


def write_report(
    study: StudyLike, path: str | Path, *, models: bool = True, cache: CacheLike = None
) -> None:
    """Write the report of a study as one HTML file, which needs no network.

    Args:
        study: The study.
        path: The file.
        models: Whether to fit models, for what they recommend, the importance of hyper-parameters
            and the quality of predictions. It takes seconds, and longer with very many trials.
        cache: The cache of stage outputs, or its place, to say which of them are kept; by default
            the place that the study remembers.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    page = report_html(study, models=models, cache=cache)
    Path(path).write_text(page, encoding="utf-8")


def report_html(
    study: StudyLike,
    *,
    models: "bool | DrawnModels | None" = True,
    cache: CacheLike = None,
    live: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The report of a study, as `write_report` writes it.

    Args:
        study: The study.
        models: Whether to fit models; or what has been drawn of them before.
        cache: See `write_report`.
        live: Of a page that a server draws again when the study changes: its `version`, and
            `every_s`, the seconds after which it looks for another one.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError(
            f'a report needs plotly ({error}); pip install "eeipu[report]"'
        ) from error
    record = StudyRecord.of(study)
    drawn = draw_models(record) if models is True else models or DrawnModels((), {})
    pictures = _Pictures()
    parts = [*_sections(record, pictures, cache), *drawn.sections]
    if failures(record):
        parts.append(sections.section("Failures", sections.failures(record), is_wide=True))
    body = "".join([sections.tiles(record), '<div class="grid">', *parts, "</div>"])
    now = datetime.now().astimezone()
    filled = {
        "policy": _POLICY + (_LIVE if live else ""),
        "live": "".join(f' data-{name.replace("_", "-")}="{each}"' for name, each in live.items()),
        "title": escape(record.name),
        "subtitle": escape(_subtitle(record, now)),
        "style": _asset("style.css"),
        "body": body,
        "plotly": get_plotlyjs(),
        # In a script, nothing but "</script" and "<!--" could end or change the text.
        "pictures": as_json({**pictures.known, **drawn.pictures}).replace("<", "\\u003c"),
        "script": _asset("page.js"),
    }
    return re.sub(r"\{(\w+)\}", lambda place: filled[place[1]], _PAGE)


class _Pictures:
    """The figures of a page, by name, without what is the same in all of them."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def add(self, name: str, draw: Callable[[], "Figure"]) -> str:
        """Draw a figure; returns the HTML of its place, which is empty if there is none to draw."""
        try:
            figure = draw()
        except ConfigurationError:
            return ""
        drawn = figure.to_plotly_json()
        layout = drawn["layout"]
        layout.pop("template", None)
        # The page has the titles as text, which breaks lines on a phone.
        title = layout.pop("title")
        height = layout.pop("height") - layout["margin"]["t"] + TOP
        layout["margin"]["t"] = TOP
        self.known[name] = {**drawn, "height": height}
        note = title.get("subtitle", {}).get("text")
        below = f'<p class="note">{escape(note)}</p>' if note else ""
        return f"<h2>{escape(title['text'])}</h2>{below}{self.place(name)}"

    def place(self, name: str) -> str:
        """The HTML of the place of a picture, without its title."""
        height = self.known[name]["height"]
        return (
            f'<div class="picture" data-picture="{escape(name)}" style="height: {height}px"></div>'
        )


@dataclass(frozen=True)
class DrawnModels:
    """What a page shows of the models that a search would fit.

    Attributes:
        sections: The parts of the page.
        pictures: The figures in them, by name.
    """

    sections: tuple[str, ...]
    pictures: Mapping[str, Any]


def draw_models(record: StudyRecord) -> DrawnModels:
    """Fit models, and show what they recommend, and how well they predict values and costs.

    How important they find hyper-parameters is drawn, too.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    if record.has_several_objectives:
        return DrawnModels((), {})
    pictures = _Pictures()
    found = [sections.recommended(record)]
    found.append(pictures.add("importance", partial(importance_figure, record)))
    for stage in (None, *record.stage_names):
        name = "predictions" if stage is None else f"predictions of {stage}"
        found.append(pictures.add(name, partial(prediction_figure, record, stage)))
    return DrawnModels(tuple(_filled(found)), pictures.known)


def _sections(record: StudyRecord, pictures: _Pictures, cache: CacheLike) -> list[str]:
    draw, section = pictures.add, sections.section
    if record.has_several_objectives:
        several = range(1, len(record.study.directions))
        fronts = {f"front {k}": partial(front_figure, record, 0, k) for k in several}
        parts = _filled([draw(name, figure) for name, figure in fronts.items()])
        title = "Trials on the front"
    else:
        over_time = partial(best_figure, record, over="time")
        parts = _filled([draw("budget", partial(best_figure, record)), draw("time", over_time)])
        title = "Best trials"
    if any(each.state == "complete" for each in record.trials):
        parts.append(section(title, sections.best_trials(record), is_wide=True))
    parts.append(section("Account", sections.account(record)))
    parts.append(section("Account of the stages", sections.stages(record)))
    more = {"graph": graph_figure, "savings": savings_figure}
    parts += _filled([draw(name, partial(figure, record)) for name, figure in more.items()])
    for name, figure, note in (
        ("costs", partial(cost_figure, record), "Hatched: reused, so not paid."),
        ("tree", partial(tree_figure, record, cache), "Drag over a part to enlarge it."),
        ("timeline", partial(timeline_figure, record), "Pauses without a trial are left out."),
    ):
        picture = draw(name, figure)
        parts += [section("", picture, note=note, is_wide=True)] if picture else []
    others = {"learning": learning_figure, "choices": choice_figure}
    parts += _filled([draw(name, partial(figure, record)) for name, figure in others.items()])
    return parts + _reasons(record, pictures)


def _reasons(record: StudyRecord, pictures: _Pictures) -> list[str]:
    """Why trials were chosen, one at a time: a list to choose from, and a picture."""
    chosen = [row["number"] for row in choice_rows(record) if row["is_chosen"]]
    best = [each.number for each in record.ranked if each.number in set(chosen)]
    offered = sorted({*chosen[-MOST_REASONS:], *best[:5]})
    if not offered:
        return []
    for number in offered:
        pictures.add(f"why {number}", partial(why_figure, record, number))
    first = best[0] if best else offered[-1]
    options = "".join(
        f'<option value="why {number}"{selected}>trial {number}</option>'
        for number in offered
        for selected in (" selected" if number == first else "",)
    )
    body = (
        f'<p><label>Trial: <select id="why">{options}</select></label></p>'
        f'<div id="reason">{pictures.place(f"why {first}")}</div>'
    )
    note = "Beside the chosen candidate, the best ones with other stages for free."
    return [sections.section("Why was it chosen?", body, note=note)]


def _filled(pictures: list[str]) -> list[str]:
    """A section for each picture that there is."""
    return [sections.section("", picture) for picture in pictures if picture]


def _subtitle(record: StudyRecord, now: datetime) -> str:
    method = (record.told.get("eeipu:tuner") or {}).get("method")
    by = "" if method is None else f", by {method}"
    return f"{aim(record)}{by}; as of {now:%Y-%m-%d %H:%M %Z}"


def _asset(name: str) -> str:
    return files("eeipu.report.page").joinpath(name).read_text(encoding="utf-8")
