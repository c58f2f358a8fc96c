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
    for name in [name for name in sys.modules if name.startswith(("fault", "figures"))]:
        sys.modules.pop(name)


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
    from fault_cases.entries import directory
    from fault_cases.places import in_child, tune_limited

    with directory() as root:
        assert in_child(lambda: tune_limited(root, 4)) == 4


def test_a_study_finishes_where_it_may_not_write_any_more(faults):
    assert faults.permission_lost(4) == 4


def test_a_clock_that_is_set_back_does_no_harm(faults):
    assert +faults.clock_backwards(30) == {}


@pytest.mark.parametrize("kind", ["files", "beating"])
def test_the_place_of_a_killed_holder_is_taken(faults, kind):
    assert faults.holders_killed(kind, 2)[0] == 2


# --- the cases of pipelines ---------------------------------------------------------------------

WORK = "def work(*, x):\n    return 2.0 * x\n"


@pytest.mark.parametrize(
    ("programs", "kind", "said"),
    [
        (["say(run(work.work, x=3.0))"], "right", 6.0),
        (["say(run(work.work, x=3.0))", "edit('work.py', '2.0', '4.0')", "say(1.0)"], "wrong", 1.0),
        (["run(work.work, 1)", "say(6.0)"], "refused", "has neither a space nor a default"),
        (["say(6.0)\n1 / 0"], "failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_case_is_judged_by_what_its_last_program_says(faults, programs, kind, said):
    from fault_cases.cases import Case, outcome_of

    programs = tuple(f"from asking import *\nimport work\n{each}" for each in programs)
    outcome = outcome_of(Case("a case", programs, 6.0, {"work.py": WORK}))
    assert outcome.kind == kind
    assert str(said) in str(outcome.said)


def test_a_case_that_hangs_has_failed(faults):
    from fault_cases.cases import Case, Outcome, outcome_of

    case = Case("a case", ("import time; time.sleep(600)",), timeout_s=1.0)
    assert outcome_of(case) == Outcome("failed", "no answer after 1 s")


def test_a_case_without_its_library_is_left_out(faults):
    from fault_cases.cases import Case, outcome_of

    assert outcome_of(Case("a case", (), needs=("no_such_library",))).kind == "left out"


def test_a_needless_miss_comes_with_its_reason(faults):
    from fault_cases.cases import Case, outcome_of

    ask = "from asking import *\nimport work\nagain(work.work)"
    source = "import os\nPID = os.getpid()\ndef work():\n    return PID\n"
    outcome = outcome_of(Case("a case", (ask, ask), True, {"work.py": source}))
    assert outcome.kind == "wrong"
    assert outcome.said.endswith("differs in the global PID in work")
