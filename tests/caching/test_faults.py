"""A small share of what `make faults` does: a few tries of every fault."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.skipif(not BENCHMARKS.exists(), reason="only in a checkout"),
    # Python 3.12 and newer, of any fork: the children here start no threads of their parent's.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import faults

    yield faults
    for name in ("faults", "figures"):
        sys.modules.pop(name, None)


def test_killed_processes_leave_nothing_wrong(faults):
    assert +faults.kills(9) == {}


def test_a_killed_study_loses_no_finished_trial(faults):
    wrong = faults.study_kills(3)
    assert wrong.pop("finished") > 0
    assert +wrong == {}


def test_every_kind_of_damage_is_noticed(faults):
    assert +faults.corruptions(10) == {"noticed": 10, "quarantined": 10}


def test_processes_that_race_run_each_node_once(faults):
    assert +faults.race(4, 15) == {"executed": 15}


def test_a_study_finishes_on_a_full_disk(faults):
    with faults.directory() as root:
        assert faults.in_child(lambda: faults.tune_limited(root, 4)) == 4


def test_a_study_finishes_where_it_may_not_write_any_more(faults):
    assert faults.permission_lost(4) == 4


def test_a_clock_that_is_set_back_does_no_harm(faults):
    assert +faults.clock_backwards(30) == {}


@pytest.mark.parametrize("kind", ["files", "beating"])
def test_the_place_of_a_killed_holder_is_taken(faults, kind):
    assert faults.holders_killed(kind, 2)[0] == 2
