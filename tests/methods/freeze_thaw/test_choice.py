"""The choice between beginning a trial and going on with one."""

import math

import pytest

from eeipu import Categorical, Float
from eeipu.methods.freeze_thaw.choice import CurveSearch
from eeipu.methods.freeze_thaw.trials import TrialCurve
from eeipu.space import Space

LOOKS = [1, 3, 9]


def search(space=None, made=lambda params: (0, 0), columns=((0,), (1,)), trained=1):
    space = Space(
        {"prep.a": Float(0.0, 1.0), "train.b": Float(0.0, 1.0)} if space is None else space
    )
    return CurveSearch(space, LOOKS, columns, trained, 0, made)


def trial(a, b, steps=(1,), end=None, costs=(2.0, 1.0), **options):
    """A trial that ends at `b`, one half below it at first."""
    values = {step: (b if end is None else end) - 0.5 / step for step in steps}
    return TrialCurve({"prep.a": a, "train.b": b}, values, costs, **options)


def choose(trials, mine=None, **options):
    given = {"may_begin": True, "says_which": True, "remaining": math.inf} | options
    return (mine or search()).choose(trials, **given)


SOME = [trial(0.1, 0.2, (1, 3, 9)), trial(0.5, 0.9), trial(0.9, 0.4), trial(0.3, 0.6, (1, 3))]


def test_where_nothing_may_begin_the_best_one_goes_on():
    choice = choose(SOME, may_begin=False)
    assert choice.trial == 1
    assert choice.step in (3, 9)


def test_a_trial_that_runs_has_failed_or_has_ended_is_not_gone_on_with():
    trials = [
        trial(0.1, 0.2, (1, 3, 9)),
        trial(0.5, 0.9, running_to=3),
        trial(0.9, 0.95, failed_at=3),
        trial(0.3, 0.6),
    ]
    assert choose(trials, may_begin=False).trial == 3


def test_nothing_is_chosen_where_nothing_is_worth_it():
    flat = [trial(k / 10, k / 10, (1, 3, 9)) for k in range(9)]
    hopeless = [TrialCurve({"prep.a": 0.0, "train.b": 0.0}, {1: -0.5, 3: -0.17}, (2.0, 1.0))]
    assert choose(flat + hopeless, may_begin=False) is None
    assert choose(flat, may_begin=False) is None
    assert choose(flat, may_begin=True).trial is None


def test_a_new_trial_lies_where_curves_end_high_and_is_no_trial_already():
    trials = [trial(a / 4, b / 4, (1, 3, 9)) for a in range(5) for b in range(4)]
    choice = choose(trials)
    assert choice.trial is None
    assert choice.params["train.b"] > 0.75
    assert choice.params not in [each.params for each in trials]


def test_outputs_that_are_kept_make_a_new_trial_cheaper():
    dear = [trial(0.25, b / 8, (1, 3, 9), costs=(60.0, 1.0)) for b in range(6)]
    choice = choose(dear, search(made=lambda params: (int(params["prep.a"] == 0.25), 0)))
    assert choice.params["prep.a"] == 0.25


def test_what_cannot_be_paid_to_its_end_is_left():
    trials = [trial(0.5, 0.9, (1,)), trial(0.3, 0.6, (1, 3)), trial(0.1, 0.2, (1, 3, 9))]
    assert choose(trials, may_begin=False).trial == 0
    assert choose(trials, may_begin=False, remaining=7.0).trial == 1


def test_where_others_choose_a_new_trial_has_no_configuration_yet():
    flat = [trial(k / 10, k / 10, (1, 3, 9)) for k in range(4)]
    choice = choose(flat, says_which=False)
    assert choice.trial is None
    assert choice.params is None
    assert choice.step in LOOKS


def test_a_space_that_is_used_up_is_no_error():
    space = {"prep.a": Categorical([0.0]), "train.b": Categorical([0.0, 1.0])}
    trials = [trial(0.0, 0.0), trial(0.0, 1.0)]
    assert choose(trials, search(space)).trial == 1
    assert choose([trial(0.0, b, (1, 3, 9)) for b in (0.0, 1.0)], search(space)) is None


@pytest.mark.parametrize("made", [(1, 0), (1, 3)])
def test_training_that_is_shared_is_not_paid_again(made):
    trials = [trial(0.5, 0.5 + b / 16, (1, 3, 9)) for b in range(4)]
    choice = choose(trials, search(made=lambda params: made))
    assert choice.step > made[1]
