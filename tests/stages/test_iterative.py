"""Iterative stages: as one stage, as segments of a tuner, and as paths of a plan."""

import dataclasses

import pytest
from counting import LR, TRAINING, pipeline, prep, train

from eeipu import INPUTS, Categorical, Float, Pipeline, StageCache, Tuner, stage
from eeipu.errors import PipelineError, SpaceError
from eeipu.fingerprints.code import CodeReader, code_fingerprint, value_digest
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.iterative import IterativeStage, Training, iterative, stage_path
from eeipu.stages.paths import Kind
from eeipu.stages.schedules import Constant, MultiStep
from eeipu.stages.searchable_schedules import ScheduleChoice, Searchable

PARAMS = {"prep.dims": 8, "train.lr": "drop", "train.lr_flat": 0.3, "train.lr_drop_initial": 0.5}
SEGMENTS = {2: {"lr": Float(0.1, 1.0)}, 4: {"lr": Float(0.1, 1.0)}}


def path(params=PARAMS, steps=4, **options):
    return stage_path(pipeline().stages, params, "up", steps, **options)


# --- as one stage ---------------------------------------------------------------------------


def test_an_iterative_stage_is_a_stage_of_a_pipeline():
    whole = pipeline()
    assert list(whole.space) == list(PARAMS)
    run = whole.run(PARAMS, "data")
    assert run.metrics == {"sum": 0.5 + 0.5 + 0.25 + 0.25, "length": 5}


def test_a_list_in_its_space_is_searched_over():
    stage = iterative(TRAINING, {"lr": [0.1, 0.05]}, steps=4, version="1")
    assert stage.space == {"lr": Categorical([0.1, 0.05])}
    assert stage.schedules({"lr": 0.05}) == {"lr": Constant(0.05)}
    assert "lr" in repr(stage)
    assert len(repr(stage)) < 100


def test_its_code_is_in_its_fingerprint():
    other = Training(TRAINING.init, TRAINING.advance, evaluate=TRAINING.init)
    stages = [iterative(t, {"lr": 0.1}, steps=4) for t in (TRAINING, TRAINING, other)]
    assert stages[0].fingerprint == stages[1].fingerprint != stages[2].fingerprint
    read = CodeReader().read_together(TRAINING.functions)
    assert train().code_fingerprint == f"version {read.fingerprint}"
    assert train(version="7").code_fingerprint == "version 7"


def test_code_that_calls_an_iterative_stage_counts_what_it_trains_and_not_what_is_known_of_it():
    def calling(called):
        return lambda data: called(data)

    called = train()
    before = code_fingerprint(calling(called))
    refresh_code([called])
    assert called.fingerprint
    assert code_fingerprint(calling(called)) == before
    assert code_fingerprint(calling(train(num_cpus=2))) == before
    assert code_fingerprint(calling(train({"lr": 0.1}))) != before


def test_using_a_training_does_not_change_its_digest():
    training = Training(int, max, float)
    before = value_digest(training)
    assert not training.loads_inputs
    assert value_digest(training) == before


def test_a_stage_says_whether_its_training_needs_a_process_of_its_own():
    apart = dataclasses.replace(TRAINING, uses_process_state=True)
    for training, needed in ((TRAINING, False), (apart, True)):
        stage = iterative(training, {"lr": 0.1}, steps=4)
        assert {each.uses_process_state for each in (stage, *stage.segments({4: {}}))} == {needed}
        assert stage.fingerprint == train({"lr": 0.1}).fingerprint
    assert not prep.uses_process_state


def test_steps_and_constants_are_in_its_fingerprint():
    def value(space, steps):
        stage = iterative(TRAINING, space, steps, "train", version="1")
        run = Pipeline([stage], objective="sum").run({}, [0], cache=cache)
        return run.value

    cache = StageCache()
    assert value({"lr": 0.1}, 1) == 0.1
    assert value({"lr": 0.5}, 1) == 0.5
    assert value({"lr": 0.5}, 5) == 2.5
    assert value({"lr": MultiStep(0.5, [3])}, 5) == pytest.approx(1.6)


