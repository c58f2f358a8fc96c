"""How much of the objective's variation each hyper-parameter, and each stage, accounts for.

Notation:
    d: hyper-parameters.
    f: the predicted objective, the mean of the Gaussian process that a search would fit.
    T_i: total Sobol index of a set i of columns: the share of f's variance over the space that is
        left when all other columns are known, interactions included.

    T_i = E[(f(x) - f(x with i redrawn))^2] / (2 Var f)     (Jansen 1999)

The indices of several hyper-parameters add up to more than 1 where they interact.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eeipu.report.pictures.canvas import CALM, Row, colours_of, new_figure, trace
from eeipu.studies.records.study_record import StudyLike, StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["importance_figure", "importance_rows"]

# The standard error of an index is then about two hundredths.
POINTS = 1024
SEED = 0


def importance_rows(study: StudyLike) -> list[Row]:
    """A row for each stage and for each hyper-parameter.

    Returns:
        `stage`, `None` for a hyper-parameter that chooses among alternatives; `param`, `None` for
        all hyper-parameters of the stage together; `share`, the total Sobol index of the predicted
        objective, in `[0, 1]`.

    Raises:
        ConfigurationError: Too few trials have a value.
    """
    record = StudyRecord.of(study)
    pipeline = record.models.history.pipeline
    names = list(pipeline.space)
    groups: list[tuple[str | None, str | None, tuple[int, ...]]] = [
        (None, place, (names.index(place),)) for place in pipeline.layout.places
    ]
    for stage, columns in zip(pipeline.stages, pipeline.columns.of_stages, strict=True):
        if columns:
            groups.append((stage.name, None, columns))
        groups += [(stage.name, name, (c,)) for name, c in zip(stage.space, columns, strict=True)]
    shares = _total_indices(record, [columns for _, _, columns in groups])
    return [
        {"stage": stage, "param": param, "share": share}
        for (stage, param, _), share in zip(groups, shares, strict=True)
    ]


def importance_figure(study: StudyLike) -> "Figure":
    """A bar for each hyper-parameter, in the colours of the stages.

    Raises:
        ConfigurationError: Too few trials have a value.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = importance_rows(record)
    of_params = [row for row in rows if row["param"] is not None]
    height = 130 + 26 * len(of_params)
    x = "share of variance (total Sobol index)"
    figure = new_figure("Importance of hyper-parameters", x, "", height=height)
    of_stages = {row["stage"]: row["share"] for row in rows if row["param"] is None}
    colours = colours_of(record.stage_names)
    for stage in (None, *colours):
        bars = [row for row in of_params if row["stage"] == stage]
        if bars:
            together = of_stages.get(stage, 0.0)
            figure.add_trace(
                trace(
                    "Bar",
                    orientation="h",
                    y=[_label(row) for row in bars],
                    x=[row["share"] for row in bars],
                    name="choices" if stage is None else f"{stage}, together {together:.2f}",
                    marker={"color": CALM if stage is None else colours[stage]},
                    hovertemplate="%{y}: %{x:.3f}",
                )
            )
    ranked = sorted(of_params, key=lambda row: float(row["share"]))
    order = [_label(row) for row in ranked]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    return figure


def _label(row: Row) -> str:
    return str(row["param"]) if row["stage"] is None else f"{row['stage']}.{row['param']}"


def _total_indices(record: StudyRecord, groups: list[tuple[int, ...]]) -> list[float]:
    """The total index of each group of columns.

    Points are drawn over the whole cube, and inactive hyper-parameters set aside only after a group
    has been redrawn: what another choice makes active has been drawn, too.
    """
    import torch

    cube, model = record.models.history.pipeline.cube, record.models.objective
    sobol = torch.quasirandom.SobolEngine(2 * len(cube), scramble=True, seed=SEED)
    pairs = sobol.draw(POINTS, dtype=torch.double).numpy()
    first, second = pairs[:, : len(cube)], pairs[:, len(cube) :]

    def predicted(X: NDArray[np.float64]) -> NDArray[np.float64]:
        mean, _ = model.gp.posterior(torch.from_numpy(cube.snap(X)))
        values: NDArray[np.float64] = mean[0].numpy()
        return values

    f = predicted(first)
    variance = float(f.var())
    shares = []
    for columns in groups:
        redrawn = first.copy()
        redrawn[:, list(columns)] = second[:, list(columns)]
        share = 0.5 * float(np.mean((f - predicted(redrawn)) ** 2)) / variance if variance else 0.0
        shares.append(min(1.0, share))
    return shares
