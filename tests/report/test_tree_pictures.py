"""The pictures of the stage tree and of the pipeline's graph, and their rows."""

import json

import pytest
from looking import add, paid, study_of
from optuna.trial import TrialState
from plans import run_all, stretch, train

import eeipu.report as report
from eeipu import ASHA, Float, Int, OneOf, Optional, Pipeline, StageCache, Tuner, stage
from eeipu.errors import ConfigurationError
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.schedules import MultiStep


def columns(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


TRIALS = (
    {"value": 1.0, "x": 0.25, **paid(4.0, 2.0, keys=("a", "b"))},
    {"value": 3.0, "x": 0.25, "y": 0.75, **paid(None, 5.0, keys=("a", "c"))},
    {"value": 2.0, "x": 0.75, **paid(1.0, 1.0, keys=("d", "e"))},
    {"x": 0.75, **paid(None, 0.5, keys=("d", "f")), "failed_stage": "fit"},
)


# --- the tree


def test_calls_that_trials_share_are_one():
    rows = report.tree_rows(study_of(*TRIALS))

    names = ("id", "above", "stage", "key", "cost", "trials", "best", "state")
    assert columns(rows, *names) == [
        (0, None, "prep", "a", 4.0, [0, 1], 3.0, "done"),
        (1, 0, "fit", "b", 2.0, [0], 1.0, "done"),
        (2, 0, "fit", "c", 5.0, [1], 3.0, "done"),
        (3, None, "prep", "d", 1.0, [2, 3], 2.0, "done"),
        (4, 3, "fit", "e", 1.0, [2], 2.0, "done"),
        (5, 3, "fit", "f", None, [3], None, "failed"),
    ]
    assert rows[2]["params"] == {"y": 0.75}
    assert json.loads(json.dumps(rows)) == rows


def test_where_less_is_better_the_best_is_the_least():
    rows = report.tree_rows(study_of(*TRIALS, direction="minimize"))

    assert rows[0]["best"] == 1.0


def test_a_cache_says_what_is_kept():
    cache = StageCache()
    keys = {"a": "a" * 64, "b": "b" * 64}
    cache.put(keys["a"], 1)
    study = study_of({"value": 1.0, **paid(1.0, 1.0, keys=tuple(keys.values()))})

    assert columns(report.tree_rows(study, cache), "state") == [("kept",), ("dropped",)]


def test_the_cache_is_found_where_the_study_had_it(tmp_path):
    cache = StageCache(tmp_path / "cache")
    cache.put("a" * 64, 1)

    def states(place):
        told = {"eeipu:tuner": {"cache": place}}
        trial = {"value": 1.0, **paid(1.0, 1.0, keys=("a" * 64, "b" * 64))}
        return columns(report.tree_rows(study_of(trial, **told)), "state")

    assert states(str(tmp_path / "cache")) == [("kept",), ("dropped",)]
    assert states(str(tmp_path / "gone")) == [("dropped",), ("dropped",)]
    assert states("surely-not://there") == [("done",), ("done",)]
    assert not (tmp_path / "gone").exists()


def test_a_cache_that_cannot_be_reached_is_said_where_it_was_asked_for():
    with pytest.raises(ConfigurationError):
        report.tree_rows(study_of(*TRIALS), "surely-not://there")


def test_bars_are_as_wide_as_costs_and_the_best_are_on_top():
    figure = report.tree_figure(study_of(*TRIALS))

    done, failed, legend = figure.data
    assert list(done.base) == [0.0, 4.0, 4.0, 0.0, 1.0]
    assert list(done.x) == [4.0, 5.0, 2.0, 1.0, 1.0]
    assert list(done.y) == [1.0, 0.5, 1.5, 3.0, 2.5]
    prep, best, worst, other, same = done.marker.color
    assert (prep, other) == (best, same)
    assert len({best, worst, other}) == 3
    assert (legend.marker.cmin, legend.marker.cmax) == (1.0, 3.0)
    assert (failed.name, failed.marker.pattern.shape, list(failed.y)) == ("failed", "x", [3.5])
    assert "6 calls on 4 paths; 2 calls serve several trials" in figure.layout.title.subtitle.text


def test_a_trial_that_runs_or_waits_has_the_calls_that_it_has_run():
    study = study_of()
    add(study, state=TrialState.RUNNING, stage_costs=[1.0, None], memoized=[False, False])
    add(study, state=TrialState.WAITING)
    add(study, state=TrialState.RUNNING, **paid(1.0, None) | {"memoized": [False, False]})

    assert columns(report.tree_rows(study), "stage", "trials") == [("prep", [2])]


def test_names_are_text():
    study = study_of({"value": 1.0, **paid(1.0, 2.0)})
    study.set_user_attr("eeipu:space", {"<b>": {}, "fit": {}})

    figure = report.tree_figure(study)

    assert "&lt;b&gt;" in figure.data[0].text[0]


# --- searches as they really are


@stage(space={"n": Int(1, 3)}, version="1")
def load(data, *, n):
    return data + n


@stage(space={"k": Float(0.0, 1.0)}, inputs="load", version="1")
def text(loaded, *, k):
    return loaded - k


@stage(space={}, inputs=("load", "text"), version="1")
def join(a, b):
    return a + b


@stage(space={"s": Float(0.0, 1.0)}, version="1")
def scale(x, *, s):
    return x + s


@stage(space={"depth": Int(1, 9)}, version="1")
def forest(x, *, depth):
    return x - depth


@stage(space={"rate": Float(0.0, 1.0)}, version="1")
def boosting(x, *, rate):
    return x + rate


@stage(space={"t": Float(0.0, 1.0)}, version="1")
def score(x, *, t):
    return x - t * t


@pytest.fixture(scope="module")
def graph_study(tmp_path_factory):
    """A study of a graph with alternatives, loaded without its pipeline."""
    folder = tmp_path_factory.mktemp("graph")
    models = OneOf("model", [forest, boosting])
    pipeline = Pipeline([load, text, join, Optional(scale), models, score], name="graph")
    tuner = Tuner(
        pipeline,
        method="random",
        seed=0,
        cache=StageCache(folder / "cache"),
        storage=f"sqlite:///{folder}/tune.db",
    )
    tuner.run(1.0, max_trials=12, progress=False)
    tuner.study._storage._backend.engine.dispose()
    return report.load_study(f"{folder}/tune.db")


def test_a_graph_is_told_with_what_each_stage_gets(graph_study):
    rows = {row["stage"]: row for row in report.graph_rows(graph_study)}

    assert rows["join"]["gets"] == ["load", "text"]
    assert rows["load"]["gets"] == ["inputs"]
    assert set(rows["score"]["gets"]) == {"forest", "boosting"}
    assert [name for name, row in rows.items() if row["is_optional"]] == [
        "scale",
        "forest",
        "boosting",
    ]
    assert rows["forest"]["left_out"] + rows["boosting"]["left_out"] == 12
    assert rows["load"]["executed"] + rows["load"]["reused"] == 12
    assert rows["load"]["reuse"] == rows["load"]["reused"] / 12
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


def test_a_graph_is_drawn_from_top_to_bottom(graph_study):
    figure = report.graph_figure(graph_study)

    texts = figure.data[-1]
    heights = {
        text.partition("</b>")[0][3:]: y for text, y in zip(texts.text, texts.y, strict=True)
    }
    assert heights["load"] > heights["text"] > heights["join"] > heights["scale"]
    assert heights["forest"] == heights["boosting"] > heights["score"]
    assert len(figure.layout.shapes) == 2 * 7
    assert [s.line.dash for s in figure.layout.shapes].count("dot") == 3


def test_calls_of_a_graph_are_a_tree_in_the_order_of_its_stages(graph_study):
    rows = report.tree_rows(graph_study)

    assert {row["stage"] for row in rows if row["above"] is None} == {"load"}
    assert {row["state"] for row in rows} <= {"kept", "dropped"}
    assert "kept" in {row["state"] for row in rows}
    ends = [row for row in rows if row["stage"] == "score"]
    assert sorted(number for row in ends for number in row["trials"]) == list(range(12))
    assert all(set(row["params"]) <= {"depth"} for row in rows if row["stage"] == "forest")


def test_models_are_those_of_the_graph(graph_study):
    shares = {(r["stage"], r["param"]): r["share"] for r in report.importance_rows(graph_study)}

    assert (None, "model") in shares
    assert (None, "scale") in shares
    assert shares["forest", "depth"] > 0.0  # though it is not always there
    assert report.importance_figure(graph_study).data
    assert {row["stage"] for row in report.prediction_rows(graph_study)} >= {None, "load", "join"}
    pipeline = report.StudyRecord.of(graph_study).models.history.pipeline
    assert not pipeline.graph.is_chain


def test_a_training_that_stops_early_has_a_call_for_each_stretch(tmp_path):
    from trainings import pipeline

    (tmp_path / "notes").mkdir()
    tuner = Tuner(
        pipeline(),
        early_stopping=ASHA(min_steps=3),
        method="random",
        seed=0,
        cache=StageCache(tmp_path / "cache"),
    )
    study = tuner.run(str(tmp_path / "notes"), max_trials=12, progress=False)

    rows = report.tree_rows(study)
    steps = {row["step"] for row in rows if row["stage"] == "train"}
    assert steps == {3, 9, 27}
    for row in rows:
        if row["stage"] == "train" and row["step"] > 3:
            above = rows[row["above"]]
            assert (above["stage"], above["step"]) == ("train", row["step"] // 3)
            assert set(row["trials"]) <= set(above["trials"])
    assert all(row["cost"] is not None for row in rows if row["stage"] == "train")
    best = max(row["best"] for row in rows)
    assert best == max(v for t in study.trials for v in t.intermediate_values.values())
    calls = report.timeline_rows(study)
    assert {row["stage"] for row in calls} >= {"prep", "train@3", "train@27", "score", None}
    assert {trace.name for trace in report.timeline_figure(study).data} == {
        "choosing",
        "prep",
        "train",
        "score",
    }
    assert "cost:train" in study.trials[0].user_attrs


def test_a_plan_is_drawn_too():
    plan = SearchPlan()
    plan.request("one", 0, train(MultiStep(0.1, [30])))
    run_all(plan)
    plan.request("two", 0, train(MultiStep(0.1, [60])))
    plan.request("two", 1, stretch(10))

    rows = report.tree_rows(plan)

    assert {row["state"] for row in rows} >= {"kept", "waiting"}
    shared = [row for row in rows if set(row["trials"]) >= {"one 0", "two 0"}]
    assert 30 in {row["step"] for row in shared}
    assert report.tree_figure(plan).data
    with pytest.raises(ConfigurationError, match="no requests"):
        report.tree_figure(SearchPlan())


@pytest.mark.parametrize("figure", [report.tree_figure, report.graph_figure])
def test_a_study_of_plain_optuna_without_stages_has_nothing_to_draw(figure):
    import optuna

    with pytest.raises(ConfigurationError, match="nothing to draw"):
        figure(optuna.create_study(study_name="plain"))
