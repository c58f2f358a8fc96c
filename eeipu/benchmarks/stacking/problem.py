"""The stacking pipeline in two stages, as in the paper, and with one stage for each base model.

The paper (Essofi et al. 2024) tunes two tree counts, two depths and two learning rates for four
base models, and does not say which models they belong to. Here the two boosted models (XGBoost,
CatBoost) share a tree count and a depth, and so do the two forests (ExtraTrees, random forest).
Each boosted model has its own learning rate; forests have none. With one stage for each model, in
a chain or side by side, each has its own tree count and depth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from eeipu.benchmarks.problem import CostKind, Preset, Problem, check_size
from eeipu.benchmarks.stacking import work
from eeipu.benchmarks.stacking.models import (
    MAX_DEPTH,
    Stacked,
    meta_score,
    with_catboost,
    with_extra_trees,
    with_random_forest,
    with_xgboost,
)
from eeipu.benchmarks.stacking.table import Table, credit_table, randhie_table
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution, Float, Int
from eeipu.stages.declaration import INPUTS, Stage

__all__ = ["problem", "problem_as_graph", "problem_by_model"]

# The ranges of the paper.
TREES = Int(1, 20)
DEPTH = Int(1, MAX_DEPTH)
RATE = Float(0.001, 0.999)
META = {"C": Float(0.1, 10.0), "tol": Float(1e-5, 1e-2, log=True), "max_iter": Int(10, 300)}


@dataclass(frozen=True)
class _Size:
    """The size of a preset.

    Attributes:
        rows: The number of rows of the default table; `None` takes all 20,190.
        own_rows: The number of rows of the user's own table. The paper took 1 % of 300,000.
        deepest: The largest depth of CatBoost's trees, which take as long as all other models.
        n_initial: The number of warm-up trials.
        budget: The budget in measured seconds; `None` is three times the cost of the warm-up.
    """

    rows: int | None
    own_rows: int
    deepest: int
    n_initial: int
    budget: float | None = None


_SIZES: dict[Preset, _Size] = {
    "smoke": _Size(1_200, 1_200, 6, 3),
    "cpu": _Size(None, 20_000, 16, 10),
    # The published budget.
    "paper": _Size(None, 3_000, 16, 10, 500.0),
}


def problem(
    preset: Preset, *, cost: CostKind, seed: int, data: str | Path | None = None
) -> Problem:
    """Stacking in two stages: all base models, then the meta-model.

    Args:
        preset: The number of rows and the budget.
        cost: Measured seconds, or the units of `eeipu.benchmarks.stacking.work`.
        seed: The seed for drawing rows and for holding some out.
        data: The user's own table; see `eeipu.benchmarks.stacking.table.credit_table`.

    Raises:
        ConfigurationError: There is no such preset or cost, or the table cannot be used.
    """
    size = _size(preset, cost)
    stages = [_base_models(size.deepest, cost), _meta_model(cost)]
    return _problem("stacking", stages, size, cost, seed, data)


def problem_by_model(
    preset: Preset, *, cost: CostKind, seed: int, data: str | Path | None = None
) -> Problem:
    """Stacking with one stage for each base model; arguments and errors as for `problem`."""
    size = _size(preset, cost)
    stages = [*_each_model(size.deepest, cost), _meta_model(cost)]
    return _problem("stacking-by-model", stages, size, cost, seed, data)


def problem_as_graph(
    preset: Preset, *, cost: CostKind, seed: int, data: str | Path | None = None
) -> Problem:
    """Stacking with base models side by side; arguments and errors as for `problem`."""
    size = _size(preset, cost)
    models = [replace(each, inputs=(INPUTS,)) for each in _each_model(size.deepest, cost)]
    meta = replace(_meta_model(cost), inputs=tuple(each.name for each in models))
    return _problem("stacking-graph", [*models, meta], size, cost, seed, data)


def _each_model(deepest: int, cost: CostKind) -> list[Stage]:
    return [_xgboost(cost), _extra_trees(cost), _random_forest(cost), _catboost(deepest, cost)]


def _size(preset: Preset, cost: CostKind) -> _Size:
    check_size(preset, cost)
    return _SIZES[preset]


def _problem(
    name: str,
    stages: list[Stage],
    size: _Size,
    cost: CostKind,
    seed: int,
    data: str | Path | None,
) -> Problem:
    table: Table = (
        randhie_table(size.rows, seed)
        if data is None
        else credit_table(Path(data), size.own_rows, seed)
    )
    return Problem(
        name,
        Pipeline(stages, name=name),
        (Stacked.nothing(table),),
        "maximize",
        size.n_initial,
        size.budget if cost == "measured" else None,
    )


def _stage(
    name: str,
    space: Mapping[str, Distribution],
    function: Callable[..., object],
    cost: Callable[..., float],
    kind: CostKind,
) -> Stage:
    return Stage(name, space, function, cost=cost if kind == "declared" else None)


def _base_models(deepest: int, kind: CostKind) -> Stage:
    def run(
        stacked: Stacked,
        *,
        boosted_trees: int,
        boosted_depth: int,
        xgboost_rate: float,
        catboost_rate: float,
        forest_trees: int,
        forest_depth: int,
    ) -> Stacked:
        boosted = {"trees": boosted_trees, "depth": boosted_depth}
        forest = {"trees": forest_trees, "depth": forest_depth}
        stacked = with_xgboost(stacked, **boosted, rate=xgboost_rate)
        stacked = with_extra_trees(stacked, **forest)
        stacked = with_random_forest(stacked, **forest)
        return with_catboost(stacked, **boosted, rate=catboost_rate, deepest=deepest)

    def cost(
        stacked: Stacked,
        *,
        boosted_trees: int,
        boosted_depth: int,
        forest_trees: int,
        forest_depth: int,
        **_: float,
    ) -> float:
        boosted = {"trees": boosted_trees, "depth": boosted_depth}
        forest = {"trees": forest_trees, "depth": forest_depth}
        return (
            work.boosting(stacked, **boosted)
            + work.extra_trees(stacked, **forest)
            + work.random_forest(stacked, **forest)
            + work.symmetric(stacked, **boosted, deepest=deepest)
        )

    space = {
        "boosted_trees": TREES,
        "boosted_depth": DEPTH,
        "xgboost_rate": RATE,
        "catboost_rate": RATE,
        "forest_trees": TREES,
        "forest_depth": DEPTH,
    }
    return _stage("base-models", space, run, cost, kind)


def _xgboost(kind: CostKind) -> Stage:
    def cost(stacked: Stacked, *, trees: int, depth: int, rate: float) -> float:  # noqa: ARG001
        return work.boosting(stacked, trees=trees, depth=depth)

    space = {"trees": TREES, "depth": DEPTH, "rate": RATE}
    return _stage("xgboost", space, with_xgboost, cost, kind)


def _extra_trees(kind: CostKind) -> Stage:
    space = {"trees": TREES, "depth": DEPTH}
    return _stage("extra-trees", space, with_extra_trees, work.extra_trees, kind)


def _random_forest(kind: CostKind) -> Stage:
    space = {"trees": TREES, "depth": DEPTH}
    return _stage("random-forest", space, with_random_forest, work.random_forest, kind)


def _catboost(deepest: int, kind: CostKind) -> Stage:
    def run(stacked: Stacked, *, trees: int, depth: int, rate: float) -> Stacked:
        return with_catboost(stacked, trees=trees, depth=depth, rate=rate, deepest=deepest)

    def cost(stacked: Stacked, *, trees: int, depth: int, rate: float) -> float:  # noqa: ARG001
        return work.symmetric(stacked, trees=trees, depth=depth, deepest=deepest)

    return _stage("catboost", {"trees": TREES, "depth": DEPTH, "rate": RATE}, run, cost, kind)


def _meta_model(kind: CostKind) -> Stage:
    def cost(
        stacked: Stacked,
        *others: Stacked,  # noqa: ARG001
        C: float,  # noqa: ARG001
        tol: float,  # noqa: ARG001
        max_iter: int,
    ) -> float:
        return work.meta(stacked, max_iter=max_iter)

    return _stage("meta-model", META, meta_score, cost, kind)
