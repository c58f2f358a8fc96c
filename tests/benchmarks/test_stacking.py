"""The stacking problems."""

import sys
from importlib import import_module

import numpy as np
import pytest

from eeipu.benchmarks.runs.options import Options
from eeipu.benchmarks.runs.single_run import run
from eeipu.benchmarks.stacking import work
from eeipu.benchmarks.stacking.models import Stacked, catboost_depth, with_extra_trees
from eeipu.benchmarks.stacking.problem import problem, problem_as_graph, problem_by_model
from eeipu.benchmarks.stacking.table import credit_table, randhie_table
from eeipu.errors import ConfigurationError, MissingExtraError

TWO_STAGES = {
    "base-models.boosted_trees": 8,
    "base-models.boosted_depth": 10,
    "base-models.xgboost_rate": 0.3,
    "base-models.catboost_rate": 0.3,
    "base-models.forest_trees": 6,
    "base-models.forest_depth": 6,
}
BY_MODEL = {
    "xgboost.trees": 8,
    "xgboost.depth": 4,
    "xgboost.rate": 0.3,
    "extra-trees.trees": 6,
    "extra-trees.depth": 6,
    "random-forest.trees": 6,
    "random-forest.depth": 6,
    "catboost.trees": 8,
    "catboost.depth": 30,
    "catboost.rate": 0.3,
}
META = {"meta-model.C": 1.0, "meta-model.tol": 1e-4, "meta-model.max_iter": 300}

# A step away from these. With few iterations no tolerance would end them earlier.
MOVED = {
    "trees": 9,
    "depth": 60,
    "rate": 0.6,
    "C": 5.0,
    "tol": 9e-3,
    "max_iter": 30,
}


@pytest.mark.parametrize(("make", "base"), [(problem, TWO_STAGES), (problem_by_model, BY_MODEL)])
def test_every_parameter_changes_the_score(make, base):
    made = make("smoke", cost="declared", seed=0)
    base = base | META
    assert base.keys() == made.pipeline.space.keys()
    before = made.pipeline.run(base, *made.inputs)
    assert before.error is None

    for name in base:
        short = name.split(".")[1].split("_")[-1] if "meta" not in name else name.split(".")[1]
        after = made.pipeline.run(base | {name: MOVED[short]}, *made.inputs)
        assert after.value != before.value, name


def test_the_space_is_the_paper_s():
    space = problem("smoke", cost="declared", seed=0).pipeline.space
    ranges = {name.split(".")[1]: (d.low, d.high) for name, d in space.items()}
    assert ranges == {
        "boosted_trees": (1, 20),
        "boosted_depth": (1, 100),
        "xgboost_rate": (0.001, 0.999),
        "catboost_rate": (0.001, 0.999),
        "forest_trees": (1, 20),
        "forest_depth": (1, 100),
        "C": (0.1, 10.0),
        "tol": (1e-5, 1e-2),
        "max_iter": (10, 300),
    }


def test_the_models_learn_something():
    made = problem("smoke", cost="declared", seed=0)
    assert made.pipeline.run(TWO_STAGES | META, *made.inputs).value > 0.58


def test_a_run_is_the_same_every_time():
    values = {
        made.pipeline.run(TWO_STAGES | META, *made.inputs).value
        for made in (problem("smoke", cost="declared", seed=0) for _ in range(2))
    }
    assert len(values) == 1


def test_unknown_presets_and_costs_are_named():
    with pytest.raises(ConfigurationError, match=r"preset must be one of .* 'huge'"):
        problem("huge", cost="declared", seed=0)
    with pytest.raises(ConfigurationError, match=r"cost must be one of .* 'guessed'"):
        problem("smoke", cost="guessed", seed=0)


def test_costs_are_measured_or_declared():
    measured = problem_by_model("smoke", cost="measured", seed=0)
    declared = problem_by_model("smoke", cost="declared", seed=0)
    assert [stage.cost for stage in measured.pipeline.stages] == [None] * 5
    runs = [declared.pipeline.run(BY_MODEL | META, *declared.inputs) for _ in range(2)]
    assert runs[0].stage_costs == runs[1].stage_costs


def test_side_by_side_the_models_give_the_score_and_costs_of_their_chain():
    chain, graph = (
        make("smoke", cost="declared", seed=0) for make in (problem_by_model, problem_as_graph)
    )

    runs = [made.pipeline.run(BY_MODEL | META, *made.inputs) for made in (chain, graph)]

    assert runs[0].value == runs[1].value
    assert runs[0].stage_costs == runs[1].stage_costs
    assert graph.pipeline.graph.upstream == ((), (), (), (), (0, 1, 2, 3))


def test_the_paper_s_seconds_alone_are_a_budget():
    assert problem("paper", cost="measured", seed=0).budget == 500.0
    assert problem("paper", cost="declared", seed=0).budget is None
    assert problem("cpu", cost="measured", seed=0).budget is None


def test_both_pipelines_declare_the_same_work_for_the_same_models():
    two, five = (make("smoke", cost="declared", seed=0) for make in (problem, problem_by_model))
    models = {
        "xgboost.trees": 8,
        "xgboost.depth": 10,
        "xgboost.rate": 0.3,
        "catboost.trees": 8,
        "catboost.depth": 10,
        "catboost.rate": 0.3,
    }
    run_two = two.pipeline.run(TWO_STAGES | META, *two.inputs)
    run_five = five.pipeline.run(BY_MODEL | models | META, *five.inputs)
    assert run_five.charged == pytest.approx(run_two.charged)
    assert run_five.value == pytest.approx(run_two.value, abs=1e-3)


