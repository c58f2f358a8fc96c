"""Nodes whose outputs are not kept: whom one run serves, and who waits for the next."""

import pytest

from eeipu import StageCache
from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.scheduler import BREADTH_FIRST, CRITICAL_PATH, FIFO, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.resources import Resources

PREP = Path().call("prep", "v", {})


def child(lr):
    return PREP.train("fit", "v", {"lr": lr}, 9)


def ready(plan):
    return [node.describe() for node in plan.tree if node.is_ready]


def node_of(plan, path):
    return plan.tree[path.key(len(path))]


def run(plan, path, value=None, *, is_kept=False):
    node = node_of(plan, path)
    assert node.is_ready
    plan.execution.start(node)
    plan.execution.complete(node, 1.0, value, is_kept=is_kept)
    return node


def answers(plan):
    return [(a.request.trial, a.value, a.error) for a in plan.take_answers()]


@pytest.mark.parametrize("cache", [None, StageCache()])
def test_an_output_that_is_not_kept_answers_one_request(cache):
    plan = SearchPlan(cache=cache)
    for trial in range(2):
        plan.request("study", trial, PREP)
    run(plan, PREP, 0.5)
    assert answers(plan) == [(0, 0.5, None)]
    plan.request("study", 2, PREP)
    assert answers(plan) == []
    run(plan, PREP, 0.6)
    run(plan, PREP, 0.7)
    assert answers(plan) == [(1, 0.6, None), (2, 0.7, None)]
    assert ready(plan) == []
    assert plan.spent_s == 3.0


def test_the_same_request_is_answered_again_with_its_own_value(tmp_path):
    with SearchPlan(tmp_path / "plan.db") as plan:
        for trial, value in enumerate([0.5, {"acc": 0.6}, None]):
            plan.request("study", trial, PREP)
            run(plan, PREP, value)
        plan.request("study", 3, PREP)
    with SearchPlan(tmp_path / "plan.db") as plan:
        assert ready(plan) == ["prep"]
        for trial in range(4):
            plan.request("study", trial, PREP)
        assert answers(plan) == [(0, 0.5, None), (1, {"acc": 0.6}, None), (2, None, None)]
        assert [r.trial for r in plan.waiting] == [3]


def test_an_output_in_hand_serves_one_child():
    plan = SearchPlan()
    for trial in range(2):
        plan.request("study", trial, child(0.1 + trial))
    prep = run(plan, PREP)
    assert prep.is_in_hand
    assert len(ready(plan)) == 2
    plan.execution.start(node_of(plan, child(0.1)))
    plan.execution.forget(prep)
    assert ready(plan) == ["prep"]
    run(plan, PREP)
    plan.execution.start(node_of(plan, child(1.1)))
    plan.execution.forget(prep)
    assert ready(plan) == []
    for path in (child(0.1), child(1.1)):
        plan.execution.complete(node_of(plan, path), 1.0)
    assert [answer[0] for answer in answers(plan)] == [0, 1]
    assert all(node.needs == 0 for node in plan.tree)


def test_nothing_runs_again_for_a_child_that_runs():
    plan = SearchPlan()
    path = PREP.call("embed", "v", {}).call("score", "v", {})
    plan.request("study", 0, path)
    prep = run(plan, PREP)
    embed = node_of(plan, PREP.call("embed", "v", {}))
    plan.execution.start(embed)
    plan.execution.forget(prep)
    assert ready(plan) == []
    plan.execution.complete(embed, 1.0, is_kept=False)
    score = node_of(plan, path)
    plan.execution.start(score)
    plan.execution.forget(embed)
    assert ready(plan) == []
    plan.execution.stop(score)
    assert ready(plan) == ["prep"]  # from the beginning, as nothing was kept


def test_a_scheduler_hears_of_the_first_node_that_a_late_request_needs():
    plan = SearchPlan()
    embed = PREP.call("embed", "v", {})
    plan.request("study", 0, embed.call("score", "v", {"x": 0}))
    prep = run(plan, PREP)
    plan.execution.start(node_of(plan, embed))
    plan.execution.forget(prep)
    plan.execution.complete(node_of(plan, embed), 1.0, is_kept=False)
    plan.execution.start(plan.requests()[0].node)
    plan.execution.forget(node_of(plan, embed))
    plan.execution.take_changed()
    plan.request("study", 1, embed.call("score", "v", {"x": 1}))
    assert ready(plan) == ["prep"]
    assert prep in plan.execution.take_changed()


