"""Templates of schedules, and the flat spaces that they stand for."""

import warnings
from itertools import product

import pytest

from eeipu import Categorical, Float, Int
from eeipu.errors import SpaceError
from eeipu.stage_tree.tree import StageTree
from eeipu.stages.paths import Path
from eeipu.stages.schedules import (
    Constant,
    Cosine,
    MultiStep,
    Piecewise,
    WarmUp,
    WarmUpStableDecay,
)
from eeipu.stages.searchable_schedules import (
    ScheduleChoice,
    Searchable,
    as_templates,
    canonical_form,
    schedule_of,
    space_of,
    spaces_of,
)

RATE = Float(0.01, 1.0, log=True)


def test_a_distribution_is_a_constant_to_search():
    assert space_of("lr", RATE) == {"lr": RATE}
    assert schedule_of("lr", RATE, {"lr": 0.1}) == Constant(0.1)


def test_arguments_become_parameters_under_their_names():
    template = Searchable(MultiStep, RATE, milestones=[30, Int(40, 80)], gamma=0.1)
    space = space_of("lr", template)
    assert list(space) == ["lr_initial", "lr_milestones_1"]
    params = {"lr_initial": 0.5, "lr_milestones_1": 60}
    assert schedule_of("lr", template, params) == MultiStep(0.5, [30, 60])


def test_templates_nest():
    template = Searchable(WarmUp, Searchable(Cosine, RATE, 0.0, 90), steps=Int(0, 10))
    params = {"lr_schedule_initial": 0.2, "lr_steps": 5}
    assert space_of("lr", template).keys() == params.keys()
    assert schedule_of("lr", template, params) == WarmUp(Cosine(0.2, 0.0, 90), 5)


def test_a_categorical_over_schedules_takes_only_what_its_choice_needs():
    template = ScheduleChoice(
        flat=RATE, drop=Searchable(MultiStep, RATE, [30]), fixed=Constant(1.0)
    )
    assert space_of("lr", template) == {
        "lr": Categorical(["flat", "drop", "fixed"]),
        "lr_flat": RATE,
        "lr_drop_initial": RATE,
    }
    params = {"lr": "drop", "lr_flat": 0.3, "lr_drop_initial": 0.4}
    assert schedule_of("lr", template, params) == MultiStep(0.4, [30])
    assert schedule_of("lr", template, params | {"lr": "flat"}) == Constant(0.3)
    assert schedule_of("lr", template, params | {"lr": "fixed"}) == Constant(1.0)


def test_schedules_and_values_have_no_parameters():
    assert space_of("lr", Constant(0.1)) == space_of("lr", 0.1) == {}
    assert schedule_of("lr", 0.1, {}) == Constant(0.1)


def test_wrong_arguments_are_told_when_the_template_is_made():
    with pytest.raises(SpaceError, match="Cosine does not take these arguments"):
        Searchable(Cosine, rate=RATE)


def piecewise(*rates, **steps):
    return Piecewise(rates, [steps["first"]])


def test_functions_of_any_number_of_arguments_are_kinds():
    template = Searchable(piecewise, RATE, 0.5, first=Int(1, 9))
    space = space_of("lr", template)
    assert list(space) == ["lr_rates_0", "lr_steps_first"]
    params = {"lr_rates_0": 0.1, "lr_steps_first": 3}
    assert schedule_of("lr", template, params).runs(9) == Piecewise([0.1, 0.5], [3]).runs(9)
    assert canonical_form(template, 9) == canonical_form(template, 99)


@pytest.mark.parametrize("other", [RATE, 0.1, Constant(0.1)])
def test_parameters_of_one_name_are_refused(other):
    templates = {"lr": Searchable(MultiStep, RATE, [30]), "lr_initial": other}
    with pytest.raises(SpaceError, match="'lr_initial' would be a parameter of 'lr'"):
        spaces_of(templates)
    nested = ScheduleChoice(drop=templates["lr"], drop_initial=RATE)
    with pytest.raises(SpaceError, match="rename one of the two"):
        space_of("lr", nested)


def test_one_of_nothing_is_refused():
    with pytest.raises(SpaceError, match="at least one schedule"):
        ScheduleChoice()


def test_a_trunk_is_shared_by_all_decays_that_are_searched_over():
    lr = Searchable(
        WarmUpStableDecay, 0.1, warm_up=2, decay_at=Categorical([6, 8]), decay_steps=Int(1, 3)
    )
    assert space_of("lr", lr) == {"lr_decay_at": Categorical([6, 8]), "lr_decay_steps": Int(1, 3)}
    tree = StageTree()
    for at, steps in product([6, 8], [1, 2, 3]):
        schedule = schedule_of("lr", lr, {"lr_decay_at": at, "lr_decay_steps": steps})
        path = Path().train("fit", "v1", {"lr": schedule}, at + steps)
        tree.add(path, trial=(at, steps))
    # The trunk is stable up to step 8; decays of two and three steps have one and two of their own.
    assert tree.requested_steps == 7 + 8 + 9 + 9 + 10 + 11
    assert tree.distinct_steps == 9 + 2 * (1 + 2)


@pytest.mark.parametrize(
    ("make", "ours"),
    [
        (lambda t: Searchable(t.optim.lr_scheduler.CosineAnnealingLR, T_max=90), "CosineToFloor"),
        (lambda t: {"warm": t.optim.lr_scheduler.LinearLR}, "Linear or WarmUp"),
        (lambda t: t.optim.lr_scheduler.StepLR, "StepDecay"),
    ],
    ids=["in a template", "nested", "as it is"],
)
def test_a_scheduler_of_torch_is_refused_where_a_stage_is_declared(make, ours):
    torch = pytest.importorskip("torch")
    with pytest.raises(SpaceError, match=ours):
        space_of("lr", make(torch))


# --- what a user gives


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([0.1, 0.05], Categorical([0.1, 0.05])),
        (("adam", "sgd"), Categorical(["adam", "sgd"])),
        (range(8, 64, 8), Int(8, 56, step=8)),
        (RATE, RATE),
        (0.1, 0.1),
    ],
    ids=str,
)
def test_lists_are_choices_as_in_the_space_of_every_stage(given, meant):
    assert as_templates({"lr": given}) == {"lr": meant}


def test_a_pair_of_numbers_is_asked_about():
    with pytest.raises(SpaceError, match="may mean a range or two choices"):
        as_templates({"lr": (0.001, 0.1)})


@pytest.mark.parametrize("choice", [Constant(0.1), Searchable(Constant, RATE), RATE], ids=str)
def test_schedules_are_chosen_between_by_name(choice):
    with pytest.raises(SpaceError, match=r"ScheduleChoice\(first="):
        as_templates({"lr": [choice, 0.1]})


@pytest.mark.parametrize("kind", [list, tuple, Categorical])
def test_torch_schedulers_are_refused_among_choices(kind):
    scheduler = pytest.importorskip("torch.optim.lr_scheduler").StepLR
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, of choices that a database cannot store
        given = kind([scheduler, 0.1])
    with pytest.raises(SpaceError, match="write StepDecay"):
        as_templates({"lr": given})
