"""Who pays for what, and what studies get for free."""

from plans import ready, run_all, stretch, train

from eeipu import StageCache
from eeipu.stage_tree.accounts import account
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.schedules import MultiStep


def test_accounts_say_who_paid_and_what_was_free():
    plan = SearchPlan()
    plan.request("early", 0, train(MultiStep(0.1, [30])))
    plan.request("early", 1, train(MultiStep(0.1, [60])))
    run_all(plan)
    plan.request("late", 0, train(MultiStep(0.1, [60]), 80))
    plan.request("late", 1, train(0.5, 10))
    run_all(plan)
    early, late = account(plan, "early"), account(plan, "late")
    assert (early.trials, early.separately, early.paid, early.from_others) == (2, 180, 150, 0)
    assert early.free == 30
    # The late study had a stretch of 20 steps run again, whose end nobody had kept.
    assert (late.trials, late.separately, late.paid, late.from_others) == (2, 90, 30, 80)
    assert plan.studies == ["early", "late"]
    assert plan.spent_s == early.paid + late.paid


def test_an_account_counts_answered_trials_only():
    plan = SearchPlan()
    plan.request("study", 0, train(0.1))
    plan.request("study", 1, train(0.2))
    plan.execution.fail(ready(plan)[0], 1.0, "boom")
    mine = account(plan, "study")
    assert (mine.trials, mine.separately, mine.paid, mine.free) == (0, 0, 1, -1)


def test_what_a_killed_process_left_is_paid_by_whom_it_was_run_for(tmp_path):
    cache = StageCache(tmp_path / "cache")
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("study", 0, train(0.1))
        (node,) = ready(plan)
        plan.execution.start(node)
    cache.put(node.key, "state", cost=7.0)  # its worker went on
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        plan.request("other", 0, train(0.1))
        assert plan.tree[node.key].payer == "study"
        assert plan.payments.paid_s == {"study": 7.0}
    with SearchPlan(tmp_path / "plan.db", cache) as plan:
        assert plan.payments.paid_s == {"study": 7.0}  # once


def test_whoever_waits_when_a_node_begins_anew_pays():
    plan = SearchPlan()
    plan.request("one", 0, train(0.1))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.cancel("one", 0)
    plan.execution.stop(node)
    plan.request("two", 0, train(0.1))
    plan.execution.start(node)
    plan.execution.complete(node, 5.0)
    assert (node.payer, plan.payments.paid_s) == ("two", {"two": 5.0})


def test_what_a_study_took_over_while_it_ran_is_paid_and_not_from_others():
    plan = SearchPlan()
    for study in ("one", "two"):
        plan.request(study, 0, stretch(10))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.cancel("one", 0)
    plan.execution.complete(node, 5.0)
    mine = account(plan, "two")
    assert (mine.separately, mine.paid, mine.from_others) == (5.0, 5.0, 0.0)


def test_an_account_adds_up_and_tells_apart_what_was_paid_for(tmp_path):
    with SearchPlan(tmp_path / "plan.db") as plan:
        plan.request("study", 0, train(0.1, 10))
        node = ready(plan)[0]
        plan.execution.start(node)
        plan.execution.lose(node, 3.0)  # its worker was killed
        plan.execution.start(node)
        plan.execution.complete(node, 10.0, transfer_s=0.5, lost_s=2.0)  # at the second attempt
        plan.execution.forget(node)  # somebody has flipped its checkpoint
        plan.execution.start(node)
        plan.execution.complete(node, 12.0)
        (end,) = ready(plan)
        plan.execution.start(end)
        plan.execution.fail(end, 1.0, "boom")
    with SearchPlan(tmp_path / "plan.db") as plan:
        mine = account(plan, "study")
        assert (mine.runs, mine.repeats, mine.transfers, mine.losses) == (10.0, 12.0, 0.5, 6.0)
        assert mine.paid == plan.spent_s == 28.5
        assert mine.runs == sum(each.cost_s or 0.0 for each in plan.tree)


def test_nobody_pays_the_cost_of_what_somebody_else_had_made():
    plan = SearchPlan()
    plan.request("study", 0, stretch(10))
    (node,) = ready(plan)
    plan.execution.start(node)
    plan.execution.complete(node, 7.0, was_reused=True, transfer_s=0.25)
    mine = account(plan, "study")
    assert (mine.paid, mine.transfers, node.cost_s) == (0.25, 0.25, 7.0)
