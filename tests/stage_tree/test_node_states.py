"""Which states are there, and which are made again."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from plans import ready, run_all, spans, train

from eeipu import Pipeline, StageCache, stage
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import MultiStep


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
