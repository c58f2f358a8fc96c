"""Schedules: their values, and the runs that they share with any other object."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeipu.errors import SpaceError
from eeipu.stages.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    CosineToFloor,
    Exponential,
    Function,
    Linear,
    MultiStep,
    OneCycle,
    Piecewise,
    Polynomial,
    RootDescent,
    Run,
    StepDecay,
    Switch,
    WarmUp,
    WarmUpStableDecay,
    as_schedule,
    cuts,
)

numbers = st.sampled_from([0.0, -0.0, 0.01, 0.1, 1.0, 1, True])
counts = st.integers(1, 8)


@st.composite
def piecewise(draw):
    boundaries = sorted(draw(st.sets(st.integers(1, 12), max_size=4)))
    values = draw(st.lists(numbers, min_size=len(boundaries) + 1, max_size=len(boundaries) + 1))
    return Piecewise(values, boundaries)


flat = (
    numbers.map(Constant)
    | piecewise()
    | st.builds(MultiStep, numbers, st.sets(counts, max_size=3).map(sorted), st.just(0.1))
    | st.builds(StepDecay, numbers, counts, st.sampled_from([0.1, 1.0]))
    | st.builds(Exponential, numbers, st.sampled_from([0.5, 1.0]))
    | st.builds(Linear, numbers, numbers, counts)
    | st.builds(Polynomial, numbers, numbers, counts)
    | st.builds(Cosine, numbers, numbers, counts)
    | st.builds(CosineRestarts, numbers, numbers, counts, st.integers(1, 3))
    | st.builds(RootDescent, numbers, numbers, counts)
    | st.builds(
        lambda peak, warm_up, stable, steps, shape: WarmUpStableDecay(
            peak, warm_up, warm_up + stable, steps, 0.1, shape
        ),
        numbers,
        st.integers(0, 4),
        st.integers(0, 6),
        counts,
        st.sampled_from(["linear", "cosine", "sqrt"]),
    )
    | st.builds(CosineToFloor, numbers, st.integers(5, 9), st.just(0.1), st.integers(0, 4))
    | st.builds(OneCycle, numbers, st.integers(2, 9), st.sampled_from([0.0, 0.3, 1.0]))
)
schedules = st.recursive(
    flat,
    lambda inner: (
        st.builds(WarmUp, inner, st.integers(0, 5))
        | st.builds(Switch, inner, st.integers(0, 9), inner, st.booleans())
        | inner.map(lambda schedule: Function(lambda step: schedule(step)))
    ),
    max_leaves=3,
)


def identity(value):
    """A value as content keys see it."""
    return repr(value)


# --- laws -----------------------------------------------------------------------------------


@given(schedules, st.integers(0, 5), st.integers(0, 25))
def test_runs_say_what_the_schedule_says(schedule, start, stop):
    spelt_out = [
        (step, run.value)
        for run in schedule.runs(stop, start)
        for step in range(run.start, run.stop)
    ]
    assert list(map(identity, spelt_out)) == [
        identity((step, schedule(step))) for step in range(start, stop)
    ]


@given(schedules, st.integers(1, 25))
def test_runs_are_the_longest_stretches(schedule, stop):
    runs = schedule.runs(stop)
    assert all(identity(a.value) != identity(b.value) for a, b in pairwise(runs))


@given(schedules, schedules, st.integers(1, 20))
def test_schedules_share_a_stretch_if_and_only_if_they_agree_on_it(one, other, stop):
    agree = all(identity(one(step)) == identity(other(step)) for step in range(stop))
    assert (one.runs(stop) == other.runs(stop)) == agree


@given(schedules, st.integers(1, 20))
def test_a_function_has_the_runs_of_the_schedule_that_it_calls(schedule, stop):
    assert Function(lambda step: schedule(step)).runs(stop) == schedule.runs(stop)


@given(schedules, st.integers(0, 10), st.integers(10, 20))
def test_what_is_shared_does_not_depend_on_what_follows(schedule, stop, longer):
    whole = schedule.runs(longer)
    cut = tuple(Run(r.start, min(r.stop, stop), r.value) for r in whole if r.start < stop)
    assert schedule.runs(stop) == cut


@given(schedules)
def test_the_promise_that_a_value_lasts_is_kept(schedule):
    for step in range(12):
        end = min(schedule._lasts_until(step), 25)
        assert end > step
        assert {identity(schedule(s)) for s in range(step, int(end))} == {identity(schedule(step))}


# --- values ---------------------------------------------------------------------------------


def test_multi_step_changes_at_its_milestones():
    assert MultiStep(1.0, [2, 3], gamma=0.5).runs(5) == (
        Run(0, 2, 1.0),
        Run(2, 3, 0.5),
        Run(3, 5, 0.25),
    )


def test_step_decay_is_multi_step_at_regular_milestones():
    assert StepDecay(0.8, every=3).runs(9) == MultiStep(0.8, [3, 6]).runs(9)


def test_exponential_multiplies_at_every_step():
    assert [Exponential(8.0, 0.5)(step) for step in range(4)] == [8.0, 4.0, 2.0, 1.0]


def test_linear_and_polynomial_end_where_they_should():
    assert [Linear(4.0, 0.0, 4)(step) for step in range(6)] == [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    assert [Polynomial(4.0, 0.0, 2, power=2.0)(step) for step in range(3)] == [4.0, 1.0, 0.0]


def test_cosine_is_half_way_in_the_middle():
    cosine = Cosine(1.0, 0.0, 4)
    assert [cosine(step) for step in (0, 4, 9)] == [1.0, 0.0, 0.0]
    assert cosine(2) == pytest.approx(0.5)
    assert cosine(1) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_restarts_repeat_the_descent_and_stretch_it():
    restarts = CosineRestarts(1.0, 0.0, period=2, growth=2)
    descent = [Cosine(1.0, 0.0, 2)(step) for step in range(2)]
    longer = [Cosine(1.0, 0.0, 4)(step) for step in range(4)]
    assert [restarts(step) for step in range(7)] == [*descent, *longer, 1.0]


def test_warm_up_climbs_to_the_first_value_and_then_counts_from_zero():
    assert [WarmUp(MultiStep(1.0, [2]), 3)(step) for step in range(6)] == [
        0.25,
        0.5,
        0.75,
        1.0,
        1.0,
        0.1,
    ]


def test_switch_tells_the_second_schedule_its_own_steps_or_all():
    second = Linear(4.0, 0.0, 4)
    assert [Switch(Constant(9.0), 2, second)(step) for step in range(4)] == [9.0, 9.0, 4.0, 3.0]
    assert Switch(Constant(9.0), 2, second, restart=False)(2) == 2.0


def test_numpy_scalars_and_negative_zero_are_plain_values():
    assert Constant(np.float32(0.5)).runs(1) == Constant(0.5).runs(1)
    assert identity(Constant(-0.0)(0)) == "0.0"


def test_runs_of_equal_numbers_of_different_types_differ():
    assert len({Run(0, 1, value) for value in (1, 1.0, True)}) == 3
    assert Run(0, 1, 1.0) != (0, 1, 1.0)


def test_strings_can_be_scheduled():
    assert Piecewise(["flip", "cutout"], [3]).runs(5) == (Run(0, 3, "flip"), Run(3, 5, "cutout"))


def test_anything_becomes_a_schedule():
    assert as_schedule(0.1) == Constant(0.1)
    assert as_schedule(Constant(0.1)) == Constant(0.1)
    assert as_schedule(lambda step: 2 * step)(3) == 6


# --- cuts -----------------------------------------------------------------------------------


def test_every_change_between_steady_values_is_a_cut():
    assert cuts(Piecewise([1, 2, 3], [1, 5]).runs(9)) == {1, 5}


def test_a_movement_is_one_stretch():
    assert cuts(Exponential(1.0, 0.5).runs(50)) == frozenset()
    assert cuts(WarmUp(Constant(1.0), 5).runs(50)) == {5}


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Piecewise([1, 2], []), "2 values and 0 boundaries"),
        (lambda: Piecewise([1, 2, 3], [4, 2]), r"ascend without repetition, but got \[4, 2\]"),
        (lambda: MultiStep(0.1, [0]), "milestones must be a whole number >= 1, but got 0"),
        (lambda: Cosine(1.0, 0.0, 0), "steps must be a whole number >= 1, but got 0"),
        (lambda: CosineRestarts(1.0, 0.0, 1, growth=0), "growth must be"),
        (lambda: StepDecay(1.0, 2.5), "every must be a whole number >= 1, but got 2.5"),
        (lambda: Switch(Constant(1), -1, Constant(2)), "at must be"),
        (lambda: WarmUp(Constant(1), -1), "steps must be"),
        (lambda: Constant(math.nan)(3), "NaN at step 3"),
        (lambda: Function(lambda step: [step])(2), r"step 2 is \[2\]; it must be a number"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


def test_numbers_and_functions_stand_for_schedules_in_others():
    assert WarmUp(0.4, 3).runs(9) == WarmUp(Constant(0.4), 3).runs(9)
    assert Switch(0.1, 2, lambda step: step).runs(5) == Piecewise([0.1, 0, 1, 2], [2, 3, 4]).runs(5)


@pytest.mark.parametrize("steps", [(2.5,), (-1,), ("3",), (3, 0.5)])
def test_runs_are_of_whole_steps(steps):
    with pytest.raises(SpaceError, match="must be a whole number >= 0"):
        Constant(0.1).runs(*steps)


# --- schedules of today ---------------------------------------------------------------------


def test_warm_up_stable_decay_rises_stays_and_falls():
    schedule = WarmUpStableDecay(1.0, warm_up=3, decay_at=6, decay_steps=4, floor=0.2)
    values = [schedule(step) for step in range(12)]
    assert values == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_decays_of_other_lengths_and_shapes_have_one_trunk():
    decays = [
        WarmUpStableDecay(0.1, 5, decay_at=60, decay_steps=20, shape=shape)
        for shape in ("linear", "cosine", "sqrt")
    ]
    later = WarmUpStableDecay(0.1, 5, decay_at=80, decay_steps=10)
    for schedule in decays:
        assert schedule.runs(60) == later.runs(60)
        assert 61 in cuts(schedule.runs(90))  # the first step with a smaller value
        assert schedule.runs(80) != later.runs(80)


def test_a_trunk_without_decay_is_a_warm_up():
    assert WarmUpStableDecay(0.1, 5, 60, 20).runs(60) == WarmUp(0.1, 5).runs(60)


def test_a_root_decay_falls_fast_at_first():
    falls = [WarmUpStableDecay(1.0, 0, 0, 4, shape=s)(1) for s in ("cosine", "linear", "sqrt")]
    assert falls == pytest.approx([0.5 * (1 + math.cos(math.pi / 4)), 0.75, 0.5])


def test_cosine_to_a_floor_ends_at_a_share_of_its_peak():
    schedule = CosineToFloor(2.0, steps=10, floor=0.1, warm_up=2)
    assert [schedule(step) for step in (0, 1, 2, 6, 10, 50)] == pytest.approx(
        [2 / 3, 4 / 3, 2.0, 1.1, 0.2, 0.2]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmUpStableDecay(0.1, 5, 4, 2), "after the warm-up"),
        (lambda: WarmUpStableDecay(0.1, 5, 9, 0), "decay_steps must be a whole number"),
        (lambda: WarmUpStableDecay(0.1, 5, 9, 2, floor=1.5), "floor must be a share"),
        (lambda: WarmUpStableDecay(0.1, 5, 9, 2, shape="square"), "shape must be one of"),
        (lambda: CosineToFloor(0.1, 5, warm_up=5), "shorter than the whole"),
        (lambda: OneCycle(0.1, 1), "steps must be a whole number"),
        (lambda: OneCycle(0.1, 9, rise=30), "rise must be a share"),
    ],
)
def test_what_is_no_schedule_is_refused(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


@pytest.mark.parametrize(("steps", "rise"), [(10, 0.3), (81, 0.25), (7, 0.5)])
def test_one_cycle_has_the_values_of_torch(steps, rise):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.5, total_steps=steps, pct_start=rise
    )
    ours, momentum = OneCycle(0.5, steps, rise), OneCycle(0.85, steps, rise, 0.95, 0.95)
    for step in range(steps):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        assert momentum(step) == pytest.approx(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step + 1 < steps:
            theirs.step()


def schedulers():
    torch = pytest.importorskip("torch")
    kinds = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    class Own(kinds.StepLR):
        """A user's own subclass."""

    return [
        (kinds.StepLR(optimizer, 30), "StepDecay"),
        (Own(optimizer, 30), "StepDecay"),
        (kinds.OneCycleLR, "OneCycle"),
        (partial(kinds.CosineAnnealingLR, T_max=90), "CosineToFloor"),
        (kinds.ReduceLROnPlateau(optimizer), "PopulationBased"),
        (kinds.MultiplicativeLR(optimizer, float), "a function of the step"),
    ]


@pytest.mark.parametrize("place", range(6))
def test_a_scheduler_of_torch_is_refused_and_ours_is_named(place):
    theirs, ours = schedulers()[place]
    with pytest.raises(SpaceError, match=ours):
        as_schedule(theirs)