def test_what_templates_hold_beside_their_parameters_is_in_its_fingerprint():
    def fingerprint(milestones, high=1.0):
        template = ScheduleChoice(drop=Searchable(MultiStep, Float(0.1, high), milestones))
        return iterative(TRAINING, {"lr": template}, 9, version="1").fingerprint

    assert fingerprint([2]) == fingerprint([2], high=0.5) != fingerprint([3])


def test_a_schedule_counts_by_its_values_up_to_the_last_step():
    stages = [
        iterative(TRAINING, {"lr": lr}, 4, version="1")
        for lr in (0.1, Constant(0.1), MultiStep(0.1, [4]), lambda step: 0.1, MultiStep(0.1, [3]))
    ]
    assert len({stage.fingerprint for stage in stages[:4]}) == 1
    assert stages[3].fingerprint != stages[4].fingerprint


def test_constants_are_in_the_keys_of_segments():
    cache = StageCache()
    values = []
    for lr in (0.1, 0.5):
        stages = iterative(TRAINING, {"lr": lr}, 4, version="1").segments({2: {}, 4: {}})
        run = Pipeline(stages, objective="sum").run({}, [0], cache=cache)
        values.append(run.value)
    assert values == pytest.approx([0.4, 2.0])


def test_code_without_a_source_needs_a_version():
    with pytest.raises(PipelineError, match="cannot be read"):
        iterative(Training(max, max, max), {"lr": 0.1}, steps=4)


def test_training_takes_a_step_at_least():
    with pytest.raises(PipelineError, match="'train' must train for at least 1 step, got 0"):
        iterative(TRAINING, {}, steps=0, name="train")


# --- as paths -------------------------------------------------------------------------------


def test_a_path_goes_through_all_stages_and_is_cut_where_schedules_change():
    kinds = [s.call.kind for s in path().stretches]
    assert kinds == [Kind.PLAIN, Kind.TRAINING, Kind.TRAINING, Kind.EVALUATION]
    assert path().cuts == (1, 3, 5, 6)
    assert path(steps=1).cuts == (1, 2, 3)
    assert path(checkpoint_every=3).cuts == (1, 3, 4, 5, 6)


def test_parameters_that_a_choice_does_not_need_do_not_part_paths():
    other = PARAMS | {"train.lr_flat": 0.9}
    assert path().key(6) == path(other).key(6)


def test_configurations_may_hold_schedules_themselves():
    given = {"prep.dims": 8, "train.lr": MultiStep(0.5, [2], gamma=0.5)}
    assert path(given).key(6) == path().key(6)


# --- as segments ----------------------------------------------------------------------------


def test_segments_do_what_the_whole_stage_does():
    stages = [prep, *train(version="1").segments(SEGMENTS)]
    segmented = Pipeline(stages, objective="sum")
    assert segmented.stage_names == ("prep", "train@2", "train@4", "train@evaluation")
    run = segmented.run({"prep.dims": 8, "train@2.lr": 0.5, "train@4.lr": 0.25}, "data")
    assert run.metrics == pipeline().run(PARAMS, "data").metrics


def test_segments_have_the_keys_of_the_plan():
    upstream = inputs_key(("data",))
    segmented = Pipeline([prep, *train(version="1").segments(SEGMENTS)])
    calls = segmented.calls({"prep.dims": 8, "train@2.lr": 0.5, "train@4.lr": 0.25}, upstream)
    planned = stage_path(pipeline().stages, PARAMS, upstream, 4)
    assert [call.key for call in calls] == [planned.key(position) for position in (1, 3, 5, 6)]


def test_what_a_tuner_has_computed_answers_a_plan_on_the_same_cache():
    cache, upstream = StageCache(), inputs_key(("data",))
    segmented = Pipeline([prep, *train(version="1").segments(SEGMENTS)], objective="sum")
    run = segmented.run(
        {"prep.dims": 8, "train@2.lr": 0.5, "train@4.lr": 0.25}, "data", cache=cache
    )
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, stage_path(pipeline().stages, PARAMS, upstream, 4))
    (answer,) = plan.take_answers()
    assert answer.value == run.metrics
    other = stage_path(pipeline().stages, PARAMS, upstream, 2)  # shares the first segment
    plan.request("study", 1, other)
    assert [node.describe() for node in plan.tree if node.is_ready] == ["train evaluation"]


