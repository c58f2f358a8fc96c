"""Paths: positions, cuts, and keys that do not depend on how a path was made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeipu import Float, Pipeline, stage
from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import inputs_key, stage_key
from eeipu.stages.paths import Kind, Path, common_length
from eeipu.stages.schedules import Constant, Cosine, Function, MultiStep, Piecewise, WarmUp
from eeipu.stages.stored_paths import path_from_json, path_to_json

rates = st.lists(st.sampled_from([0.1, 0.2]), min_size=1, max_size=12)


def path_of(values, sizes=None, prep=8):
    """A path that trains with one learning rate a step, after a plain stage."""
    schedules = {"lr": Function(values.__getitem__)}
    if sizes is not None:
        schedules["batch_size"] = Function(sizes.__getitem__)
    return (
        Path("inputs").call("prep", "v", {"dims": prep}).train("fit", "v", schedules, len(values))
    )


# --- laws -----------------------------------------------------------------------------------


@given(rates, rates)
def test_positions_have_equal_keys_if_and_only_if_the_same_was_done(one, other):
    a, b = path_of(one), path_of(other)
    for position in range(1, min(len(a), len(b)) + 1):
        same = one[: position - 1] == other[: position - 1]
        assert (a.key(position) == b.key(position)) == same


@given(rates, rates, st.integers(0, 13))
def test_the_common_length_is_where_keys_part(one, other, stop):
    a, b = path_of(one), path_of(other)
    limit = min(len(a), len(b), stop)
    shared = max(p for p in range(limit + 1) if a.key(p) == b.key(p))
    assert common_length(a, b, 0, stop) == shared


@given(rates)
def test_stretches_between_two_positions_fill_them(values):
    path = path_of(values)
    for start in range(len(path)):
        for stop in range(start + 1, len(path) + 1):
            parts = list(path.between(start, stop))
            filled = [position for part in parts for position in range(part.start, part.stop)]
            assert filled == list(range(start, stop))
            assert path.steps(start, stop) == stop - start


@given(rates)
def test_text_and_back_is_the_same_path(values):
    path = path_of(values)
    again = path_from_json(path_to_json(path))
    assert [again.key(p) for p in range(len(path) + 1)] == [
        path.key(p) for p in range(len(path) + 1)
    ]
    assert (again.cuts, again.stretches) == (path.cuts, path.stretches)


@given(rates, st.lists(st.sampled_from([32, 64]), min_size=12, max_size=12))
def test_hyper_parameters_come_back_as_functions_of_the_stages_steps(values, sizes):
    path = path_of(values, sizes)
    schedules = path.schedules(1)
    assert [schedules["lr"](step) for step in range(len(values))] == values
    assert [schedules["batch_size"](step) for step in range(len(values))] == sizes[: len(values)]


# --- cuts and keys --------------------------------------------------------------------------


def test_a_path_is_cut_where_any_hyper_parameter_changes():
    schedules = {"lr": MultiStep(0.1, [30]), "batch_size": Piecewise([32, 64], [50])}
    assert Path().train("fit", "v", schedules, 90).cuts == (30, 50, 90)


def test_a_smooth_schedule_is_one_stretch_and_its_warm_up_another():
    assert Path().train("fit", "v", {"lr": Cosine(0.1, 0.0, 90)}, 90).cuts == (90,)
    assert Path().train("fit", "v", {"lr": WarmUp(Constant(0.1), 5)}, 90).cuts == (5, 90)


def test_a_change_of_one_hyper_parameter_cuts_another_ones_movement():
    schedules = {"lr": Cosine(0.1, 0.0, 90), "batch_size": Piecewise([32, 64], [50])}
    assert Path().train("fit", "v", schedules, 90).cuts == (50, 90)


def test_checkpoints_can_be_asked_for():
    path = Path().train("fit", "v", {"lr": 0.1}, 10, checkpoint_every=4)
    assert path.cuts == (4, 8, 10)
    assert path.key(8) == Path().train("fit", "v", {"lr": 0.1}, 8).key(8)


def test_plain_stages_have_the_keys_of_the_tuner():
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def prep(data, *, x): ...

    @stage(version="2")
    def score(data): ...

    upstream = inputs_key((1,))
    calls = Pipeline([prep, score]).calls({"prep.x": 0.5}, upstream)
    path = Path(upstream).call("prep", "version 1", {"x": 0.5}).call("score", "version 2", {})
    assert [path.key(1), path.key(2)] == [call.key for call in calls]


def test_a_training_step_has_the_key_of_a_stage_that_trains_up_to_it():
    path = Path("up").train("fit", "v", {"lr": MultiStep(1.0, [30], gamma=0.5)}, 60)
    first = stage_key("fit@30", "v", {"lr": 1.0}, "up")
    assert path.key(30) == first
    assert path.key(60) == stage_key("fit@60", "v", {"lr": 0.5}, first)


def test_an_evaluation_takes_a_position_and_counts_no_step():
    path = Path().train("fit", "v", {"lr": 0.1}, 9).evaluate("fit", "v")
    assert (len(path), path.steps(0, 10)) == (10, 9)
    assert path.stretches[-1].call.kind is Kind.EVALUATION
    assert len({path.key(9), path.key(10)}) == 2


def test_paths_on_other_inputs_share_nothing():
    a, b = (Path(upstream).call("prep", "v", {}) for upstream in ("one", "two"))
    assert common_length(a, b, 0, 1) == 0


@pytest.mark.parametrize("fingerprint", ["v", "w"])
def test_other_code_is_another_path(fingerprint):
    a = Path().train("fit", "v", {"lr": 0.1}, 9)
    b = Path().train("fit", fingerprint, {"lr": 0.1}, 9)
    assert common_length(a, b, 0, 9) == (9 if fingerprint == "v" else 0)


def test_a_path_shows_what_it_does():
    assert repr(path_of([0.1] * 4)) == "Path(prep -> fit, 5 positions)"


# --- errors ---------------------------------------------------------------------------------


def test_a_stage_twice_is_refused():
    with pytest.raises(PipelineError, match="the stage 'prep' twice; rename one"):
        Path().call("prep", "v", {}).call("prep", "v", {})


def test_training_takes_at_least_a_step():
    with pytest.raises(PipelineError, match="'fit' must train for at least 1 step, got 0"):
        Path().train("fit", "v", {}, 0)


def test_what_json_does_not_have_cannot_be_stored():
    with pytest.raises(PipelineError, match="cannot be stored"):
        path_to_json(Path().call("prep", "v", {"kernel": frozenset("ab")}))


@pytest.mark.parametrize("options", [{"steps": 2.5}, {"steps": 5, "checkpoint_every": 0}])
def test_steps_are_whole_and_checkpoints_apart(options):
    with pytest.raises(PipelineError, match=r"got (2\.5; steps are whole|0)\."):
        Path().train("fit", "v", {"lr": 0.1}, **options)


@pytest.mark.parametrize("choice", [(1, 2), {1: "a"}, [(1,)]])
def test_what_would_come_back_as_something_else_cannot_be_stored(choice):
    with pytest.raises(PipelineError, match="would come back as"):
        path_to_json(Path().call("prep", "v", {"sizes": choice}))


def test_lists_and_numbers_of_numpy_can_be_stored():
    path = Path().call("prep", "v", {"sizes": [1, 2], "rate": np.float64(0.5)})
    assert path_from_json(path_to_json(path)).key(1) == path.key(1)
