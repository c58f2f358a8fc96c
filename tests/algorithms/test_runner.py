"""Studies on a plan: what algorithms are told, and what comes back."""

import math
import threading
from contextlib import suppress

import pytest

from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.halving import SuccessiveHalving
from eeipu.algorithms.moves import Ask, Stop
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.executors.pool import Ended
from eeipu.stage_tree.accounts import account
from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.scheduler import FIFO, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.running.tasks import TaskResult
from eeipu.stages.runs import StageRun
from eeipu.stages.schedules import MultiStep


def path_of(config, step):
    return Path().train("fit", "v", config, step).evaluate("fit", "v")


class Noting(FullTraining):
    """Full training that notes what it is told."""

    def __init__(self, configs, steps):
        super().__init__(configs, steps)
        self.told = []

    def tell(self, trial, step, value):
        self.told.append((trial, step, value))
        return super().tell(trial, step, value)


def cluster(value, workers=2):
    return simulated_workers(workers, lambda node: float(node.steps), value)


def lr_of(node):
    return node.path.stretches[0].call.params["lr"]


def run(algorithm, value, plan=None, name="study", **options):
    study = StudyRun(name, algorithm, path_of, **options)
    run_studies([study], Scheduler(SearchPlan() if plan is None else plan), cluster(value))
    return study


def test_values_are_maximised_inside_and_come_back_as_they_are():
    algorithm = Noting([{"lr": 0.1}, {"lr": 0.3}], 9)
    study = run(algorithm, lr_of, minimize=True)
    assert sorted(algorithm.told) == [(0, 9, -0.1), (1, 9, -0.3)]
    assert study.values == {(0, 9): 0.1, (1, 9): 0.3}
    assert study.best == (0, 9)
    assert run(Noting([{"lr": 0.1}, {"lr": 0.3}], 9), lr_of).best == (1, 9)


def test_one_of_several_metrics_is_the_objective():
    study = run(Noting([{"lr": 0.1}], 9), lambda n: {"f1": 0.7, "loss": 3.0}, objective="f1")
    assert study.values == {(0, 9): 0.7}


@pytest.mark.parametrize("value", [{"loss": 3.0}, None, "good", {"f1": math.nan}])
def test_what_is_no_objective_is_a_failure_of_the_trial(value):
    algorithm = Noting([{"lr": 0.1}], 9)
    study = run(algorithm, lambda node: value, objective="f1")
    assert algorithm.told == [(0, 9, None)]
    assert "is no objective" in study.errors[0, 9]
    with pytest.raises(
        ConfigurationError, match=r"has no value yet; its first failure was: .* is no objective"
    ):
        _ = study.best


def test_the_same_study_again_is_answered_from_the_plan(tmp_path):
    plan = SearchPlan(tmp_path / "plan.db")
    first = run(Noting([{"lr": 0.1}], 9), lr_of, plan)
    plan.close()
    plan = SearchPlan(tmp_path / "plan.db")
    again = run(Noting([{"lr": 0.1}, {"lr": 0.2}], 9), lr_of, plan)
    assert first.values.items() <= again.values.items()
    assert len(again.values) == 2
    assert plan.spent_s == 18


def test_what_another_process_asked_for_is_run_and_kept_for_it():
    plan = SearchPlan()
    plan.request("gone", 7, path_of({"lr": 0.5}, 9))
    run(Noting([{"lr": 0.1}], 9), lr_of, plan)
    assert account(plan, "gone").trials == 1
    back = run(Noting([{"lr": 0.5}], 9), lr_of, plan, name="gone")
    assert back.values == {(0, 9): 0.5}
    assert plan.spent_s == 18


def test_an_answer_to_an_earlier_process_is_not_told_to_this_one():
    plan = SearchPlan()
    plan.request("study", 7, path_of({"lr": 0.5}, 9))
    algorithm = Noting([{"lr": 0.1}], 9)
    run(algorithm, lr_of, plan)
    assert [trial for trial, _, _ in algorithm.told] == [0]


