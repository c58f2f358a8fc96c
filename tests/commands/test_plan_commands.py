"""`eeipu plan show`, beside the process that runs the plan."""

import json
import subprocess
import sys

from plans import ready, run_all, stretch, train
from typer.testing import CliRunner

from eeipu.__main__ import app
from eeipu.errors import ConfigurationError
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.schedules import MultiStep


def shown(*arguments):
    return CliRunner().invoke(app, ["plan", "show", *map(str, arguments)], env={"COLUMNS": "150"})


def begun_plan(file):
    plan = SearchPlan(file)
    plan.request("one", 0, train(MultiStep(0.1, [30])))
    run_all(plan)
    plan.request("one", 1, train(MultiStep(0.1, [60])))
    plan.request("two", 0, stretch(10))
    plan.request("two", 1, train(0.5))
    failing = next(node for node in ready(plan) if node.start == 0 and node.stop == 90)
    plan.execution.start(failing)
    plan.execution.fail(failing, 2.0, "Traceback (most recent call last):\nValueError: boom")
    return plan


def test_a_plan_is_shown_while_it_is_open(tmp_path):
    plan = begun_plan(tmp_path / "plan.db")
    result = shown(tmp_path / "plan.db")
    assert result.exit_code == 0, result.output
    assert "2 studies" in result.output
    assert "merge rate" in result.output
    assert "fit [30, 90) lr=0.01" in result.output
    assert "ValueError: boom" in result.output
    assert "waiting" in result.output
    plan.request("two", 2, train(0.7))  # the file was left to its owner
    plan.close()
    assert shown(tmp_path / "plan.db").exit_code == 0
    SearchPlan(tmp_path / "plan.db").close()


def test_another_process_sees_what_is_there_now(tmp_path):
    plan = begun_plan(tmp_path / "plan.db")
    command = [sys.executable, "-m", "eeipu", "plan", "show", str(tmp_path / "plan.db"), "--json"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    described = [json.loads(line) for line in lines]
    one, two, *nodes = described
    assert (one["study"], one["trials"], one["open"], one["runs_s"]) == ("one", 1, 1, 90.0)
    assert (two["study"], two["failed"], two["losses_s"]) == ("two", 1, 2.0)
    assert len(nodes) == len(plan.tree)
    assert {node["status"] for node in nodes} >= {"done", "waiting", "failed"}
    keys = {node["key"] for node in nodes}
    assert all(node["above"] is None or node["above"] in keys for node in nodes)


def test_a_large_tree_is_cut(tmp_path):
    begun_plan(tmp_path / "plan.db").close()
    assert "... and" in shown(tmp_path / "plan.db", "--nodes", "1").output


def test_what_is_no_plan_is_told(tmp_path):
    result = shown(tmp_path / "none.db")
    assert isinstance(result.exception, ConfigurationError)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text").write_text("no database " * 100)
    assert "name the file of a plan" in str(shown(tmp_path / "text").exception)
