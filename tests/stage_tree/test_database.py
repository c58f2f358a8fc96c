"""What survives the process of a plan."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from plans import check_counts, ready, run_all, spans, train

from eeipu import StageCache
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import MultiStep


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
    assert again.payments.paid_s == plan.payments.paid_s == {"study": 130}
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