def test_studies_share_what_they_have_in_common_and_get_their_own_results():
    plan = SearchPlan()
    studies = [
        StudyRun("one", Noting([{"lr": 0.1}, {"lr": 0.2}], 9), path_of),
        StudyRun("two", Noting([{"lr": 0.2}, {"lr": 0.3}], 9), path_of, minimize=True),
    ]
    run_studies(studies, Scheduler(plan), cluster(lr_of))
    assert studies[0].values == {(0, 9): 0.1, (1, 9): 0.2}
    assert studies[1].values == {(0, 9): 0.2, (1, 9): 0.3}
    assert plan.spent_s == 27
    one, two = (account(plan, name) for name in ("one", "two"))
    assert (one.paid, two.paid, two.from_others) == (18, 9, 9)
    assert all(study.ended_s > 0 for study in studies)


def test_studies_need_names_of_their_own():
    studies = [StudyRun("one", Noting([], 9), path_of) for _ in range(2)]
    with pytest.raises(ConfigurationError, match="two studies have one name"):
        run_studies(studies, Scheduler(SearchPlan()), cluster(lr_of))


class Unreliable:
    """A pool whose first ends of evaluations are others, made by a function of the event."""

    def __init__(self, inner, ended, left=1):
        self.inner, self.ended, self.left = inner, ended, left

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def wait(self):
        events = self.inner.wait()
        if self.left and events and not events[0].task.call.is_training:
            self.left -= 1
            return [self.ended(events[0].task)]
        return events


def failed(task):
    run = StageRun(task.call.name, task.call.key, cost=1.0, charged=1.0, error="boom")
    return Ended(task, TaskResult(run), elapsed_s=1.0)


def missing(task):
    return Ended(task, TaskResult(None))


def died(task):
    return Ended(task, error=OSError("killed"), is_death=True, elapsed_s=1.0)


def unsure(task):
    return Ended(task, elapsed_s=1.0)


def broken(task):
    return Ended(task, error=ZeroDivisionError("in the machinery"), elapsed_s=1.0)


def test_a_stage_that_fails_is_told_as_a_failure():
    algorithm = Noting([{"lr": 0.1}], 9)
    study = StudyRun("study", algorithm, path_of)
    unreliable = Unreliable(cluster(lr_of), failed)
    run_studies([study], Scheduler(SearchPlan()), unreliable)
    assert algorithm.told == [(0, 9, None)]
    assert study.errors == {(0, 9): "boom"}


def test_a_state_that_is_missing_is_made_again():
    plan = SearchPlan()
    study = StudyRun("study", Noting([{"lr": 0.1}], 9), path_of)
    unreliable = Unreliable(cluster(lr_of), missing)
    run_studies([study], Scheduler(plan), unreliable)
    assert study.values == {(0, 9): 0.1}
    assert plan.spent_s == 18


def test_a_state_that_is_missing_for_ever_is_a_failure():
    study = StudyRun("study", Noting([{"lr": 0.1}], 9), path_of)
    unreliable = Unreliable(cluster(lr_of), missing, 99)
    run_studies([study], Scheduler(SearchPlan()), unreliable)
    assert "was not in the cache 3 times" in study.errors[0, 9]


def test_missing_inputs_are_only_tried_again():
    plan = SearchPlan()
    study = StudyRun("study", Noting([{"lr": 0.1}], 1), lambda c, step: Path().call("s", "v", c))
    run_studies([study], Scheduler(plan), Unreliable(cluster(lr_of), missing))
    assert study.values == {(0, 1): 0.1}


