"""The search plan: what has to run, and who is answered."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from plans import check_counts, ready, run_all, spans, stretch, train

from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Function, MultiStep

# --- laws ------------------------------------------------------------------------------------

rates = st.lists(st.sampled_from([0.1, 0.2]), min_size=1, max_size=6)
choices = st.integers(0, 999)


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
    def request_a_score_after_training(self, values):
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


# --- requests --------------------------------------------------------------------------------


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


def test_training_that_was_answered_is_answered_again_without_its_state():
    plan = SearchPlan()
    asked = plan.request("study", 0, stretch(9))
    run_all(plan)
    plan.take_answers()
    plan.execution.forget(asked.node)
    plan.request("study", 0, stretch(9))
    assert [(a.value, a.error) for a in plan.take_answers()] == [(None, None)]
    assert ready(plan) == []


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
