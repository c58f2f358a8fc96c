"""The simulated cluster: virtual time, failures, stragglers, resources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.moves import Ask
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.errors import ConfigurationError
from eeipu.executors.clusters import Outcome
from eeipu.executors.simulated_cluster import SimulatedCluster
from eeipu.stage_tree.scheduler import BREADTH_FIRST, CRITICAL_PATH, FIFO, Resources, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stage_tree.tree import StageTree
from eeipu.stages.paths import Kind, Path
from eeipu.stages.schedules import MultiStep


def path_of(config, step):
    schedules = {"lr": MultiStep(config["lr"], [config["drop"]])}
    return Path().train("fit", "v", schedules, step).evaluate("fit", "v")


def steps(node):
    return float(node.steps)


def final_lr(node):
    """What a trial would score: a value that depends on its whole path."""
    return sum(
        s.call.params.get("lr", 0.0) * (s.stop - s.start) for s in node.path.between(0, node.stop)
    )


CONFIGS = [{"lr": lr, "drop": drop} for lr in (0.1, 0.2) for drop in (30, 50, 70)]


def run(configs=CONFIGS, workers=3, policy=CRITICAL_PATH, **options):
    plan = SearchPlan()
    study = StudyRun("study", FullTraining(configs, 90), path_of)
    cluster = SimulatedCluster(workers, steps, final_lr, **options)
    run_studies([study], Scheduler(plan, policy), cluster)
    return plan, study, cluster


def separately(configs=CONFIGS):
    """What the same trials give one by one."""
    values = {}
    for trial, config in enumerate(configs):
        _, study, _ = run([config], workers=1)
        values[trial, 90] = study.values[0, 90]
    return values


# --- laws -----------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(CONFIGS), min_size=1, max_size=5),
    st.integers(1, 4),
    st.sampled_from([CRITICAL_PATH, FIFO, BREADTH_FIRST]),
)
def test_results_equal_unmerged_execution_exactly(configs, workers, policy):
    plan, study, cluster = run(configs, workers, policy)
    assert study.values == separately(configs)
    assert (
        plan.spent_s
        == cluster.busy_s
        == StageTree.build([path_of(config, 90) for config in configs]).distinct_steps
    )


@given(st.lists(st.sampled_from(CONFIGS), min_size=1, max_size=5), st.integers(1, 4))
def test_no_schedule_beats_the_bounds(configs, workers):
    plan, _, cluster = run(configs, workers)
    critical = plan.tree.critical_path().cost
    assert cluster.now() >= max(critical, plan.tree.distinct_steps / workers) - 1e-9
    # Graham's bound, which any order without needless idling keeps.
    assert cluster.now() <= plan.tree.distinct_steps / workers + critical + 1e-9


@given(st.integers(0, 10_000), st.sampled_from([CRITICAL_PATH, FIFO, BREADTH_FIRST]))
def test_with_random_deaths_everything_completes_and_nothing_runs_again(seed, policy):
    plan = SearchPlan(max_losses=1000)
    study = StudyRun("study", FullTraining(CONFIGS, 90), path_of)
    cluster = SimulatedCluster(
        3, steps, final_lr, time_between_failures_s=100.0, repair_s=20.0, seed=seed
    )
    completed = note_completed(cluster)
    run_studies([study], Scheduler(plan, policy), cluster)
    assert len(completed) == len(set(completed)) == len(plan.tree)
    assert study.values == separately()
    assert plan.spent_s == pytest.approx(cluster.busy_s)


@pytest.mark.parametrize("seed", range(20))
def test_a_node_under_which_workers_die_too_often_fails_and_takes_no_other_with_it(seed):
    plan = SearchPlan()
    study = StudyRun("study", FullTraining(CONFIGS, 90), path_of)
    cluster = SimulatedCluster(3, steps, final_lr, time_between_failures_s=60.0, seed=seed)
    run_studies([study], Scheduler(plan), cluster)
    assert len(study.values) + len(study.errors) == len(CONFIGS)
    assert all("its worker died 3 times" in error for error in study.errors.values())
    assert study.values.items() <= separately().items()


def note_completed(cluster):
    """The keys of nodes as they complete."""
    completed, wait = [], cluster.wait

    def noting():
        reports = wait()
        completed.extend(r.node.key for r in reports or () if r.outcome is Outcome.COMPLETED)
        return reports

    cluster.wait = noting
    return completed


# --- the clock ------------------------------------------------------------------------------


def test_one_worker_takes_as_long_as_all_work():
    plan, _, cluster = run(workers=1)
    assert cluster.now() == cluster.busy_s == plan.tree.distinct_steps


def test_many_workers_take_as_long_as_the_critical_path():
    plan, _, cluster = run(workers=50)
    assert cluster.now() == plan.tree.critical_path().cost == 90


def test_the_same_seed_gives_the_same_story():
    options = {"time_between_failures_s": 150.0, "repair_s": 5.0, "straggling": 0.5, "seed": 3}
    stories = [run(**options) for _ in range(2)]
    (_, one, a), (_, two, b) = stories
    assert (one.values, a.now(), a.busy_s, a.deaths) == (two.values, b.now(), b.busy_s, b.deaths)
    assert a.deaths > 0


def test_stragglers_take_longer():
    _, _, cluster = run(straggling=1.0, slowdown=2.0)
    _, _, plain = run()
    assert cluster.busy_s == 2.0 * plain.busy_s


def test_loading_and_saving_take_time_but_not_between_nodes_of_one_batch():
    configs = [{"lr": 0.1, "drop": 30}]
    _, _, cluster = run(configs, save_s=5.0, load_s=100.0)
    assert cluster.now() == 90 + 2 * 5.0
    plan = SearchPlan()
    for step in (30, 90):  # the second study begins on the same worker
        study = StudyRun(f"to {step}", FullTraining(configs, step), path_of)
        cluster = SimulatedCluster(1, steps, final_lr, load_s=100.0)
        run_studies([study], Scheduler(plan), cluster)
    assert cluster.now() == 60 + 100.0


def test_a_thousand_gpus():
    configs = [{"lr": lr / 100, "drop": drop} for lr in range(1, 41) for drop in range(10, 90, 2)]
    plan, study, cluster = run(configs, workers=1000)
    assert len(study.values) == len(configs)
    assert cluster.busy_s == plan.tree.distinct_steps
    assert cluster.now() <= 90 + plan.tree.distinct_steps / 1000


# --- splits ---------------------------------------------------------------------------------


class LateBrother:
    """Asks for a second trial once a first one has ended, while a third is running."""

    def __init__(self, drop):
        self.drop = drop

    def start(self):
        return [Ask(0, {"lr": 0.2, "drop": 99}, 20), Ask(1, {"lr": 0.1, "drop": 99}, 90)]

    def tell(self, trial, step, value):
        return [Ask(2, {"lr": 0.1, "drop": self.drop}, 90)] if trial == 0 else []


class Fickle(LateBrother):
    """Gives up a trial that is running once another has ended."""

    def __init__(self, plan):
        self.plan = plan

    def start(self):
        return [Ask(0, {"lr": 0.2, "drop": 99}, 20), Ask(1, {"lr": 0.1, "drop": 30}, 90)]

    def tell(self, trial, step, value):
        self.plan.cancel("study", 1)
        return []


def test_a_batch_that_nobody_wants_any_more_ends_with_its_node():
    plan = SearchPlan()
    cluster = SimulatedCluster(2, steps, final_lr)
    run_studies([StudyRun("study", Fickle(plan), path_of)], Scheduler(plan), cluster)
    assert cluster.busy_s == 20 + 30
    assert cluster.offers() == [Resources(1.0, 1.0)]


@pytest.mark.parametrize(("drop", "work"), [(40, 20 + 90 + 50), (10, 20 + 90 + 10 + 80)])
def test_a_running_node_that_is_split_saves_its_state_on_the_way_or_it_is_made_again(drop, work):
    plan = SearchPlan()
    study = StudyRun("study", LateBrother(drop), path_of)
    cluster = SimulatedCluster(2, steps, final_lr)
    run_studies([study], Scheduler(plan), cluster)
    assert cluster.busy_s == work
    assert study.values[2, 90] == separately([{"lr": 0.1, "drop": drop}])[0, 90]
    assert study.values[1, 90] == separately([{"lr": 0.1, "drop": 99}])[0, 90]


def test_a_node_that_waits_in_a_batch_is_split_before_it_begins():
    class Brother(LateBrother):
        def start(self):
            return [Ask(0, {"lr": 0.2, "drop": 99}, 20), Ask(1, {"lr": 0.1, "drop": 30}, 90)]

        def tell(self, trial, step, value):
            extra = {"lr": 0.1, "drop": 30, "again": 60}
            return [Ask(2, extra, 90)] if trial == 0 else []

    def twice(config, step):
        drops = [config["drop"], *([config["again"]] if "again" in config else [])]
        schedules = {"lr": MultiStep(config["lr"], drops)}
        return Path().train("fit", "v", schedules, step).evaluate("fit", "v")

    study = StudyRun("study", Brother(0), twice)
    cluster = SimulatedCluster(2, steps, final_lr)
    run_studies([study], Scheduler(SearchPlan()), cluster)
    assert cluster.busy_s == 20 + 90 + 30
    assert len(study.values) == 3


def test_a_worker_that_dies_idle_is_away_for_a_while():
    cluster = SimulatedCluster(2, steps, time_between_failures_s=1.0, repair_s=9.0)
    assert len(cluster.offers()) == 1
    plan = SearchPlan()
    study = StudyRun("study", FullTraining(CONFIGS[:1], 30), path_of)
    run_studies([study], Scheduler(plan), cluster)
    assert cluster.deaths > 3
    assert "its worker died 3 times" in study.errors[0, 30]


def test_what_has_begun_cannot_be_taken_back_but_what_follows_can():
    plan = SearchPlan()
    for trial, step in enumerate((90, 30)):
        plan.request("study", trial, path_of({"lr": 0.1 + trial, "drop": 50}, step))
    cluster, scheduler = SimulatedCluster(2, steps, final_lr), Scheduler(plan)
    first = scheduler.next(Resources())
    cluster.submit(first)
    cluster.submit(scheduler.next(Resources()))
    cluster.wait()  # until the shorter trial has trained
    assert cluster.recall(first.nodes[0]) == []
    assert cluster.recall(first.nodes[1]) == list(first.nodes[1:])
    ended = {report.node for _ in range(2) for report in cluster.wait()}
    assert first.nodes[0] in ended
    assert cluster.wait() is None


# --- resources ------------------------------------------------------------------------------


def gpu_training(call):
    return Resources(1.0, 1.0 if call.kind is Kind.TRAINING else 0.0)


def test_a_node_that_fits_nobody_is_told():
    plan = SearchPlan()
    study = StudyRun("study", FullTraining(CONFIGS, 90), path_of)
    cluster = SimulatedCluster([Resources(4.0, 0.0)], steps)
    with pytest.raises(ConfigurationError, match=r"no worker has room for Node\('fit \[0, "):
        run_studies([study], Scheduler(plan, resources=gpu_training), cluster)


def test_a_large_worker_runs_several_at_once():
    plan = SearchPlan()
    study = StudyRun("study", FullTraining(CONFIGS, 90), path_of)
    cluster = SimulatedCluster([Resources(50.0, 50.0)], steps, final_lr)
    run_studies([study], Scheduler(plan, resources=gpu_training), cluster)
    assert cluster.now() == 90
    assert cluster.offers() == [Resources(50.0, 50.0)]


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"workers": 1, "straggling": 2.0}, {"workers": 1, "slowdown": 0.5}]
)
def test_a_cluster_that_makes_no_sense_is_refused(options):
    with pytest.raises(ConfigurationError, match="a cluster needs workers"):
        SimulatedCluster(seconds=steps, **options)
