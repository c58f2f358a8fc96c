"""What a plan protects from others on its cache, and for how long."""

import pytest

from eeipu import Categorical, Pipeline, StageCache, Tuner, stage
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stage_tree.states.state_pins import PAUSE, StatePins
from eeipu.stages.paths import Path


def train(lr, steps=9):
    return Path().train("fit", "v", {"lr": lr}, steps).evaluate("fit", "v")


def run_all(plan):
    while node := next((node for node in plan.tree if node.is_ready), None):
        plan.execution.start(node)
        plan.cache.put(node.key, bytes(1000))
        plan.execution.complete(node, 1.0, None if node.is_training else 0.5)
    plan.execution.stop_all()


def test_what_somebody_refers_to_is_not_dropped_by_others(tmp_path):
    cache, path = StageCache(tmp_path / "cache"), train(0.1)
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("study", 0, path)
        run_all(plan)
        others = StageCache(tmp_path / "cache")
        others.retain([])
        others.gc(max_bytes=1)
        assert list(cache) == [path.key(9)]  # the checkpoint that the trial may go on from
        assert path.key(9) not in plan.execution.trim(0)
        plan.release("study", 0)
        assert plan.execution.trim(0) == [path.key(9)]
        assert list(cache) == []


def test_pins_of_a_plan_in_a_file_outlive_it(tmp_path):
    cache, path = StageCache(tmp_path / "cache"), train(0.1)
    for _ in range(2):  # opened again, it has the same name
        with SearchPlan(tmp_path / "plan.db", cache) as plan:
            plan.request("study", 0, path)
            run_all(plan)
        cache.retain([])
        assert list(cache) == [path.key(9)]
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.release("study", 0)
    cache.retain([])
    assert list(cache) == []


def test_pins_of_a_plan_in_memory_end_with_it():
    cache, path = StageCache(), train(0.1)
    with SearchPlan(cache=cache) as plan:
        plan.request("study", 0, path)
        run_all(plan)
        cache.retain([])
        assert list(cache) == [path.key(9)]
    cache.retain([])
    assert list(cache) == []


def test_a_state_that_a_child_needs_is_pinned_and_then_it_is_not():
    cache = StageCache()
    path = Path().call("prep", "v", {}).train("fit", "v", {"lr": 0.1}, 9)
    plan = SearchPlan(cache=cache)
    plan.request("study", 0, path)
    (prep,) = [node for node in plan.tree if node.is_ready]
    cache.put(prep.key, "output")
    plan.execution.complete(prep, 1.0)
    plan.execution.trim()
    cache.retain([])
    assert list(cache) == [prep.key]
    run_all(plan)
    cache.retain([])
    assert list(cache) == [path.key(10)]


def prep_path(dims):
    return Path(inputs_key(())).call("prep", "version 1", {"dims": dims})


def test_two_plans_do_not_drop_each_others_states(tmp_path):
    cache, path = StageCache(tmp_path / "cache"), prep_path(1).call("score", "v", {})
    plans = [SearchPlan(tmp_path / name, cache) for name in ("a.db", "b.db")]
    for plan in plans:
        plan.request("study", 0, path)
        run_all(plan)
    first, second = plans
    first.release("study", 0)
    assert path.key(1) not in first.execution.trim(0)  # the second plan's trial holds it
    assert path.key(1) in cache
    assert first.tree[path.key(1)].has_state
    second.release("study", 0)
    assert path.key(1) in second.execution.trim(0)
    for plan in plans:
        plan.close()


def test_a_plan_and_a_tuner_do_not_drop_each_others_outputs():
    @stage(space={"dims": Categorical([1, 2])}, version="1")
    def prep(*, dims):
        return dims

    @stage(memoize=False)
    def score(dims):
        return float(dims)

    cache = StageCache()
    plan = SearchPlan(cache=cache)
    for dims in (1, 2):
        plan.request("study", dims, prep_path(dims).call("other", "v", {}))
    while node := next((node for node in plan.tree if node.is_ready), None):
        plan.execution.start(node)
        cache.put(node.key, node.stretches[0].call.params.get("dims", 0.5))
        plan.execution.complete(node, 1.0, 0.5)
    plan.execution.trim()
    plan.release("study", 2)
    pipeline = Pipeline([prep, score])
    tuner = Tuner(pipeline, budget=60, cache=cache, method="random-grid", top_q=1, seed=0)
    study = tuner.run(max_trials=2, progress=False)
    assert all(trial.user_attrs["memoized"][0] for trial in study.trials)
    assert prep_path(1).key(1) in cache  # which is not the tuner's best, but held by a trial
    plan.execution.trim(0)
    assert prep_path(2).key(1) in cache  # the tuner's best


def test_pins_leave_room_for_the_next_state():
    cache = StageCache(max_bytes=10_000)
    plan = SearchPlan(cache=cache)
    for trial in range(20):
        plan.request("study", trial, train(0.1 + trial))
        run_all(plan)  # a state that does not fit would be a warning, and so an error
    pinned = cache.holders.kept()
    assert sum(size for key, size in cache.place.store.sizes().items() if key in pinned) <= 5_000
    assert train(0.1 + 19).key(9) in pinned  # the newest first


class Slow:
    """A clock that advances by a second with every look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_writing_takes_a_hundredth_of_the_time():
    clock = Slow()
    pins = StatePins(StageCache(), "plan", lasting=False, clock=clock)
    assert pins.is_due
    pins.write(["key"])
    ended = clock.now
    looks = 0
    while not pins.is_due:
        looks += 1
    assert clock.now - ended == pytest.approx(PAUSE, abs=1)
    assert looks == pytest.approx(PAUSE, abs=1)


def test_pins_that_cannot_be_written_are_told(monkeypatch):
    cache = StageCache()

    def fail(*_, **__):
        raise PermissionError("no")

    monkeypatch.setattr(cache.holders, "pin", fail)
    with SearchPlan(cache=cache) as plan:
        plan.request("study", 0, train(0.1))
        with pytest.warns(RuntimeWarning, match="others may drop checkpoints .*PermissionError"):
            run_all(plan)
        plan.release("study", 0)
