"""How long a plan will take: as its scheduler runs it; and the better of two orders is followed."""

import itertools

import numpy as np
import pytest

from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.stage_tree.forecasts import forecast_s
from eeipu.stage_tree.scheduler import CRITICAL_PATH, FIFO, Policy, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Piecewise

STEPS, WORKERS = 60, 4
LONGEST_FIRST = Policy("longest first", lambda node, order: (-node.remaining, order), recalls=True)


def path_of(config, step):
    return Path().train("fit", "v1", config, step)


def configs(seed):
    rng = np.random.default_rng(seed)
    drops = sorted(rng.choice(np.arange(5, STEPS, 5), rng.integers(1, 5), replace=False).tolist())
    rates = [0.1, 0.01, 0.001]
    return [{"lr": Piecewise(rng.choice(rates, len(drops) + 1).tolist(), drops)} for _ in range(12)]


def length(node):
    return float(node.stop - node.start)


def forecast(seed, policy):
    plan = SearchPlan()
    scheduler = Scheduler(plan, policy)
    for number, config in enumerate(configs(seed)):
        plan.request("study", number, path_of(config, STEPS))
        scheduler.follow()
    return forecast_s(
        [node for node in plan.tree if node.must_run],
        length,
        WORKERS,
        lambda node: policy.priority(node, node.order),
        goes_on=policy.goes_on,
        recalls=policy.recalls,
        past=lambda _: 0.0,
    )


ends = []


def taken(seed, policy, make_scheduler=Scheduler):
    plan, cluster = SearchPlan(), simulated_workers(WORKERS, length)
    study = StudyRun("study", FullTraining(configs(seed), STEPS), path_of)
    study._number = lambda _: 0.0
    run_studies([study], make_scheduler(plan, policy), cluster)
    return cluster.now()


@pytest.mark.parametrize("seed", range(8))
def test_a_forecast_is_how_long_it_takes(seed):
    assert taken(seed, FIFO) == forecast(seed, FIFO)
    assert taken(seed, CRITICAL_PATH) == min(forecast(seed, FIFO), forecast(seed, CRITICAL_PATH))


class Forecasting(Scheduler):
    """Forecasts the end of a run before each node."""

    def _forecast(self, after):
        nodes = [node for node in self._nodes() if node.must_run]
        ends.append(self.now() + self._forecast_s(nodes, self.policy, after))


@pytest.mark.parametrize("policy", [FIFO, CRITICAL_PATH])
@pytest.mark.parametrize("seed", range(8))
def test_a_forecast_amid_a_run_goes_on_from_there(seed, policy):
    ends.clear()
    end = taken(seed, policy, make_scheduler=Forecasting)
    assert len(ends) > 30
    assert set(ends) == {end}


def test_of_equal_ends_that_of_the_first_node_comes_first():
    """An idle worker of three takes the second half of the first training, which is the longest."""
    lengths = {(0.1, 1): 5, (0.1, 2): 9, (0.2, 1): 5, (0.2, 2): 5}
    trainings = [
        {"lr": Piecewise([first, 0.01 * second], [3]), "steps": steps}
        for (first, second), steps in lengths.items()
    ]

    def of(config, step):
        return Path().train("fit", "v1", {"lr": config["lr"]}, config["steps"])

    ends.clear()
    plan, cluster = SearchPlan(), simulated_workers(3, length)
    study = StudyRun("study", FullTraining(trainings, 9), of)
    study._number = lambda _: 0.0
    run_studies([study], Forecasting(plan, FIFO), cluster)
    assert set(ends) == {cluster.now()} == {9.0}


@pytest.mark.parametrize("step_s", [1.0, 30.0])  # the latter is known after the first node only
def test_first_in_first_out_is_followed_where_it_ends_sooner(step_s):
    """On two workers, the longest first take 3 + 2 + 2 and 3 + 2; as they come, 3 + 3 and 2 * 3."""
    lengths = [3, 2, 2, 3, 2]
    trainings = [{"lr": 0.1 * k, "steps": steps} for k, steps in enumerate(lengths)]

    def of(config, step):
        return Path().train("fit", "v1", {"lr": config["lr"]}, config["steps"])

    plan, cluster = SearchPlan(), simulated_workers(2, lambda node: step_s * length(node))
    study = StudyRun("study", FullTraining(trainings, 3), of)
    study._number = lambda _: 0.0
    run_studies([study], Scheduler(plan), cluster)
    assert cluster.now() == 6.0 * step_s


def value_times(configs, policy, workers):
    """When the trials of a grid have had their values, on so many workers."""
    plan, cluster = SearchPlan(), simulated_workers(workers, length)
    ended = []

    class Noted(FullTraining):
        def tell(self, *args):
            ended.append(cluster.now())
            return super().tell(*args)

    def of(config, step):
        return path_of(config, step).evaluate("fit", "v1")

    study = StudyRun("study", Noted(configs, STEPS), of)
    study._number = lambda _: 0.0
    run_studies([study], Scheduler(plan, policy), cluster)
    return ended


def grid(*drops):
    rates = [[0.1, 0.01, 0.001]] * (len(drops) + 1)
    return [{"lr": Piecewise(list(each), list(drops))} for each in itertools.product(*rates)]


def test_trials_end_one_after_the_other_and_the_last_one_when_it_would_by_the_longest_path():
    configs = grid(30, 45)
    ours, longest_first = (value_times(configs, each, 2) for each in (CRITICAL_PATH, LONGEST_FIRST))
    assert max(ours) <= 1.01 * max(longest_first)
    assert np.mean(ours) < 0.7 * np.mean(longest_first)
    assert min(ours) == STEPS + 1


def test_evaluations_do_not_wait_for_longer_nodes():
    # Five trainings of 60 steps that share nothing: the first two have their values after them.
    configs = [{"lr": rate} for rate in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert value_times(configs, CRITICAL_PATH, 2)[:2] == [STEPS + 1] * 2