def test_a_tuner_reuses_segments_and_models_their_costs():
    segmented = Pipeline([prep, *train(version="1").segments(SEGMENTS)], objective="sum")
    cache = StageCache()
    tuner = Tuner(segmented, budget=1e9, cache=cache, n_initial=3, seed=0)
    study = tuner.run("data", max_trials=5, progress=False)
    assert study.best_value > 0
    reused = [any(trial.user_attrs["memoized"]) for trial in study.trials]
    assert any(reused)
    assert all(len(trial.user_attrs["stage_costs"]) == 4 for trial in study.trials)


def test_hyper_parameters_that_segments_leave_out_are_as_the_stage_says():
    stage = iterative(TRAINING, {"lr": MultiStep(0.5, [2], gamma=0.5)}, steps=4, version="1")
    first, second, evaluation = stage.segments({2: {}, 4: {}})
    assert evaluation(second(first([("prep",)]))) == {"sum": 1.5, "length": 5}


def test_segments_must_say_what_is_searched_over():
    with pytest.raises(PipelineError, match="the segments have no space for 'lr'"):
        train().segments({4: {}})


@pytest.mark.parametrize("spaces", [{2: {}, 1: {}}, {0: {}}])
def test_segments_must_ascend(spaces):
    with pytest.raises(PipelineError, match="segments must end at ascending steps"):
        train({"lr": 0.1}).segments(spaces)


def test_templates_become_schedules():
    stage = train({"lr": LR, "decay": 0.1})
    assert isinstance(stage, IterativeStage)
    assert stage.schedules({"lr": "flat", "lr_flat": 0.2}) == {
        "lr": Constant(0.2),
        "decay": Constant(0.1),
    }


@pytest.mark.parametrize("name", ["lr", "rate"])
def test_values_that_would_not_count_are_refused(name):
    stage = train({"lr": 0.1}, version="1")
    with pytest.raises(SpaceError, match=f"does not search over '{name}'"):
        stage.schedules({name: 0.5})


@pytest.mark.parametrize(
    ("load", "takes_inputs"),
    [
        (lambda saved: saved, False),
        (lambda saved, device="cpu": saved, False),
        (lambda saved, data: saved, True),
        (lambda saved, *inputs: saved, True),
        (int, False),
    ],
)
def test_load_gets_the_inputs_where_it_takes_them(load, takes_inputs):
    assert Training(int, max, float, load=load).loads_inputs is takes_inputs


def test_segments_hand_on_what_load_takes():
    lean = Training(
        lambda data: (data, 0),
        lambda state, start, stop, hyper: (state[0], state[1] + (stop - start) * hyper["lr"](0)),
        lambda state: state[0] * state[1],
        lambda state: state[1],
        lambda saved, data: (data, saved),
    )
    train = iterative(lean, {"lr": 1.0}, steps=4, version="1")
    stages = train.segments({1: {"lr": Float(0.0, 9.0)}, 4: {}})
    run = Pipeline(stages).run({"iterative@1.lr": 2.0}, 10.0)
    assert run.value == 10.0 * (1 * 2.0 + 3 * 1.0)
    assert stages[0].fingerprint == "version 1, with inputs"


def test_a_path_refuses_graphs_and_alternatives_which_it_would_run_as_a_chain():
    a = stage(lambda data: data, name="a", version="1")
    b = stage(lambda data: data, name="b", version="1", inputs=INPUTS)
    with pytest.raises(PipelineError, match=r"one after another, and stage 'b' names what it gets"):
        stage_path([a, b], {}, "up", 1)
    with pytest.raises(PipelineError, match="'model' chooses among alternatives"):
        stage_path([a], {"model": "a"}, "up", 1)
    named = stage(lambda data: data, name="b", version="1", inputs="a")
    plain = stage(lambda data: data, name="b", version="1")
    keys = [stage_path([a, each], {}, "up", 1).key(2) for each in (named, plain)]
    assert keys[0] == keys[1]
