"""How long a plan will take: as its scheduler runs it; and the better of two orders is followed."""

import numpy as np
import pytest

from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.stage_tree.forecasts import forecast_s
from eeipu.stage_tree.scheduler import CRITICAL_PATH, FIFO, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Piecewise

STEPS, WORKERS = 60, 4


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
