"""The outputs of a run by stage, loaded or made when they are asked for."""

import pickle

import pytest
from toys import Toy, config

from eeipu import EeipuError, Float, Pipeline, StageCache, stage

FIT = (0.25, -0.25, 0.0)


@pytest.fixture
def toy():
    return Toy()


def test_a_run_has_the_outputs_of_all_stages(toy):
    run = toy.pipeline.run(config(), 0.0)
    assert list(run.outputs) == ["prep", "fit", "score"]
    assert dict(run.outputs) == {"prep": 0.25, "fit": FIT, "score": run.value}
    assert toy.counts == {"prep": 1, "fit": 1, "score": 1}


def test_outputs_of_reused_stages_are_loaded(toy):
    cache = StageCache()
    toy.pipeline.run(config(), 0.0, cache=cache)
    run = toy.pipeline.run(config(), 0.0, cache=cache)
    assert run.memoized == [True, True, False]
    assert dict(run.outputs) == {"prep": 0.25, "fit": FIT, "score": run.value}
    assert toy.counts == {"prep": 1, "fit": 1, "score": 2}


def test_only_what_is_asked_for_is_made_again(toy):
    cache = StageCache()
    toy.pipeline.run(config(), 0.0, cache=cache)
    run = toy.pipeline.run(config(), 0.0, cache=cache)
    cache.discard([run.stage_runs[0].key])
    toy.calls.clear()
    assert "prep" in run.outputs
    assert toy.calls == []
    assert run.outputs["prep"] == run.outputs["prep"] == 0.25
    assert toy.counts == {"prep": 1}
    assert run.stage_runs[0].key in cache


def test_what_was_made_on_the_way_is_not_made_twice(toy):
    outputs = toy.pipeline.run(config(), 0.0).outputs
    outputs._known.clear()
    toy.calls.clear()
    assert (outputs["fit"], outputs["prep"], outputs["score"]) == (FIT, 0.25, -0.125)
    assert toy.counts == {"prep": 1, "fit": 1, "score": 1}


def test_an_output_may_be_none():
    made = []

    @stage(version="1")
    def first():
        made.append(1)

    run = Pipeline([first, stage(lambda x: 1.0, name="last", version="1")]).run({})
    assert run.outputs["first"] is None
    assert made == [1]


def test_an_output_that_is_no_objective_is_there():
    run = Pipeline([stage(lambda: "a model", name="only", version="1")]).run({})
    assert run.error is not None
    assert run.outputs["only"] == "a model"


def test_a_name_that_no_stage_has(toy):
    outputs = toy.pipeline.run(config(), 0.0).outputs
    assert "train" not in outputs
    with pytest.raises(KeyError, match=r"no stage 'train'.*\['prep', 'fit', 'score'\]"):
        outputs["train"]


def test_a_stage_that_fails_says_so():
    fails = [False]

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def train(data, *, x):
        if fails[0]:
            raise ValueError("no data")
        return data

    cache = StageCache()
    pipeline = Pipeline([train, stage(lambda x: x, name="last", version="1")])
    pipeline.run({"train.x": 0.5}, 1.0, cache=cache)
    run = pipeline.run({"train.x": 0.5}, 1.0, cache=cache)
    cache.clear()
    fails[0] = True
    with pytest.raises(EeipuError, match=r"'train' had to run again and failed(.|\n)*no data"):
        run.outputs["train"]


def test_a_run_can_be_pickled_with_what_is_in_memory(toy):
    run = toy.pipeline.run(config(), 0.0, cache=StageCache())
    copy = pickle.loads(pickle.dumps(run))
    assert copy == run
    assert copy.outputs == {"prep": 0.25, "fit": FIT, "score": run.value}