def test_work_grows_with_rows_trees_depth_and_iterations():
    few, many = (Stacked.nothing(randhie_table(rows, 0)) for rows in (600, 1200))
    for cost in (work.boosting, work.extra_trees, work.random_forest):
        least = cost(few, trees=5, depth=5)
        assert least < min(
            cost(many, trees=5, depth=5), cost(few, trees=6, depth=5), cost(few, trees=5, depth=6)
        )
        assert cost(few, trees=5, depth=50) == cost(few, trees=5, depth=100)
    assert work.meta(few, max_iter=10) < work.meta(few, max_iter=20) < work.meta(many, max_iter=20)
    symmetric = [
        work.symmetric(few, trees=5, depth=depth, deepest=16) for depth in range(1, 101, 9)
    ]
    assert symmetric == sorted(symmetric)
    assert symmetric[-1] > 20 * symmetric[0]


def test_catboost_s_depths_are_drawn_together():
    assert [catboost_depth(depth, 16) for depth in (1, 2, 50, 99, 100)] == [1, 1, 8, 16, 16]
    assert {catboost_depth(depth, 6) for depth in range(1, 101)} == set(range(1, 7))


def test_predictions_for_the_rows_to_learn_from_are_out_of_fold():
    table = randhie_table(600, 0)
    stacked = with_extra_trees(Stacked.nothing(table), trees=20, depth=100)
    # Deep trees know the rows that they learnt from by heart.
    assert np.abs(stacked.train[:, 0] - table.train_labels).mean() > 0.1
    assert stacked.held_out.shape == (200, 1)


def test_rows_and_held_out_rows_depend_on_the_seed():
    tables = [randhie_table(900, seed) for seed in (0, 0, 1)]
    assert np.array_equal(tables[0].train, tables[1].train)
    assert not np.array_equal(tables[0].train, tables[2].train)
    assert (tables[0].train.shape, tables[0].held_out.shape) == ((600, 9), (300, 9))
    assert tables[0].train_labels.mean() == pytest.approx(0.69, abs=0.05)


def test_all_rows_of_the_default_table():
    table = randhie_table(None, 0)
    assert len(table.train) + len(table.held_out) == 20_190
    assert np.sqrt(np.square(table.train).mean(axis=0)).max() == pytest.approx(10.0)


def written(path, rows):
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def credit(tmp_path):
    """A table with an identifier, a number with gaps, a large number, a text and nothing at all."""
    rng = np.random.default_rng(0)
    rows = ["SK_ID_CURR,TARGET,DAYS,INCOME,KIND,EMPTY"]
    for i in range(300):
        days = "" if i % 5 == 0 else f"{rng.normal():.3f}"
        rows.append(f"{i},{i % 3 // 2},{days},{rng.uniform(1e4, 1e5):.0f},{'abc'[i % 3]},")
    return written(tmp_path / "credit.csv", rows)


def test_a_table_of_one_s_own_is_numbers_without_gaps(credit):
    table = credit_table(credit, None, 0)
    assert table.train.shape == (200, 3)
    assert np.isfinite(table.train).all()
    assert np.sqrt(np.square(table.train).mean(axis=0))[1] == pytest.approx(10.0)
    assert set(table.train[:, 2]) == {0.0, 1.0, 2.0}


def test_stacking_on_a_table_of_one_s_own(credit):
    made = problem("smoke", cost="declared", seed=0, data=credit)
    # The text column tells the target.
    assert made.pipeline.run(TWO_STAGES | META, *made.inputs).value > 0.9


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,b", "1,2"], r"no column 'TARGET'.*\['a', 'b'\]"),
        (["TARGET,b", "1,2", "7,2"], "must hold 0 and 1, but holds also 7"),
        (["TARGET", "1", "0"], r"no features beside \['TARGET'\]"),
        (["TARGET,b", "1,2", "0,1"], "1 row of class 0 and 1 of class 1.*at least 30"),
        ([""], "cannot be read as CSV"),
    ],
)
def test_a_table_of_another_layout_is_told(tmp_path, rows, message):
    with pytest.raises(ConfigurationError, match=message):
        credit_table(written(tmp_path / "table.csv", rows), None, 0)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.csv' cannot be read"):
        credit_table(tmp_path / "none.csv", None, 0)


@pytest.mark.parametrize(
    ("missing", "module"), [("xgboost", "models"), ("statsmodels.datasets", "table")]
)
def test_what_is_missing_is_told_with_its_extra(missing, module, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"eeipu.benchmarks.stacking.{module}")
    with pytest.raises(MissingExtraError, match=r'pip install "eeipu\[benchmarks\]"'):
        import_module(f"eeipu.benchmarks.stacking.{module}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stacking", "stacking-by-model"])
@pytest.mark.parametrize("cost", ["measured", "declared"])
def test_a_smoke_run(name, cost):
    result = run(Options(name, "smoke", cost, "eeipu+cache", 0, budget=1.0))
    assert result.candidates >= 1
    assert all(trial["state"] == "complete" for trial in result.trials)
    assert result.trials[-1]["spent"] >= 1.0
