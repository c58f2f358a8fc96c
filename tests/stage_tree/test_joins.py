"""Nodes that join outputs: a plan on a graph of stages keeps its counts, times and answers."""

from itertools import pairwise

import numpy as np
import pytest

from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stage_tree.tree import StageTree
from eeipu.stages.paths import Path, steps_in_all
from eeipu.stages.schedules import MultiStep
from eeipu.stages.stored_paths import path_from_json, path_to_json


def diamond(prep=1, rate=0.1, steps=6, side=1, drop=None):
    start = Path("data").call("prep", "v1", {"dims": prep})
    lr = rate if drop is None else MultiStep(rate, [drop])
    fit = start.train("fit", "v1", {"lr": lr}, steps).evaluate("fit", "v1")
    left = start.call("side", "v1", {"a": side})
    return Path.joining([fit, None, left], "data").call("score", "v1", {})


def test_a_path_that_joins_others_has_their_keys_and_steps():
    path = diamond()
    assert [len(part) for part in path.parts()] == [8, 2, 1]
    assert steps_in_all(path, len(path)) == 1 + 6 + 1 + 1
    others = [diamond(prep=2), diamond(rate=0.2), diamond(steps=3), diamond(side=2)]
    assert len({p.key(len(p)) for p in [path, *others]}) == 5
    read = path_from_json(path_to_json(path))
    assert read.key(1) == path.key(1)
    assert path_to_json(read) == path_to_json(path)


def test_a_tree_does_not_depend_on_the_order_of_its_paths():
    paths = [diamond(), diamond(drop=2), diamond(steps=3), diamond(side=2), diamond(prep=2)]
    tree = StageTree.build(paths)
    assert tree == StageTree.build(paths[::-1])
    keys = [node.key for node in tree]
    for node in tree:
        assert all(
            keys.index(each.key) < keys.index(node.key) for each in node.above if each.parent
        )
        assert all(node in each.joins for each in node.above if node.sources)
    assert tree.requested_steps == sum(steps_in_all(path, len(path)) for path in paths)
    # prep, fit 3 shared, split at 2, two sides; fit 4 after the drop; all of the other prep.
    assert tree.distinct_steps == 1 + 6 + 4 + 2 + 4 + (1 + 6 + 1 + 1)


def test_the_critical_path_goes_through_the_dearest_of_what_is_joined():
    tree = StageTree.build([diamond(steps=6), diamond(steps=9, side=3)])
    found = tree.critical_path()
    assert [node.describe().split()[0] for node in found.nodes] == [
        "prep",
        "fit",
        "fit",
        "fit",
        "score",
    ]
    assert found.cost == 1 + 9 + 1
    assert all(one in two.above for one, two in pairwise(found.nodes))


def test_an_answer_comes_once_however_many_ways_lead_to_it():
    plan = SearchPlan()
    scheduler = Scheduler(plan)
    plan.request("study", 0, diamond())
    (node,) = [scheduler.next(lambda _: True)]
    plan.execution.fail(node, 1.0, "broken")
    (answer,) = plan.take_answers()
    assert answer.error == "broken"
    assert not plan.waiting


def run(node, plan, scheduler, rng):
    if rng.random() < 0.1:
        plan.execution.fail(node, 1.0, "broken")
    elif rng.random() < 0.1:
        plan.execution.stop(node)
    else:
        cost_s = float(node.stop - node.start)  # as was estimated
        plan.execution.complete(node, cost_s, value=1.0)
        scheduler.observe(node, cost_s)


def some_path(rng):
    drop = int(rng.integers(1, 5)) if rng.random() < 0.5 else None
    steps, side, prep = (int(rng.integers(1, n)) for n in (9, 3, 3))
    return diamond(prep, 0.1, steps, side, drop)


def lose(plan, rng):
    there = [node for node in plan.tree if node.has_state]
    if there:
        plan.execution.forget(there[int(rng.integers(len(there)))])


def take(scheduler):
    node = scheduler.next(lambda _: True)
    if node is None:
        return []
    assert all(each.has_state for each in node.above)
    return [node]


def stop_splits(plan, running):
    for upper, lower in plan.execution.take_splits():
        assert lower in running
        plan.execution.stop(upper)


def check(plan, scheduler):
    """The counts that are kept from change to change are those that a look at all gives."""
    scheduler.follow()
    kept = {}
    for node in plan.tree:
        below = sum(child.must_run for child in node.below)
        assert node.needs == len(node.requests) + below, node
        kept[node] = node.remaining
    scheduler.refresh()
    for node in plan.tree:
        assert kept[node] == pytest.approx(node.remaining), node


@pytest.mark.parametrize("seed", range(20))
def test_counts_and_times_follow_whatever_happens(seed):
    rng = np.random.default_rng(seed)
    plan = SearchPlan()
    scheduler = Scheduler(plan)
    running, last = [], 0
    for _ in range(120):
        match rng.integers(6):
            case 0 | 1:
                last += 1
                plan.request("study", last, some_path(rng))
            case 2 if last:
                plan.cancel("study", int(rng.integers(1, last + 1)))
            case 3 if running:
                run(running.pop(int(rng.integers(len(running)))), plan, scheduler, rng)
            case 4:
                lose(plan, rng)
            case 5:
                running += take(scheduler)
        stop_splits(plan, running)
        check(plan, scheduler)
    while running or (node := scheduler.next(lambda _: True)) is not None:
        plan.execution.complete(running.pop() if running else node, 1.0, value=1.0)
    assert not plan.waiting
    assert all(r.state is not RequestState.OPEN for r in plan.requests())
