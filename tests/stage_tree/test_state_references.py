"""Which states somebody refers to, and which are dropped first."""

import pytest
from plans import ready, run_all, train

from eeipu import StageCache
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import MultiStep


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


def test_no_more_is_dropped_than_has_to_be():
    cache = StageCache()
    plan = SearchPlan(cache=cache)
    keys = []
    for trial in range(3):
        path = Path().train("fit", "v", {"lr": float(trial)}, 9)
        plan.request("study", trial, path)
        run_all(plan)
        plan.release("study", trial)
        keys.append(path.key(9))
    sizes = cache.place.store.sizes()
    assert plan.execution.trim(sizes[keys[1]] + sizes[keys[2]]) == keys[:1]
    assert sorted(cache) == sorted(keys[1:])


def test_a_trial_holds_its_checkpoint_where_another_stage_follows_the_training():
    path = Path().train("fit", "v", {"lr": 0.1}, 9).evaluate("fit", "v").call("score", "v", {})
    plan = SearchPlan(cache=StageCache())
    plan.request("study", 0, path)
    run_all(plan)
    held = [node for node in plan.tree if node.holds]
    assert [node.describe().partition(" ")[0] for node in held] == ["fit"]
    assert held[0].is_training
