"""The search plan: what has to run, who is answered, what survives."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eeipu import Pipeline, StageCache, stage
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.accounts import account
from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Function, MultiStep


def train(lr, steps=90):
    return Path().train("fit", "v", {"lr": lr}, steps).evaluate("fit", "v")


def ready(plan):
    return sorted((node for node in plan.tree if node.is_ready), key=lambda node: node.key)


def run_all(plan, cost=lambda node: float(node.steps)):
    """Run everything that waits; what was run, in order."""
    ran = []
    while nodes := ready(plan):
        node = nodes[0]
        plan.execution.start(node)
        plan.execution.complete(node, cost(node), None if node.is_training else node.start)
        if plan.cache is not None:
            plan.cache.put(node.key, node.start)
        ran.append(node.key)
    return ran


def spans(nodes):
    return sorted((node.start, node.stop) for node in nodes)


# --- laws -----------------------------------------------------------------------------------

rates = st.lists(st.sampled_from([0.1, 0.2]), min_size=1, max_size=6)
choices = st.integers(0, 999)


def check_counts(plan):
    """The counts, from their definition."""
    for node in [plan.tree.root, *plan.tree]:
        waiting = [r for r in plan.requests() if r.state is RequestState.OPEN and r.node is node]
        assert list(node.requests) == waiting
        needing = [child for child in node.children.values() if child.must_run]
        assert node.needs == len(waiting) + len(needing)


class PlanMachine(RuleBasedStateMachine):
    """Clients and workers in any order: counts stay true, and every request is answered once."""

    def __init__(self):
        super().__init__()
        self.plan = SearchPlan()
        self.number = 0
        self.answers = []
        self.ready = set()

    def begin(self, choice):
        """Start a node as a runner does, which hands out what is in hand once."""
        nodes = ready(self.plan)
        node = nodes[choice % len(nodes)]
        self.plan.execution.start(node)
        if node.parent.is_in_hand:
            self.plan.execution.forget(node.parent)
        return node

    def is_idle(self):
        return not ready(self.plan)

    @rule(values=rates)
    def request(self, values):
        self.plan.request("study", self.number, train(Function(values.__getitem__), len(values)))
        self.number += 1

    @rule(values=rates)
    def request_again(self, values):
        path = train(Function(values.__getitem__), len(values))
        self.plan.request("study", self.number, path.call("score", "v", {}))
        self.number += 1

    @precondition(lambda self: not self.is_idle())
    @rule(choice=choices)
    def run(self, choice):
        self.plan.execution.complete(self.begin(choice), 1.0, 0.5)

    @precondition(lambda self: not self.is_idle())
    @rule(choice=choices)
    def run_without_keeping(self, choice):
        self.plan.execution.complete(self.begin(choice), 1.0, 0.5, is_kept=False)

    @precondition(lambda self: not self.is_idle())
    @rule(choice=choices)
    def begin_only(self, choice):
        self.begin(choice)

    @precondition(lambda self: any(node.is_running for node in self.plan.tree))
    @rule(choice=choices, is_kept=st.booleans())
    def end(self, choice, is_kept):
        nodes = sorted((n for n in self.plan.tree if n.is_running), key=lambda node: node.key)
        self.plan.execution.complete(nodes[choice % len(nodes)], 1.0, 0.5, is_kept=is_kept)

    @precondition(lambda self: not self.is_idle())
    @rule(choice=choices)
    def lose(self, choice):
        self.plan.execution.lose(self.begin(choice))

    @precondition(lambda self: not self.is_idle())
    @rule(choice=choices)
    def fail(self, choice):
        self.plan.execution.fail(self.begin(choice), 1.0, "boom")

    @precondition(lambda self: not self.is_idle())
    @rule(choice=choices)
    def stop(self, choice):
        self.plan.execution.stop(self.begin(choice))

    @precondition(lambda self: len(self.plan.tree))
    @rule(choice=choices)
    def forget(self, choice):
        self.plan.execution.forget(list(self.plan.tree)[choice % len(self.plan.tree)])

    @precondition(lambda self: self.number)
    @rule(choice=choices)
    def cancel(self, choice):
        self.plan.cancel("study", choice % self.number)

    @invariant()
    def counts_are_true(self):
        check_counts(self.plan)
        self.answers += self.plan.take_answers()

    @invariant()
    def what_became_ready_is_told(self):
        now = set(ready(self.plan))
        assert now - self.ready <= set(self.plan.execution.take_changed())
        self.ready = now

    def teardown(self):
        plan = self.plan
        plan.execution.stop_all()
        run_all(plan)
        check_counts(plan)
        self.answers += plan.take_answers()
        cancelled = [r for r in plan.requests() if r.state is RequestState.CANCELLED]
        assert len({answer.request.id for answer in self.answers}) == len(self.answers)
        answered = {answer.request.id for answer in self.answers}
        assert len(answered | {request.id for request in cancelled}) == self.number
        assert not answered & {request.id for request in cancelled}
        assert all((a.value is None) == (a.error is not None) for a in self.answers)
        assert not any(node.is_running or node.is_in_hand for node in plan.tree)


PlanMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestPlanMachine = PlanMachine.TestCase


@given(st.lists(rates, min_size=1, max_size=8))
def test_no_finished_node_runs_again(values):
    plan, ran = SearchPlan(), []
    for number, each in enumerate(values):
        plan.request("study", number, train(Function(each.__getitem__), len(each)))
        ran += run_all(plan)
    # The front of a finished stretch that a later path left runs only if that path needs it.
    assert len(ran) == len(set(ran)) <= len(plan.tree)
    assert plan.spent_s >= plan.tree.distinct_steps


# --- requests -------------------------------------------------------------------------------


def test_trials_share_what_they_have_in_common():
    plan = SearchPlan()
    for trial, milestone in enumerate([30, 60]):
        plan.request("study", trial, train(MultiStep(0.1, [milestone])))
    run_all(plan)
    assert plan.spent_s == 150
    assert [answer.request.trial for answer in plan.take_answers()] in ([0, 1], [1, 0])


def test_a_request_that_was_answered_is_answered_again_at_once():
    plan = SearchPlan()
    first = plan.request("study", 0, train(0.1))
    run_all(plan)
    (answer,) = plan.take_answers()
    assert plan.request("study", 0, train(0.1)) is first
    assert plan.take_answers() == [answer]


def test_a_request_that_is_open_stays_one():
    plan = SearchPlan()
    assert plan.request("study", 0, train(0.1)) is plan.request("study", 0, train(0.1))
    run_all(plan)
    assert len(plan.take_answers()) == 1


def test_all_studies_or_one_list_their_requests():
    plan = SearchPlan()
    requests = [plan.request(study, 0, train(0.1)) for study in "abc"]
    assert plan.requests() == requests
    assert plan.requests("b") == [requests[1]]


def test_what_a_worker_finishes_after_its_trial_was_cancelled_is_kept():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.cancel("study", 0)
    plan.execution.complete(node, 90.0)
    plan.request("study", 1, train(0.1))
    assert spans(ready(plan)) == [(90, 91)]


def test_another_trial_with_the_same_path_is_answered_from_what_is_there():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    run_all(plan)
    plan.take_answers()
    plan.request("other", 0, train(0.1))
    assert [(a.request.study, a.value) for a in plan.take_answers()] == [("other", 90)]
    assert ready(plan) == []


def test_training_without_an_evaluation_is_answered_without_a_value():
    plan = SearchPlan()
    plan.request("study", 0, Path().train("fit", "v", {"lr": 0.1}, 9))
    run_all(plan)
    assert [answer.value for answer in plan.take_answers()] == [None]


def test_extending_a_trial_starts_at_its_last_state():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1, 30))
    run_all(plan)
    plan.request("study", 0, train(0.1, 90))
    assert spans(ready(plan)) == [(30, 90)]


def test_a_finished_stretch_is_split_and_its_front_run_from_the_nearest_state():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    run_all(plan)
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    assert spans(ready(plan)) == [(0, 40)]
    (upper,) = ready(plan)
    assert upper.cost_s == 40
    run_all(plan)
    assert plan.spent_s == 90 + 40 + 50


def test_checkpoints_on_the_way_keep_the_rework_short():
    plan = SearchPlan()
    plan.request("study", 0, Path().train("fit", "v", {"lr": 0.1}, 90, checkpoint_every=25))
    run_all(plan)
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    assert spans(ready(plan)) == [(25, 40)]


def test_a_running_stretch_that_is_split_tells_who_runs_it():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    ((upper, lower),) = plan.execution.take_splits()
    assert lower is node
    assert upper.is_running
    assert plan.execution.take_splits() == ready(plan) == []
    plan.execution.stop(upper)  # the worker will not stop on its way, so another one has to make it
    assert ready(plan) == [upper]


def test_the_front_of_a_running_stretch_is_not_run_for_that_stretch_itself():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    plan.execution.stop(node.parent)
    plan.cancel("study", 1)
    assert ready(plan) == []


def test_cancelling_a_trial_does_not_stop_what_another_wants():
    plan = SearchPlan()
    plan.request("study", 0, train(MultiStep(0.1, [30])))
    plan.request("study", 1, train(MultiStep(0.1, [60])))
    plan.cancel("study", 0)
    run_all(plan)
    assert [answer.request.trial for answer in plan.take_answers()] == [1]
    assert plan.spent_s == 90


def test_a_whole_study_can_be_cancelled():
    plan = SearchPlan()
    for trial in range(2):
        plan.request("study", trial, train(0.1 * (trial + 1)))
    plan.request("other", 0, train(0.1))
    plan.cancel("study")
    assert [(r.study, r.trial) for r in plan.waiting] == [("other", 0)]
    assert len(ready(plan)) == 1


def test_a_cancelled_trial_may_ask_again():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    plan.cancel("study", 0)
    assert ready(plan) == []
    plan.request("study", 0, train(0.1))
    run_all(plan)
    assert len(plan.take_answers()) == 1


def test_a_failure_answers_all_who_wait_for_it_and_nobody_else():
    plan = SearchPlan()
    plan.request("study", 0, train(MultiStep(0.1, [30])))
    plan.request("other", 0, train(MultiStep(0.1, [60])))
    plan.request("study", 1, train(0.5))
    node = next(n for n in ready(plan) if n.stop == 30)
    plan.execution.fail(node, 1.0, "boom")
    run_all(plan)
    errors = {(a.request.study, a.request.trial): a.error for a in plan.take_answers()}
    assert errors == {("study", 0): "boom", ("other", 0): "boom", ("study", 1): None}


def test_what_fails_after_its_trial_was_cancelled_is_nobodys_failure():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.cancel("study", 0)
    plan.execution.fail(node, 1.0, "boom")
    check_counts(plan)
    assert plan.take_answers() == []


def test_what_failed_once_is_answered_at_once_later():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    plan.execution.fail(ready(plan)[0], 1.0, "boom")
    plan.take_answers()
    plan.request("study", 0, train(0.1))
    plan.request("study", 1, train(0.1))
    assert [answer.error for answer in plan.take_answers()] == ["boom", "boom"]


def stretch(steps):
    return Path().train("fit", "v", {"lr": 0.1}, steps)


def test_a_part_that_was_never_run_is_run_after_its_failure_was_cleared():
    plan = SearchPlan()
    plan.request("study", 0, stretch(10))
    run_all(plan)
    plan.request("study", 1, stretch(4))  # its node has a share of what the longer one cost
    plan.execution.fail(ready(plan)[0], 1.0, "boom")
    plan.take_answers()
    plan.retry()
    plan.request("study", 1, stretch(4))
    assert plan.take_answers() == []
    assert spans(ready(plan)) == [(0, 4)]


def split_under_a_worker():
    """A plan of a running node that a second request has split, and the two parts."""
    plan = SearchPlan()
    plan.request("study", 0, stretch(10))
    (lower,) = ready(plan)
    plan.execution.start(lower)
    plan.request("study", 1, stretch(4))
    ((upper, _),) = plan.execution.take_splits()
    plan.execution.stop(upper)
    return plan, upper, lower


def test_what_runs_is_lost_after_its_upper_part_has_failed():
    plan, upper, lower = split_under_a_worker()
    plan.execution.start(upper)
    plan.execution.fail(upper, 1.0, "boom")
    assert [(a.request.trial, a.error) for a in plan.take_answers()] == [(1, "boom")]
    plan.execution.lose(lower)
    assert [(a.request.trial, a.error) for a in plan.take_answers()] == [(0, "boom")]
    check_counts(plan)


def test_what_runs_is_not_harmed_by_the_failure_of_its_upper_part():
    plan, upper, lower = split_under_a_worker()
    plan.execution.fail(upper, 1.0, "boom")
    plan.request("late", 0, stretch(10))  # waits for what runs
    plan.take_answers()
    plan.execution.complete(lower, 1.0)
    assert [(a.request.study, a.error) for a in plan.take_answers()] == [
        ("study", None),
        ("late", None),
    ]


def test_a_node_that_kills_three_workers_has_failed():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    for _ in range(3):
        (node,) = ready(plan)
        plan.execution.start(node)
        plan.execution.lose(node, 2.0)
    (answer,) = plan.take_answers()
    assert "its worker died 3 times: fit [0, 90) lr=0.1" in answer.error
    assert plan.spent_s == 6.0


# --- states ---------------------------------------------------------------------------------


def test_states_that_the_cache_has_are_not_made_again(tmp_path):
    cache = StageCache(tmp_path)
    path = train(MultiStep(0.1, [30]))
    cache.put(path.key(30), "state", cost=7.0)
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, path)
    assert spans(ready(plan)) == [(30, 90)]
    assert plan.tree[path.key(30)].cost_s == 7.0


def test_values_that_a_tuner_left_in_the_cache_answer_requests():
    @stage(version="1")
    def score(data):
        return 2.0 * data

    pipeline, cache = Pipeline([score]), StageCache()
    pipeline.run({}, 3.0, cache=cache)
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, Path(inputs_key((3.0,))).call("score", "version 1", {}))
    assert [answer.value for answer in plan.take_answers()] == [6.0]


def test_a_cached_output_that_is_no_value_is_as_much_as_running_it_gives():
    cache, path = StageCache(), Path().call("score", "v", {})
    cache.put(path.key(1), {1, 2})
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, path)
    assert [(a.value, a.error) for a in plan.take_answers()] == [(None, None)]


@pytest.mark.parametrize("output", [np.float32(0.5), np.array(0.5), {"acc": np.float32(0.5)}])
def test_numbers_of_other_libraries_are_values_in_the_cache_too(output):
    cache, path = StageCache(), Path().call("score", "v", {})
    cache.put(path.key(1), output)
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, path)
    assert [answer.value for answer in plan.take_answers()] in ([0.5], [{"acc": 0.5}])


def test_a_value_that_was_found_in_the_cache_is_answered_by_later_processes_too(tmp_path):
    cache = StageCache(tmp_path / "cache")
    cache.put(train(0.1).key(91), {"acc": 0.9})
    answers = []
    for study in ("study", "study", "new"):
        with SearchPlan(tmp_path / "plan.db", cache) as plan:
            plan.request(study, 0, train(0.1))
            answers += [answer.value for answer in plan.take_answers()]
        cache.discard([train(0.1).key(91)])  # it is stored with the plan now
    assert answers == [{"acc": 0.9}] * 3


def test_a_value_that_is_neither_stored_nor_in_the_cache_is_made_again(tmp_path):
    cache = StageCache(tmp_path / "cache")
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("study", 0, train(0.1))
        run_all(plan)
    with closing(sqlite3.connect(tmp_path / "plan.db")) as db, db:
        db.execute("UPDATE nodes SET value = NULL")
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        cache.discard([train(0.1).key(91)])
        plan.request("study", 0, train(0.1))
        assert plan.take_answers() == []
        assert spans(ready(plan)) == [(90, 91)]


def test_nothing_is_forgotten_twice_and_inputs_never():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    for node in [plan.tree.root, *plan.tree]:
        plan.execution.forget(node)
    assert spans(ready(plan)) == [(0, 90)]


def test_a_value_is_known_for_good():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    run_all(plan)
    for node in plan.tree:
        plan.execution.forget(node)
    plan.take_answers()
    plan.request("study", 1, train(0.1))
    assert [answer.value for answer in plan.take_answers()] == [90]
    assert ready(plan) == []


def test_a_state_that_went_is_made_again_from_the_one_above():
    plan = SearchPlan()
    plan.request("study", 0, train(MultiStep(0.1, [30, 60]), 60))
    run_all(plan)
    plan.execution.forget(plan.tree[train(0.1, 30).key(30)])
    plan.execution.forget(plan.tree[train(MultiStep(0.1, [30]), 60).key(60)])
    assert ready(plan) == []
    plan.request("study", 1, train(MultiStep(0.1, [30]), 90))
    assert spans(ready(plan)) == [(0, 30)]


def test_states_that_nobody_refers_to_go_first_and_only_when_room_is_needed():
    cache = StageCache(max_bytes=10**6)
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, train(MultiStep(0.1, [30])))
    run_all(plan)
    assert plan.execution.trim() == []
    held = plan.tree[train(MultiStep(0.1, [30])).key(90)]
    assert held.key not in plan.execution.trim(max_bytes=0)
    assert held.key in cache
    plan.release("study", 0)
    assert held.key in plan.execution.trim(max_bytes=0)
    assert cache.stats().entries == 0


def test_checkpoints_go_before_what_their_stages_began_from():
    cache = StageCache()
    plan = SearchPlan(cache=cache)
    path = Path().call("prep", "v", {}).train("fit", "v", {"lr": MultiStep(0.1, [40])}, 90)
    plan.request("study", 0, path)
    while nodes := ready(plan):
        cache.put(nodes[0].key, "state")
        plan.execution.complete(nodes[0], 1.0)
    dropped = plan.execution.trim(0)
    assert dropped == [path.key(41), path.key(1)]  # the trial holds its last checkpoint


def test_a_trial_holds_its_last_state_only():
    plan = SearchPlan(cache=StageCache())
    for steps in (30, 90):
        plan.request("study", 0, train(0.1, steps))
        run_all(plan)
        plan.take_answers()
    assert [node.stop for node in plan.tree if node.holds] == [90]


@pytest.mark.parametrize("cache", [None, StageCache()])
def test_without_a_limit_nothing_is_dropped(cache):
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, train(0.1))
    run_all(plan)
    plan.cancel("study", 0)
    assert plan.execution.trim() == []


# --- accounts -------------------------------------------------------------------------------


def test_accounts_say_who_paid_and_what_was_free():
    plan = SearchPlan()
    plan.request("early", 0, train(MultiStep(0.1, [30])))
    plan.request("early", 1, train(MultiStep(0.1, [60])))
    run_all(plan)
    plan.request("late", 0, train(MultiStep(0.1, [60]), 80))
    plan.request("late", 1, train(0.5, 10))
    run_all(plan)
    early, late = account(plan, "early"), account(plan, "late")
    assert (early.trials, early.separately, early.paid, early.from_others) == (2, 180, 150, 0)
    assert early.free == 30
    # The late study had a stretch of 20 steps run again, whose end nobody had kept.
    assert (late.trials, late.separately, late.paid, late.from_others) == (2, 90, 30, 80)
    assert plan.studies == ["early", "late"]
    assert plan.spent_s == early.paid + late.paid


def test_an_account_counts_answered_trials_only():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    plan.request("study", 1, train(0.2))
    plan.execution.fail(ready(plan)[0], 1.0, "boom")
    mine = account(plan, "study")
    assert (mine.trials, mine.separately, mine.paid, mine.free) == (0, 0, 1, -1)


def test_what_a_killed_process_left_is_paid_by_whom_it_was_run_for(tmp_path):
    cache = StageCache(tmp_path / "cache")
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("study", 0, train(0.1))
        (node,) = ready(plan)
        plan.execution.start(node)
    cache.put(node.key, "state", cost=7.0)  # its worker went on
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("other", 0, train(0.1))
        assert plan.tree[node.key].payer == "study"
        assert plan.paid_s == {"study": 7.0}
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        assert plan.paid_s == {"study": 7.0}  # once


def test_whoever_waits_when_a_node_begins_anew_pays():
    plan = SearchPlan()
    plan.request("one", 0, train(0.1))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.cancel("one", 0)
    plan.execution.stop(node)
    plan.request("two", 0, train(0.1))
    plan.execution.start(node)
    plan.execution.complete(node, 5.0)
    assert (node.payer, plan.paid_s) == ("two", {"two": 5.0})


def test_what_a_study_took_over_while_it_ran_is_paid_and_not_from_others():
    plan = SearchPlan()
    for study in ("one", "two"):
        plan.request(study, 0, stretch(10))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.cancel("one", 0)
    plan.execution.complete(node, 5.0)
    mine = account(plan, "two")
    assert (mine.separately, mine.paid, mine.from_others) == (5.0, 5.0, 0.0)


# --- storage --------------------------------------------------------------------------------


def test_a_plan_comes_back_as_it_was(tmp_path):
    file = tmp_path / "plan.db"
    plan = SearchPlan(file)
    plan.request("study", 0, train(0.1))
    run_all(plan)
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    plan.execution.complete(ready(plan)[0], 40.0)
    plan.request("other", 5, train(0.5))
    plan.request("other", 6, train(0.6))
    plan.cancel("other", 6)
    plan.close()
    again = SearchPlan(file)
    check_counts(again)
    assert again.tree == plan.tree
    assert spans(ready(again)) == spans(ready(plan))
    states = [[(r.id, r.study, r.trial, r.state) for r in p.requests()] for p in (plan, again)]
    assert states[0] == states[1]
    assert again.tree.requested_steps == plan.tree.requested_steps == 4 * 90
    assert again.paid_s == plan.paid_s == {"study": 130}
    facts = [
        {n.key: (n.cost_s, n.value, n.payer, n.holds, n.has_state) for n in p.tree}
        for p in (plan, again)
    ]
    assert facts[0] == facts[1]
    again.request("study", 0, train(0.1))
    assert [answer.value for answer in again.take_answers()] == [90]


def test_a_plan_that_comes_back_knows_which_states_are_still_there(tmp_path):
    cache = StageCache(tmp_path / "cache")
    plan = SearchPlan(tmp_path / "plan.db", cache)
    plan.request("study", 0, train(MultiStep(0.1, [30])))
    run_all(plan)
    plan.close()
    cache.discard([train(0.1, 30).key(30)])
    again = SearchPlan(tmp_path / "plan.db", cache)
    again.request("study", 1, train(MultiStep(0.1, [60])))
    assert spans(ready(again)) == [(0, 30)]


def test_what_was_stored_without_its_request_is_passed_over(tmp_path):
    SearchPlan(tmp_path / "plan.db").close()
    with sqlite3.connect(tmp_path / "plan.db") as db:
        db.execute("INSERT INTO nodes (key, has_state, losses) VALUES ('lost', 1, 0)")
    db.close()
    assert len(SearchPlan(tmp_path / "plan.db").tree) == 0


def test_what_was_released_stays_released(tmp_path):
    with SearchPlan(tmp_path / "plan.db") as plan:
        for trial in range(3):
            plan.request("study", trial, train(0.1 * (trial + 1)))
        run_all(plan)
        plan.release("study", 0)
        plan.cancel("study", 1)
        plan.release("nobody", 7)
    with SearchPlan(tmp_path / "plan.db") as plan:
        assert holding(plan) == [2]
        plan.request("study", 0, train(0.1))  # who asks again holds again
    with SearchPlan(tmp_path / "plan.db") as plan:
        assert holding(plan) == [0, 2]


def holding(plan):
    """The trials that hold a state."""
    return [r.trial for r in plan.requests() if any(n.holds for n in r.node.ancestry())]


def test_failures_and_losses_survive(tmp_path):
    plan = SearchPlan(tmp_path / "plan.db")
    plan.request("study", 0, train(0.1))
    plan.request("study", 1, train(0.2))
    one, two = ready(plan)
    plan.execution.fail(one, 1.0, "boom")
    plan.execution.lose(two)
    plan.close()
    again = SearchPlan(tmp_path / "plan.db")
    assert again.tree[one.key].error == "boom"
    assert again.tree[two.key].losses == 1
    assert [node.key for node in ready(again)] == [two.key]


def test_a_killed_process_loses_nothing_that_was_reported(tmp_path):
    program = textwrap.dedent(f"""
        import os, signal
        from eeipu.stages.paths import Path
        from eeipu.stage_tree.search_plan import SearchPlan
        plan = SearchPlan({str(tmp_path / "plan.db")!r})
        for trial in range(20):
            path = Path().train("fit", "v", {{"lr": trial}}, 9).evaluate("fit", "v")
            plan.request("study", trial, path)
            nodes = [node for node in plan.tree if node.is_ready]
            plan.execution.complete(nodes[0], 1.0, 0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    plan = SearchPlan(tmp_path / "plan.db")
    assert len(plan.requests()) == 20
    assert sum(node.has_state for node in plan.tree) == 20
    run_all(plan)
    assert sum(r.state is RequestState.ANSWERED for r in plan.requests()) == 20


def test_a_full_disk_is_told_and_loses_nothing_that_was_stored(tmp_path):
    with SearchPlan(tmp_path / "plan.db") as plan:
        plan.request("study", 0, train(0.1))
        pages = plan._database._db.execute("PRAGMA page_count").fetchone()[0]
        plan._database._db.execute(f"PRAGMA max_page_count={pages}")
        trials = iter(range(1, 1000))
        ask = (plan.request("study", trial, train(0.1 + trial)) for trial in trials)
        with pytest.raises(ConfigurationError, match="; make room and run it again"):
            list(ask)
    with SearchPlan(tmp_path / "plan.db") as plan:
        assert [request.trial for request in plan.requests()] == list(range(next(trials) - 1))


def test_one_process_at_a_time_has_a_plan(tmp_path):
    plan = SearchPlan(tmp_path / "plan.db")
    with pytest.raises(ConfigurationError, match="one SearchPlan at a time"):
        SearchPlan(tmp_path / "plan.db")
    plan.close()
    plan.close()
    SearchPlan(tmp_path / "plan.db").close()


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    (tmp_path / "plan.db").write_text("not a database " * 100)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        SearchPlan(tmp_path / "plan.db")


def test_a_plan_of_another_format_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "plan.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ConfigurationError, match="has the format 99"):
        SearchPlan(tmp_path / "plan.db")


def test_a_path_that_cannot_be_stored_is_refused_before_anything_is_noted(tmp_path):
    plan = SearchPlan(tmp_path / "plan.db")
    with pytest.raises(PipelineError, match="cannot be stored"):
        plan.request("study", 0, Path().call("prep", "v", {"kernel": frozenset("ab")}))
    assert plan.requests() == []
    assert len(plan.tree) == 0
