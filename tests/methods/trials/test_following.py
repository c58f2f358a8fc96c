"""Which trials have changed since they were last seen, and sums of what comes and goes."""

import math

import optuna
from hypothesis import given
from hypothesis import strategies as st

from eeipu.methods.trials.following import BLOCK, ExactSum, changed_places

NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=20)


@given(NUMBERS, NUMBERS)
def test_a_sum_is_that_of_the_numbers_that_are_there(kept, gone):
    total = ExactSum()
    for number in [*kept, *gone]:
        total.add(number)
    for number in gone:
        total.add(number, -1)
    assert total.value == math.fsum(kept)


def test_a_sum_may_be_infinite():
    total = ExactSum()
    total.add(math.inf)
    assert total.value == math.inf


def test_changes_are_seen_in_every_block():
    study = optuna.create_study()
    for _ in range(BLOCK + 5):
        study.add_trial(optuna.trial.create_trial(value=0.0))
    running = study.ask()
    before = study.get_trials(deepcopy=False)
    assert changed_places(before, study.get_trials(deepcopy=False)) == []
    running.set_user_attr("charged", 1.0)  # which Optuna writes into the object seen before, too
    study.add_trial(optuna.trial.create_trial(value=0.0))
    after = study.get_trials(deepcopy=False)
    assert changed_places(before, after) == [BLOCK + 5, BLOCK + 6]