@pytest.mark.parametrize("policy", [FIFO, CRITICAL_PATH, BREADTH_FIRST])
def test_a_scheduler_runs_chains_that_are_not_kept_to_the_end(policy):
    plan = SearchPlan()
    scheduler = Scheduler(plan, policy)
    path = PREP.call("embed", "v", {}).call("score", "v", {})
    for trial in range(3):
        plan.request("study", trial, path)
        plan.request("study", 10 + trial, child(0.1 + trial))
    ran, node = [], None
    while node := scheduler.next(Resources().fit, node):
        if node.parent is not plan.tree.root:
            plan.execution.forget(node.parent)
        ran.append(node.describe().split()[0])
        plan.execution.complete(node, 1.0, 0.5, is_kept=node.is_training)
        scheduler.observe(node, 1.0)
    assert sorted(answer[0] for answer in answers(plan)) == [0, 1, 2, 10, 11, 12]
    assert [ran.count(name) for name in ("prep", "embed", "score", "fit")] == [6, 3, 3, 3]


def test_what_is_in_hand_is_not_stored_nor_claimed_to_be_in_the_cache(tmp_path):
    cache = StageCache(tmp_path / "cache")
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("study", 0, child(0.1))
        run(plan, PREP)
        plan.execution.trim(0)
        assert cache.holders.kept() == set()
        assert node_of(plan, PREP).is_in_hand
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        assert not node_of(plan, PREP).has_state
        assert ready(plan) == ["prep"]


def test_a_request_for_what_is_in_hand_waits_for_the_next_run():
    plan = SearchPlan(cache=StageCache())
    plan.request("study", 0, child(0.1))
    prep = run(plan, PREP)
    plan.request("study", 1, PREP)
    assert answers(plan) == []
    plan.execution.start(node_of(plan, child(0.1)))
    plan.execution.forget(prep)
    assert ready(plan) == ["prep"]
    run(plan, PREP, 0.5)
    assert answers(plan) == [(1, 0.5, None)]
    assert not prep.has_state


def test_one_run_serves_a_request_and_a_child():
    plan = SearchPlan()
    plan.request("study", 0, child(0.1))
    plan.request("study", 1, PREP)
    plan.request("study", 2, PREP)
    prep = run(plan, PREP, 0.5)
    assert answers(plan) == [(1, 0.5, None)]
    plan.execution.start(node_of(plan, child(0.1)))
    assert ready(plan) == []
    plan.execution.forget(prep)
    assert ready(plan) == ["prep"]


def test_what_is_in_hand_and_nobody_takes_is_gone():
    plan = SearchPlan()
    plan.request("study", 0, child(0.1))
    plan.request("study", 1, PREP)
    plan.request("study", 2, PREP)
    prep = run(plan, PREP, 0.5)
    plan.cancel("study", 0)
    assert not prep.has_state
    assert ready(plan) == ["prep"]
    assert plan.requests()[2].state is RequestState.OPEN


def test_what_is_in_hand_is_gone_when_workers_are():
    plan = SearchPlan()
    plan.request("study", 0, child(0.1))
    prep = run(plan, PREP)
    plan.execution.stop_all()
    assert not prep.has_state
    assert ready(plan) == ["prep"]


def test_those_who_waited_for_what_is_in_hand_fail_with_what_it_needs():
    plan = SearchPlan()
    for trial in range(2):
        plan.request("study", trial, PREP.call("embed", "v", {}).call("score", "v", {"x": trial}))
    prep = run(plan, PREP)
    embed = node_of(plan, PREP.call("embed", "v", {}))
    plan.execution.start(embed)
    plan.execution.forget(prep)
    plan.execution.complete(embed, 1.0, is_kept=False)
    score = plan.requests()[0].node
    plan.execution.start(score)
    plan.execution.fail(prep, 1.0, "boom")
    plan.execution.forget(embed)
    assert answers(plan) == [(1, None, "boom")]
    plan.execution.complete(score, 1.0, 0.5)
    assert answers(plan) == [(0, 0.5, None)]
