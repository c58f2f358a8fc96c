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

from eeipu.report.pictures.canvas import Row, colours_of, new_figure, trace
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
        `stage`; `param`, `None` for all hyper-parameters of the stage together; `share`, the total
        Sobol index of the predicted objective, in `[0, 1]`.

    Raises:
        ConfigurationError: Too few trials have a value.
    """
    record = StudyRecord.of(study)
    pipeline = record.models.history.pipeline
    groups: list[tuple[str, str | None, tuple[int, ...]]] = []
    for stage, columns in zip(pipeline.stages, pipeline.stage_columns, strict=True):
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
    for stage, colour in colours_of(record.stage_names).items():
        bars = [row for row in of_params if row["stage"] == stage]
        if bars:
            figure.add_trace(
                trace(
                    "Bar",
                    orientation="h",
                    y=[f"{stage}.{row['param']}" for row in bars],
                    x=[row["share"] for row in bars],
                    name=f"{stage}, together {of_stages[stage]:.2f}",
                    marker={"color": colour},
                    hovertemplate="%{y}: %{x:.3f}",
                )
            )
    ranked = sorted(of_params, key=lambda row: float(row["share"]))
    order = [f"{row['stage']}.{row['param']}" for row in ranked]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    return figure


def _total_indices(record: StudyRecord, groups: list[tuple[int, ...]]) -> list[float]:
    import torch

    cube, model = record.models.history.pipeline.cube, record.models.objective
    sobol = torch.quasirandom.SobolEngine(2 * len(cube), scramble=True, seed=SEED)
    pairs = sobol.draw(POINTS, dtype=torch.double).numpy()
    first, second = cube.snap(pairs[:, : len(cube)]), cube.snap(pairs[:, len(cube) :])

    def predicted(X: NDArray[np.float64]) -> NDArray[np.float64]:
        mean, _ = model.gp.posterior(torch.from_numpy(X))
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
