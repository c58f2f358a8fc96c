"""Schedulers: what is left below each node, and who goes first."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeipu import stage
from eeipu.stage_tree.scheduler import (
    BREADTH_FIRST,
    CRITICAL_PATH,
    DEPTH_FIRST,
    FIFO,
    Batch,
    CostEstimates,
    Resources,
    Scheduler,
    stage_resources,
)
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Call, Kind, Path
from eeipu.stages.schedules import Function, MultiStep

FREE = Resources(1.0, 1.0)


def train(lr, steps=90):
    return Path().train("fit", "v", {"lr": lr}, steps).evaluate("fit", "v")


def spans(batch):
    return [(node.start, node.stop) for node in batch.nodes]


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
    scheduler = Scheduler(
        plan, costs=CostEstimates(lambda call: 1.0 + 9.0 * call.params.get("lr", 0))
    )
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
            assert each.remaining == pytest.approx(longest(each, scheduler.costs))
        ready = [node for node in plan.tree if node.is_ready]
        assert (waiting is None) == (not ready)
        if ready:
            assert waiting.remaining == max(node.remaining for node in ready)


@given(
    st.lists(rates, min_size=1, max_size=6),
    st.sampled_from([CRITICAL_PATH, FIFO, BREADTH_FIRST, DEPTH_FIRST]),
)
def test_batches_are_paths_that_cover_everything_once(values, policy):
    plan = planned(*(train(Function(each.__getitem__), len(each)) for each in values))
    scheduler, ran = Scheduler(plan, policy), []
    while (batch := scheduler.next(FREE)) is not None:
        assert batch.nodes[0].parent.has_state
        assert all(b.parent is a for a, b in pairwise(batch.nodes))
        for node in batch.nodes:
            plan.execution.complete(node, 1.0, 0.5)
            ran.append(node.key)
    assert len(ran) == len(set(ran)) == len(plan.tree)


# --- orders ---------------------------------------------------------------------------------


def test_the_longest_remaining_path_goes_first_as_one_batch():
    plan = planned(train(0.1, 50), train(MultiStep(0.2, [40]), 90))
    batch = Scheduler(plan).next(FREE)
    assert spans(batch) == [(0, 40), (40, 90), (90, 91)]
    assert all(node.is_running for node in batch.nodes)


def test_first_in_first_out_runs_the_oldest_trial():
    plan = planned(train(0.1, 50), train(0.2, 90))
    scheduler = Scheduler(plan, FIFO)
    assert spans(scheduler.next(FREE)) == [(0, 50), (50, 51)]
    assert spans(scheduler.next(FREE)) == [(0, 90), (90, 91)]
    assert scheduler.next(FREE) is None


def test_breadth_first_takes_one_node_at_a_time_from_the_top():
    plan = planned(train(MultiStep(0.1, [30])), train(0.2, 80))
    scheduler = Scheduler(plan, BREADTH_FIRST)
    first = scheduler.next(FREE)
    assert len(first.nodes) == 1
    plan.execution.complete(first.nodes[0], 1.0)
    assert scheduler.next(FREE).nodes[0].start == 0


def test_depth_first_goes_on_where_it_is_deepest():
    plan = planned(train(MultiStep(0.1, [30])), train(MultiStep(0.1, [30], gamma=0.5)), train(0.2))
    scheduler = Scheduler(plan, DEPTH_FIRST)
    first = scheduler.next(FREE)
    for node in first.nodes:
        plan.execution.complete(node, 1.0, 0.5)
    assert scheduler.next(FREE).nodes[0].start in (30, 0)


def test_a_batch_may_be_overtaken_by_what_has_become_ready():
    plan = planned(train(0.1, 50))
    scheduler = Scheduler(plan)
    batch = scheduler.next(FREE)
    plan.request("study", 1, train(0.2))
    assert scheduler.waiting() is not None
    assert scheduler.is_behind(batch.nodes[1])
    assert not Scheduler(plan, FIFO).is_behind(batch.nodes[1])


def test_nothing_overtakes_where_nothing_waits():
    plan = planned(train(0.1, 50))
    scheduler = Scheduler(plan)
    batch = scheduler.next(FREE)
    assert scheduler.waiting() is None
    assert not scheduler.is_behind(batch.nodes[1])


# --- resources ------------------------------------------------------------------------------


def needs(call):
    return Resources(1.0, 1.0) if call.kind is Kind.TRAINING else Resources(4.0, 0.0)


def test_a_worker_takes_what_fits():
    plan = planned(Path().call("prep", "v", {}), train(0.1))
    scheduler = Scheduler(plan, resources=needs)
    batch = scheduler.next(Resources(8.0, 0.0))
    assert [node.describe() for node in batch.nodes] == ["prep"]
    assert scheduler.next(Resources(8.0, 0.0)) is None
    assert scheduler.next(Resources(0.5, 1.0)) is None
    assert scheduler.next(Resources(1.0, 2.0)) is not None


def test_a_batch_ends_where_more_is_needed_than_it_has():
    scheduler = Scheduler(planned(train(0.1)), resources=needs)
    batch = scheduler.next(Resources(8.0, 8.0))
    assert batch == Batch(batch.nodes, Resources(1.0, 1.0))
    assert spans(batch) == [(0, 90)]


def test_a_batch_ends_where_the_gpu_is_no_longer_needed():
    path = train(0.1).call("post", "v", {})
    gpus = {"fit": Resources(1.0, 1.0), "post": Resources(1.0, 0.0)}
    scheduler = Scheduler(planned(path), resources=lambda call: gpus[call.stage])
    first = scheduler.next(FREE)
    assert spans(first) == [(0, 90), (90, 91)]
    for node in first.nodes:
        scheduler.plan.execution.complete(node, 1.0)
    second = scheduler.next(FREE)
    assert (spans(second), second.resources) == ([(91, 92)], gpus["post"])


def test_upper_parts_are_run_when_the_worker_of_a_split_node_dies():
    plan = planned(train(0.1))
    scheduler = Scheduler(plan)
    batch = scheduler.next(FREE)
    plan.request("study", 1, train(MultiStep(0.1, [40])))
    for upper, _ in plan.execution.take_splits():
        plan.execution.stop(upper)
    scheduler.follow()
    plan.cancel("study", 1)
    assert scheduler.next(FREE) is None  # the lower part began further up
    for node in reversed(batch.nodes):
        plan.execution.stop(node)
    assert spans(scheduler.next(FREE)) == [(0, 40), (40, 90), (90, 91)]


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
    assert scheduler.next(FREE).nodes[0].describe() == "prep"


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