@pytest.mark.parametrize("other", [Path("other inputs"), Path()])
def test_what_was_asked_of_other_inputs_or_code_stays_open(other, tmp_path):
    old = other.train("fit", "v" if other.upstream else "old", {"lr": 0.1}, 9)
    plan = SearchPlan(tmp_path / "plan.db")
    plan.request("gone", 0, old)
    plan.close()
    plan = SearchPlan(tmp_path / "plan.db")
    with pytest.warns(RuntimeWarning, match="1 open requests of earlier runs are on other inputs"):
        study = run(Noting([{"lr": 0.1}], 9), lr_of, plan)
    assert study.values == {(0, 9): 0.1}
    assert plan.spent_s == 9
    (request,) = plan.requests("gone")
    assert request.state is RequestState.OPEN
    plan.request("new", 0, old)  # its code is back
    assert [node.key for node in plan.tree if node.is_ready] == [old.key(9)]


def test_what_stays_open_can_be_cancelled(tmp_path):
    plan = SearchPlan(tmp_path / "plan.db")
    plan.request("gone", 0, Path("other").train("fit", "v", {"lr": 0.1}, 9))
    plan.close()
    plan = SearchPlan(tmp_path / "plan.db")
    with pytest.warns(RuntimeWarning):
        run(Noting([{"lr": 0.1}], 9), lr_of, plan)
    plan.cancel("gone", 0)
    assert plan.suspend() == []
    assert all(node.needs == 0 for node in plan.tree)


def test_an_invalid_configuration_is_a_failure_of_its_trial():
    def milestones(config, step):
        return path_of({"lr": MultiStep(0.1, config["milestones"])}, step)

    algorithm = Noting([{"milestones": each} for each in ([2, 4], [6, 4], [6, 8])], 9)
    study = StudyRun("study", algorithm, milestones)
    run_studies([study], Scheduler(SearchPlan()), cluster(lambda node: 0.5))
    assert study.values.keys() == {(0, 9), (2, 9)}
    assert "must ascend" in study.errors[1, 9]
    assert (1, 9, None) in algorithm.told


def interrupted():
    raise KeyboardInterrupt


def test_an_interrupted_plan_can_be_run_again():
    plan = SearchPlan()
    study = StudyRun("study", Noting([{"lr": 0.1}], 9), path_of)
    pool = Unreliable(cluster(lr_of), lambda task: interrupted())
    with pytest.raises(KeyboardInterrupt):
        run_studies([study], Scheduler(plan), pool)
    assert not any(node.is_running for node in plan.tree)
    assert run(Noting([{"lr": 0.1}], 9), lr_of, plan).values == {(0, 9): 0.1}


def test_an_interrupt_waits_for_what_runs_so_that_the_same_pool_can_go_on(monkeypatch):
    pool, plan = cluster(lr_of), SearchPlan()
    waits = iter([interrupted])
    wait = pool.wait
    monkeypatch.setattr(pool, "wait", lambda: next(waits, wait)())
    for _ in range(2):
        study = StudyRun("study", Noting([{"lr": 0.1}, {"lr": 0.2}], 9), path_of)
        with suppress(KeyboardInterrupt):
            run_studies([study], Scheduler(plan), pool)
    assert study.values == {(0, 9): 0.1, (1, 9): 0.2}
    assert plan.spent_s == 2 * 9


def test_a_second_interrupt_does_not_wait_for_what_runs(monkeypatch):
    pool, plan, asked = cluster(lr_of), SearchPlan(), threading.Event()

    def interrupt_twice():
        monkeypatch.undo()
        asked.set()  # as the first one does
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "wait", interrupt_twice)
    study = StudyRun("study", Noting([{"lr": 0.1}], 9), path_of)
    with pytest.raises(KeyboardInterrupt):
        run_studies([study], Scheduler(plan), pool, interrupted=asked)
    assert plan.spent_s == 0.0
    assert not any(node.is_running for node in plan.tree)


