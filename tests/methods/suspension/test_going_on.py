"""Whether a trial is to go on, given what its stages have shown."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from eeipu import Float, Pipeline
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.reuse.candidates import Candidate, Reuse
from eeipu.methods.search_state import Search
from eeipu.methods.suspension.going_on import Outlook, outlook
from eeipu.methods.suspension.suspended import as_if_suspended

PIPELINE = Pipeline.declare(
    {"first": {"x": Float(0, 1)}, "second": {"y": Float(0, 1)}, "third": {"z": Float(0, 1)}}
)
POINTS = np.random.default_rng(0).random((16, 3))
AT, ELSEWHERE = np.array([0.17, 0.05, 0.3]), np.array([0.87, 0.78, 0.3])


def shown(point):
    """The sums after each of three stages, the last of which is the objective."""
    return np.cumsum([math.sin(9 * point[0]), math.cos(8 * point[1]), -((point[2] - 0.3) ** 2)])


def trial(point, state=TrialState.COMPLETE, **attrs):
    sums = shown(point)
    ended = state is TrialState.COMPLETE
    seen = {"observations": dict(zip(["first", "second"], sums.tolist(), strict=False))}
    return create_trial(
        params=dict(zip(PIPELINE.space, point.tolist(), strict=True)),
        distributions=PIPELINE.space,
        value=sums[-1] if ended else None,
        state=state,
        user_attrs={"stage_costs": [1.0, 1.0, 4.0], **(seen if ended else {}), **attrs},
    )


def judged(first, *, has_run=(True, False, False), overhead=None, running=(), names=("first",)):
    """The outlook of a trial at `AT` whose first stage has shown a number."""
    study = optuna.create_study(direction="maximize")
    study.add_trials([trial(point) for point in POINTS])
    study.add_trials([trial(point, TrialState.RUNNING) for point in (AT, *running)])
    history = History.of(study, PIPELINE)
    if not names:
        for each in history.ended:
            del each.user_attrs["observations"]
        history = History.of(study, PIPELINE)
    then = as_if_suspended(history, history.running[0], dict.fromkeys(names, first))
    search = Search(then, Budget(300.0, overhead=overhead), 0, len(POINTS), seed=0)
    other = dict(zip(PIPELINE.space, ELSEWHERE.tolist(), strict=True))
    candidate = Candidate(other, ELSEWHERE, Reuse({}, (False,) * 3), 0.0)
    mine = dict(zip(PIPELINE.space, AT.tolist(), strict=True))
    return outlook(search, METHODS["eeipu"], mine, has_run, [candidate])


def test_a_trial_goes_on_that_shows_what_was_hoped_for_and_stops_if_it_shows_less():
    good, bad = judged(1.2), judged(-0.5)

    assert not good.is_to_stop
    assert bad.is_to_stop
    assert bad.going_on < good.going_on
    assert bad.expected == pytest.approx(good.expected - 1.7, abs=0.3)


def test_what_has_been_paid_does_not_count():
    """After two stages the last one is left, of four units of cost in six."""
    after_one, after_two = judged(1.0), judged(1.0, has_run=(True, True, False))

    assert after_two.going_on > after_one.going_on


def test_going_on_saves_the_choice_of_another_trial():
    plain, dear = judged(1.0, overhead=0.0), judged(1.0, overhead=5.0)

    assert dear.going_on - dear.instead > plain.going_on - plain.instead
    assert dear.going_on == pytest.approx(plain.going_on, abs=0.02)


def test_a_running_trial_takes_away_from_others_like_it():
    alone, beside = judged(-0.5), judged(-0.5, running=[ELSEWHERE + 0.01])

    assert beside.instead < alone.instead


def test_where_nothing_was_shown_there_is_no_outlook():
    assert judged(1.0, names=()) is None


def test_a_little_less_is_no_reason_to_stop():
    assert not Outlook(-1.0, -0.8, 0.0).is_to_stop
    assert Outlook(-1.0, 0.0, 0.0).is_to_stop
    assert Outlook(-1.0, 0.0, 2.0).notes == {"expected": 2.0, "worth": 0.368}
