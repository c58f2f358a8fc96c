"""Schedulers: what is left below each node, and who goes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeipu import stage
from eeipu.stage_tree.cost_estimates import CostEstimates
from eeipu.stage_tree.scheduler import (
    BREADTH_FIRST,
    CRITICAL_PATH,
    DEPTH_FIRST,
    FIFO,
    Scheduler,
    stage_resources,
)
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Call, Kind, Path
from eeipu.stages.resources import Resources
from eeipu.stages.schedules import Function, MultiStep


def free(num_cpus=1.0, num_gpus=1.0):
    """A worker that has these resources."""
    return lambda needs: needs.fit(Resources(num_cpus, num_gpus))


def train(lr, steps=90):
    return Path().train("fit", "v", {"lr": lr}, steps).evaluate("fit", "v")


def span(node):
    return None if node is None else (node.start, node.stop)


def followed(scheduler, count=9):
    """The spans of the nodes that one worker runs one after another."""
    spans, node = [], None
    while len(spans) < count and (node := scheduler.next(free(), node)) is not None:
        spans.append(span(node))
        scheduler.plan.execution.complete(node, 1.0, 0.5)
    return spans


def planned(*paths):
    plan = SearchPlan()
    for trial, path in enumerate(paths):
        plan.request("study", trial, path)
    return plan


# --- laws -----------------------------------------------------------------------------------

rates = st.lists(st.sampled_from([0.1, 0.2]), min_size=1, max_size=6)
moves = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 999)), max_size=30)


def longest(node, costs):
    """The longest remaining time through a node, by its definition."""
    if not node.must_run:
        return 0.0
    return costs(node) + max((longest(c, costs) for c in node.children.values()), default=0.0)


@given(st.lists(rates, min_size=1, max_size=6), moves)
def test_remaining_times_stay_true_whatever_happens(values, moves):
    plan, number = SearchPlan(), 0
    costs = CostEstimates(lambda call: 1.0 + 9.0 * call.params.get("lr", 0))
    scheduler = Scheduler(plan, costs=costs)
    for move, choice in moves:
        ready = [node for node in plan.tree if node.is_ready]
        node = ready[choice % len(ready)] if ready else None
        if move <= 1:
            each = values[choice % len(values)]
            plan.request("study", number, train(Function(each.__getitem__), len(each)))
            number += 1
        elif move == 2 and number:
            plan.cancel("study", choice % number)
        elif move == 3 and len(plan.tree):
            plan.execution.forget(list(plan.tree)[choice % len(plan.tree)])
        elif node is not None and move == 4:
            plan.execution.fail(node, 1.0, "boom")
        elif node is not None:
            plan.execution.complete(node, 1.0, 0.5)
        waiting = scheduler.waiting()
        for each in plan.tree:
            assert each.remaining == pytest.approx(longest(each, costs))
        ready = [node for node in plan.tree if node.is_ready]
        assert (waiting is None) == (not ready)
        evaluations = [node for node in ready if node.first.call.kind is Kind.EVALUATION]
        if evaluations:
            assert waiting in evaluations
        elif ready:
            assert waiting.remaining == max(node.remaining for node in ready)


@given(
    st.lists(rates, min_size=1, max_size=6),
    st.sampled_from([CRITICAL_PATH, FIFO, BREADTH_FIRST, DEPTH_FIRST]),
)
def test_one_worker_runs_everything_once(values, policy):
    plan = planned(*(train(Function(each.__getitem__), len(each)) for each in values))
    scheduler, ran, node = Scheduler(plan, policy), [], None
    while (node := scheduler.next(free(), node)) is not None:
        assert node.is_running
        assert node.parent.has_state
        plan.execution.complete(node, 1.0, 0.5)
        ran.append(node.key)
    assert len(ran) == len(set(ran)) == len(plan.tree)


# --- orders ---------------------------------------------------------------------------------


def test_the_longest_remaining_path_goes_first_and_is_run_to_its_end():
    plan = planned(train(0.1, 50), train(MultiStep(0.2, [40]), 90))
    assert followed(Scheduler(plan), 4) == [(0, 40), (40, 90), (90, 91), (0, 50)]


def test_first_in_first_out_runs_the_oldest_trial():
    plan = planned(train(0.1, 50), train(0.2, 90))
    assert followed(Scheduler(plan, FIFO)) == [(0, 50), (50, 51), (0, 90), (90, 91)]


def test_breadth_first_begins_everything_before_it_goes_on():
    plan = planned(train(MultiStep(0.1, [30])), train(0.2, 80))
    assert followed(Scheduler(plan, BREADTH_FIRST), 3) == [(0, 30), (0, 80), (30, 90)]


def test_depth_first_goes_on_where_it_is_deepest():
    plan = planned(train(MultiStep(0.1, [30])), train(MultiStep(0.1, [30], gamma=0.5)), train(0.2))
    spans = followed(Scheduler(plan, DEPTH_FIRST))
    assert spans.index((0, 90)) == len(spans) - 2


def test_a_worker_goes_on_unless_something_more_urgent_has_become_ready():
    for policy, expected in ((CRITICAL_PATH, (0, 90)), (FIFO, (30, 50))):
        plan = planned(train(MultiStep(0.1, [30]), 50))
        scheduler = Scheduler(plan, policy)
        first = scheduler.next(free())
        plan.request("study", 1, train(0.2))
        plan.execution.complete(first, 1.0)
        assert span(scheduler.next(free(), first)) == expected


def test_what_another_worker_runs_is_not_handed_out():
    plan = planned(train(0.1, 50))
    scheduler = Scheduler(plan)
    assert scheduler.next(free()) is not None
    assert scheduler.next(free()) is None
    assert scheduler.waiting() is None


# --- resources ------------------------------------------------------------------------------


def needs(call):
    return Resources(1.0, 1.0) if call.kind is Kind.TRAINING else Resources(4.0, 0.0)


def test_a_worker_takes_what_fits():
    plan = planned(Path().call("prep", "v", {}), train(0.1))
    scheduler = Scheduler(plan, resources=needs)
    assert scheduler.next(free(8.0, 0.0)).describe() == "prep"
    assert scheduler.next(free(8.0, 0.0)) is None
    assert scheduler.next(free(0.5, 1.0)) is None
    assert scheduler.next(free(1.0, 2.0)) is not None


def test_a_worker_does_not_go_on_to_what_needs_more_than_it_has():
    scheduler = Scheduler(planned(train(0.1)), resources=needs)
    first = scheduler.next(free(1.0, 8.0))
    scheduler.plan.execution.complete(first, 1.0)
    assert scheduler.next(free(1.0, 8.0), first) is None
    assert span(scheduler.next(free(4.0, 0.0))) == (90, 91)


def test_the_stages_of_the_workers_say_what_calls_take_unless_that_was_given():
    @stage(name="fit", version="1", num_cpus=3)
    def fit(data): ...

    for resources, expected in ((None, Resources(3.0, 0.0)), (needs, Resources(1.0, 1.0))):
        plan = planned(train(0.1))
        scheduler = Scheduler(plan, resources=resources)
        scheduler.declare([fit])
        assert scheduler.resources_of(scheduler.waiting()) == expected


def test_upper_parts_are_run_when_the_worker_of_a_split_node_dies():
    plan = planned(train(0.1))
    scheduler = Scheduler(plan)
    node = scheduler.next(free())
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    for upper, _ in plan.execution.take_splits():
        plan.execution.stop(upper)
    scheduler.follow()
    plan.cancel("study", 1)
    assert scheduler.next(free()) is None  # the lower part began further up
    plan.execution.stop(node)
    assert followed(scheduler) == [(0, 40), (40, 90), (90, 91)]


def test_stages_declare_what_they_take():
    @stage(version="1", num_gpus=2)
    def fit(data): ...

    resources = stage_resources([fit])
    assert resources(Call("fit", "v", {})) == Resources(1.0, 2.0)


# --- costs ----------------------------------------------------------------------------------


def test_estimates_come_from_the_prior_then_the_stage_then_the_call():
    plan = planned(train(0.1, 10), train(0.2, 10))
    one, two = (n for n in plan.tree if n.start == 0)
    costs = CostEstimates(lambda call: 3.0)
    assert costs(one) == costs(two) == 30.0
    costs.observe(one, 50.0)
    assert costs(one) == costs(two) == pytest.approx(50.0)
    costs.observe(two, 150.0)
    assert (costs(one), costs(two)) == (pytest.approx(50.0), pytest.approx(150.0))


def test_observations_tell_when_a_stage_is_much_dearer():
    (node,) = (n for n in planned(train(0.1, 10)).tree if n.start == 0)
    costs = CostEstimates()
    assert not costs.observe(node, 11.0)
    assert costs.observe(node, 21.0)
    assert not costs.observe(node, 16.0)


def test_priorities_follow_what_was_measured():
    prep = Path().call("prep", "v", {})
    plan = planned(train(0.1, 3), prep.call("score", "v", {}))
    scheduler = Scheduler(plan)
    plan.execution.complete(plan.tree[prep.key(1)], 9.0)
    scheduler.observe(plan.tree[prep.key(1)], 9.0)
    plan.request("study", 2, Path("other inputs").call("prep", "v", {}))
    assert scheduler.next(free()).describe() == "prep"


def test_cancelling_the_longest_path_lets_another_go_first():
    prep = Path().call("prep", "v", {})
    plan = planned(
        prep.train("fit", "v", {"lr": 0.1}, 5),
        prep.train("fit", "v", {"lr": 0.2}, 50),
        Path().train("other", "v", {}, 20),
    )
    scheduler = Scheduler(plan)
    assert scheduler.waiting().describe() == "prep"
    plan.cancel("study", 1)
    assert scheduler.waiting().describe() == "other [0, 20)"
    plan.cancel("study", 0)
    assert plan.tree[prep.key(1)].remaining == 6
    assert scheduler.waiting().describe() == "other [0, 20)"
    assert plan.tree[prep.key(1)].remaining == 0


def test_cancelling_a_shorter_path_changes_nothing_above():
    prep = Path().call("prep", "v", {})
    plan = planned(prep.train("fit", "v", {"lr": 0.1}, 5), prep.train("fit", "v", {"lr": 0.2}, 50))
    scheduler = Scheduler(plan)
    plan.cancel("study", 0)
    assert scheduler.waiting().remaining == 51


def test_a_stage_that_is_gone_takes_one_core():
    resources = stage_resources([])(Path().call("gone", "v", {}).stretches[0].call)
    assert resources == Resources(1.0, 0.0)
