"""How well the models of the objective and of the costs predict what they have not seen.

Each observation is predicted from all others (leave-one-out), with the hyper-parameters of the fit
to all of them. The models are those that a search would fit now.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eeipu.report.pictures.canvas import Row, colours_of, new_figure, nothing_to_draw, trace
from eeipu.studies.records.study_record import StudyLike, StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from torch import Tensor

    from eeipu.models.gaussian_process import ExactGPs

__all__ = ["coverage", "prediction_figure", "prediction_rows"]

# The intervals hold this share of the observations if the models are right, and are this many
# standard deviations wide to either side.
INTERVAL, DEVIATIONS = 0.9, 1.645

OBJECTIVE = None

_ENDS = ("low", "predicted", "high")


def prediction_rows(study: StudyLike) -> list[Row]:
    """A row for each observation of the objective and of each stage's cost.

    Returns:
        `stage`, `None` for the objective; `number`, the trial's; `observed`; `predicted` from all
        others; `low` and `high`, the ends of the interval that should hold 90 %. Where the model
        compresses the tail of bad values, so are they here.

    Raises:
        ConfigurationError: Too few trials have a value.
    """
    record = StudyRecord.of(study)
    models = record.models
    history = models.history
    sign, unit, middle = history.sign, models.standard.unit, models.standard.middle
    rows: list[Row] = [
        {
            "stage": OBJECTIVE,
            "number": number,
            **{name: sign * (middle + unit * value) for name, value in each.items()},
        }
        for number, each in _left_out(record, models.objective.gp, 0)
    ]
    if sign < 0:
        rows = [{**row, "low": row["high"], "high": row["low"]} for row in rows]
    costs = models.costs.by_stage
    for k, stage in enumerate(costs.executed):
        assert costs.gps is not None
        name = history.pipeline.stage_names[stage]
        for number, each in _left_out(record, costs.gps, k):
            positive = {key: math.exp(value) for key, value in each.items()}
            rows.append({"stage": name, "number": number, **positive})
    return rows


def _left_out(
    record: StudyRecord, gps: "ExactGPs", k: int
) -> list[tuple[int | None, dict[str, float]]]:
    """Observed and predicted values of one of several GPs, each with the number of its trial."""
    data = gps.observations
    residuals, deviations = gps.leave_one_out()
    observed: Tensor = data.mean[k] + data.std[k] * data.y[k]
    history = record.models.history
    numbers = {
        tuple(point): trial.number
        for point, trial in zip(history.X.tolist(), history.ended, strict=True)
    }
    rows = []
    for i, point in enumerate(data.X.tolist()):
        if bool(data.is_known[k, i]):
            seen, std = observed[i].item(), deviations[k, i].item()
            mean = seen - residuals[k, i].item()
            low, high = mean - DEVIATIONS * std, mean + DEVIATIONS * std
            known = {"observed": seen, "predicted": mean, "low": low, "high": high}
            rows.append((numbers.get(tuple(point)), known))
    return rows


def coverage(rows: list[Row]) -> float:
    """The share of observations that lie in their intervals, of at least one row."""
    # Rounding must not decide about an observation that is exactly predicted.
    slack = 1e-9
    inside = [
        row["low"] - slack * abs(row["low"])
        <= row["observed"]
        <= row["high"] + slack * abs(row["high"])
        for row in rows
    ]
    return float(sum(inside) / len(inside))


def prediction_figure(study: StudyLike, stage: str | None = OBJECTIVE) -> "Figure":
    """Predicted over observed values, with intervals; right predictions lie on the diagonal.

    Args:
        study: The study.
        stage: The stage whose costs are predicted; `None`: the objective is.

    Raises:
        ConfigurationError: Too few trials have a value, or the stage was never executed.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = [row for row in prediction_rows(record) if row["stage"] == stage]
    if not rows:
        raise nothing_to_draw(record.name, f"no cost of a stage {stage!r}")
    what = record.objective if stage is None else f"cost of {stage}"
    unit = " (s)" if stage is not None and record.is_measured else ""
    inside = round(coverage(rows) * len(rows))
    note = f"{inside} of {len(rows)} lie in their 90 % intervals"
    values = {each.number: each.value for each in record.trials}
    if stage is OBJECTIVE and _are_compressed(rows, values):
        note += "; bad values are drawn nearer, as the model takes them"
    title = f"Prediction of {what}"
    figure = new_figure(title, f"observed{unit}", f"predicted{unit}", note=note)
    x, y = [row["observed"] for row in rows], [row["predicted"] for row in rows]
    ends = [min(x), max(x)]
    dots = {"dash": "dot", "color": "#8A8F98"}
    figure.add_trace(trace("Scatter", x=ends, y=ends, mode="lines", line=dots, hoverinfo="skip"))
    colour = "#0072B2" if stage is None else colours_of(record.stage_names)[stage]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [row["high"] - row["predicted"] for row in rows],
        "arrayminus": [row["predicted"] - row["low"] for row in rows],
        "thickness": 1,
        "width": 0,
        "color": colour,
    }
    figure.add_trace(
        trace(
            "Scatter",
            x=x,
            y=y,
            error_y=bars,
            mode="markers",
            marker={"color": colour, "size": 6},
            text=[f"trial {row['number']}" for row in rows],
            hovertemplate="%{text}<br>observed %{x:.4g}<br>predicted %{y:.4g}<extra></extra>",
        )
    )
    figure.update_layout(showlegend=False)
    if stage is not None:
        figure.update_xaxes(type="log", **_ticks(x))
        figure.update_yaxes(type="log", **_ticks([row[end] for row in rows for end in _ENDS]))
    return figure


def _are_compressed(rows: Sequence[Row], values: Mapping[int, float | None]) -> bool:
    """Whether a value that the model observed is another one than the trial's."""
    pairs = [(values.get(row["number"]), row["observed"]) for row in rows]
    known = [(value, observed) for value, observed in pairs if value is not None]
    rounding = 1e-9 * max((abs(value) for value, _ in known), default=0.0)
    return not all(math.isclose(*pair, rel_tol=1e-6, abs_tol=rounding) for pair in known)


def _ticks(values: list[float]) -> dict[str, list[float] | list[str]]:
    """The ticks of a logarithmic axis, with whole numbers: Plotly's own say 2 for 0.02."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    digits = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [digit * 10.0**power for power in range(low, high + 1) for digit in digits]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
