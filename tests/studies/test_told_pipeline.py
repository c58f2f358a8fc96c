"""The pipeline of a study, made again from what the study tells of it."""

import json

import pytest

from eeipu import (
    Categorical,
    Float,
    Int,
    OneOf,
    Optional,
    Pipeline,
    Stage,
    StageCache,
    Tuner,
    stage,
)
from eeipu.errors import ConfigurationError
from eeipu.report import StudyRecord, load_study
from eeipu.stages.declaration import INPUTS
from eeipu.studies.records.told_pipeline import LAYOUT, told_pipeline
from eeipu.studies.study import open_study


def some(name, **options):
    return Stage(name, {"p": Float(0.0, 1.0)}, **options)


CONDITIONAL = Stage(
    "tree",
    {"kind": Categorical(["deep", "flat"]), "depth": Int(1, 9)},
    active_if={"depth": ("kind", ["deep"])},
)

PIPELINES = {
    "chain": [some("a"), some("b"), some("c")],
    "diamond": [
        some("a"),
        some("b", inputs="a"),
        some("c", inputs="a"),
        some("d", inputs=("b", "c", INPUTS)),
    ],
    "alternatives": [
        some("a"),
        Optional(some("b")),
        OneOf("model", [some("c"), CONDITIONAL, OneOf("net", [some("e"), some("f")])]),
        some("g", inputs=("model", "a")),
    ],
    "optional first": [Optional(some("a")), some("b")],
    "a choice at the end": [some("a"), OneOf("last", [some("b"), some("c")])],
    "not memoized": [some("a", memoize=False), some("b", cost=lambda p: 1.0)],
}


@pytest.mark.parametrize("stages", PIPELINES.values(), ids=PIPELINES)
def test_a_pipeline_is_the_same_again(stages):
    made = Pipeline(stages)
    study = open_study(made, directions=("maximize",), sampler=None, storage=None, study_name=None)

    told = told_pipeline(json.loads(json.dumps(study.user_attrs)))

    assert list(told.space.items()) == list(made.space.items())
    for name in ("slots", "places", "chosen_by", "place_chosen_by", "last"):
        assert getattr(told.layout, name) == getattr(made.layout, name)
    assert told.graph == made.graph
    assert told.memoizes == made.memoizes
    assert told.cube.conditions.of == made.cube.conditions.of
    assert [s.cost is None for s in told.stages] == [s.cost is None for s in made.stages]


def test_a_study_of_an_earlier_version_is_a_chain():
    made = Pipeline(PIPELINES["diamond"])
    study = open_study(made, directions=("maximize",), sampler=None, storage=None, study_name=None)
    told = {name: value for name, value in study.user_attrs.items() if name != LAYOUT}

    assert told_pipeline(told).graph.is_chain


def test_a_changed_pipeline_is_told_as_it_is_now(tmp_path):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def a(data, *, x):
        return data + x

    @stage(space={}, version="1")
    def b(data):
        return data

    @stage(space={"y": Float(0.0, 1.0)}, version="1", inputs=("a", INPUTS))
    def c(made, data, *, y):
        return made + data + y

    usual = {"method": "random", "storage": f"sqlite:///{tmp_path}/t.db", "study_name": "s"}
    Tuner(Pipeline([a, c]), **usual).run(0.0, max_trials=2, progress=False)
    Tuner(Pipeline([a, b, c.__class__(**_options(c))]), on_change="adopt", **usual)

    record = StudyRecord.of(load_study(f"{tmp_path}/t.db"))
    assert record.pipeline.stage_names == ("a", "b", "c")
    assert record.pipeline.graph.sources == ((None,), (0,), (0, 1, None))


def _options(stage):
    return {
        "name": stage.name,
        "space": stage.space,
        "function": lambda made, same, data, *, y: made,
        "version": "1",
        "inputs": ("a", "b", INPUTS),
    }


def test_a_study_that_tells_no_space_says_so():
    import optuna

    with pytest.raises(ConfigurationError, match="does not tell its space"):
        _ = StudyRecord.of(optuna.create_study()).pipeline


def test_the_place_of_the_cache_is_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline([stage(lambda x, *, p: p, name="a", space={"p": Float(0.0, 1.0)})])

    def told(cache):
        return Tuner(pipeline, budget=1.0, cache=cache).study.user_attrs["eeipu:tuner"]["cache"]

    assert told(StageCache("here")) == str(tmp_path / "here")
    assert told(StageCache("memory://there")) == "memory://there"
    assert told(StageCache()) is None
    assert told(None) is None