def test_after_a_second_interrupt_what_still_runs_is_nobodys(monkeypatch):
    pool, plan = cluster(lr_of), SearchPlan()
    waits = iter([interrupted, interrupted])
    wait = pool.wait
    monkeypatch.setattr(pool, "wait", lambda: next(waits, wait)())
    for _ in range(2):
        study = StudyRun("study", Noting([{"lr": 0.1}, {"lr": 0.2}], 9), path_of)
        with suppress(KeyboardInterrupt):
            run_studies([study], Scheduler(plan), pool)
    assert study.values == {(0, 9): 0.1, (1, 9): 0.2}
    assert plan.spent_s == 2 * 9  # nothing that the first run began was reported


def test_requests_that_nobody_answers_are_no_good_end(monkeypatch):
    pool = cluster(lr_of)
    monkeypatch.setattr(pool, "wait", list)  # its workers never report
    study = StudyRun("study", Noting([{"lr": 0.1}], 9), path_of)
    with pytest.raises(PipelineError, match="1 request is open"):
        run_studies([study], Scheduler(SearchPlan()), pool)


def test_a_plan_is_closed_as_a_context(tmp_path):
    refused = pytest.raises(ConfigurationError, match="close it if it is in this process")
    with SearchPlan(tmp_path / "plan.db"), refused:
        SearchPlan(tmp_path / "plan.db")
    SearchPlan(tmp_path / "plan.db").close()


def failing(plan, ended=failed, left=1):
    study = StudyRun("study", Noting([{"lr": 0.1}], 9), path_of)
    run_studies([study], Scheduler(plan), Unreliable(cluster(lr_of), ended, left))
    return study


def test_a_failure_is_kept_until_it_is_to_be_tried_again():
    plan = SearchPlan()
    assert failing(plan).errors
    assert run(Noting([{"lr": 0.1}], 9), lr_of, plan).errors == {(0, 9): "boom"}
    plan.retry("other")
    assert run(Noting([{"lr": 0.1}], 9), lr_of, plan).errors
    plan.retry("study")
    assert run(Noting([{"lr": 0.1}], 9), lr_of, plan).values == {(0, 9): 0.1}
    assert all(node.needs == 0 for node in plan.tree)


def test_dead_workers_are_forgotten_when_a_plan_is_opened_anew(tmp_path):
    with SearchPlan(tmp_path / "plan.db") as plan:
        assert "ended its worker (killed) 3 times" in failing(plan, died, 3).errors[0, 9]
    with SearchPlan(tmp_path / "plan.db") as plan:
        assert run(Noting([{"lr": 0.1}], 9), lr_of, plan).values == {(0, 9): 0.1}


def test_a_trial_that_is_stopped_is_not_run_on():
    class Impatient(Noting):
        def start(self):
            return [Ask(0, {"lr": 0.1}, 100), Ask(1, {"lr": 0.2}, 1), Ask(2, {"lr": 0.3}, 200)]

        def tell(self, trial, step, value):
            super().tell(trial, step, value)
            return [Stop(trial), Stop(2)]

    plan, clock = SearchPlan(), cluster(lr_of)
    algorithm = Impatient([], 9)
    run_studies([StudyRun("study", algorithm, path_of)], Scheduler(plan, FIFO), clock)
    assert algorithm.told == [(1, 1, 0.2), (0, 100, 0.1)]
    assert plan.requests()[2].state is RequestState.CANCELLED
    assert clock.now() == 100


def test_a_node_of_which_nobody_knows_whether_it_killed_its_worker_runs_again():
    plan = SearchPlan()
    assert failing(plan, unsure, 9).values == {(0, 9): 0.1}
    assert all(node.losses == 0 for node in plan.tree)


def test_an_error_of_the_machinery_is_a_failure_of_its_trial():
    assert "in the machinery" in failing(SearchPlan(), broken).errors[0, 9]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_is_a_failure(value):
    values = {0.1: value, 0.2: 0.5}
    algorithm = SuccessiveHalving([{"lr": lr} for lr in values], [1, 2], 2.0)

    study = run(algorithm, lambda node: values[lr_of(node)])

    assert study.best[0] == 1
    assert "no value to compare others with" in study.errors[0, 1]
