"""Real executors: threads and processes run what the simulation runs."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from threading import Event, Lock

import pytest
import torch
from counting import pipeline, prep

from eeipu import Int, StageCache, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.halving import ASHA
from eeipu.algorithms.study_run import StudyRun
from eeipu.algorithms.runner import run_studies
from eeipu.errors import ConfigurationError
from eeipu.executors.clusters import Outcome
from eeipu.executors.futures_cluster import FuturesCluster
from eeipu.executors.node_batches import Job, run_works, work_of
from eeipu.stages.resources import Resources
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.stages.schedules import Constant, Piecewise
from eeipu.stages.torch_training.loop import torch_training

GAIN = {"k": 1.0}


def gained(x):
    return GAIN["k"] * x


def begin(x):
    return 0.0


def end(state):
    return state


def advance_gained(state, start, stop, hyper_parameters):
    return state + (stop - start) * GAIN["k"]


GAINED = iterative(Training(begin, advance_gained, end), {}, steps=2, name="train")


def path_of(config, step):
    return stage_path(pipeline().stages, config, "up", step)


def config(lr, drop=2, dims=8, **others):
    schedule = Piecewise([lr, 0.25], [drop])
    return {"prep.dims": dims, "train.lr": schedule, **others}


CONFIGS = [config(lr, drop, dims) for lr in (0.5, 1.0) for drop in (2, 3) for dims in (8, 9)]


def study(algorithm, name="study"):
    return StudyRun(name, algorithm, path_of, objective="sum")


def processes():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


def run(studies, executor, cache, plan=None, **options):
    plan = SearchPlan(cache=cache) if plan is None else plan
    cluster = FuturesCluster(executor, pipeline().stages, ("data",), cache, 2, **options)
    run_studies(studies, Scheduler(plan), cluster)
    return plan, cluster


def expected(configs):
    return {
        (trial, 4): pytest.approx(sum(each["train.lr"](step) for step in range(4)))
        for trial, each in enumerate(configs)
    }


def test_threads_answer_every_trial():
    mine = study(FullTraining(CONFIGS, 4))
    with ThreadPoolExecutor(2) as executor:
        plan, cluster = run([mine], executor, StageCache())
    assert mine.values == expected(CONFIGS)
    assert sum(node.steps for node in plan.tree if node.cost_s is not None) == (
        plan.tree.distinct_steps
    )
    assert cluster.now() > 0
    assert cluster.offers() == [Resources(1.0, 0.0)]


def test_workers_have_the_gpus_that_they_are_given():
    with ThreadPoolExecutor(1) as executor:
        cluster = FuturesCluster(executor, [], (), StageCache(), 2, gpus=0.5)
    assert cluster.offers() == [Resources(1.0, 0.5)]


@pytest.mark.parametrize(("threads", "workers"), [(2, 2), (1, 2), (2, 1)])
def test_torch_does_not_train_in_several_threads_of_a_process(threads, workers):
    training = torch_training(torch.nn.Identity, torch.optim.SGD, torch.nn.functional.mse_loss, int)
    refused = pytest.raises(ConfigurationError, match="trains with torch")
    stages = [prep, iterative(training, {}, steps=1, version="1")]
    with (
        ThreadPoolExecutor(threads) as executor,
        refused if threads == workers else nullcontext(),
    ):
        FuturesCluster(executor, stages, (), StageCache(), workers)


def test_processes_share_states_through_a_directory(tmp_path):
    mine = study(ASHA(CONFIGS, [1, 4], eta=2, concurrency=2))
    with processes() as executor:
        plan, _ = run([mine], executor, StageCache(tmp_path))
    assert {trial for trial, step in mine.values if step == 1} == set(range(len(CONFIGS)))
    assert sum(step == 4 for _, step in mine.values) >= len(CONFIGS) // 2
    assert all(node.has_state for node in plan.tree if node.cost_s is not None)


def test_processes_cannot_share_memory():
    with processes() as executor, pytest.raises(ConfigurationError, match="StageCache"):
        FuturesCluster(executor, pipeline().stages, ("data",), StageCache())


def test_a_plan_goes_on_in_another_process_pool(tmp_path):
    cache = StageCache(tmp_path / "cache")
    with processes() as executor:
        plan, _ = run(
            [study(FullTraining(CONFIGS[:2], 4))],
            executor,
            cache,
            SearchPlan(tmp_path / "plan.db", cache),
        )
        before = plan.spent_s
        plan.close()
        mine = study(FullTraining(CONFIGS[:2], 4))
        plan, _ = run([mine], executor, cache, SearchPlan(tmp_path / "plan.db", cache))
    assert mine.values == expected(CONFIGS[:2])
    assert plan.spent_s == before


def test_a_stage_that_fails_is_data():
    mine = study(FullTraining([config("fails"), config(0.5)], 4))
    with ThreadPoolExecutor(2) as executor:
        run([mine], executor, StageCache())
    assert mine.values.keys() == {(1, 4)}
    assert "diverged" in mine.errors[0, 4]


def dying_pipeline(marker):
    return lambda c, step: stage_path(pipeline(DYING).stages, c, str(marker), step)


DYING = {"lr": 0.1, "marker": ""}


@pytest.mark.parametrize("renews", [True, False])
def test_a_worker_that_dies_is_replaced_and_its_node_run_again(tmp_path, renews):
    marker = Constant(str(tmp_path / "marker"))
    configs = [
        {"prep.dims": 8, "train.lr": Piecewise([0.5, lr], [2]), "train.marker": marker}
        for lr in ("dies", 0.25)
    ]
    cache = StageCache(tmp_path / "cache")
    mine = StudyRun("study", FullTraining(configs, 4), dying_pipeline(marker), objective="sum")
    plan = SearchPlan(cache=cache)
    executor = processes if renews else processes()
    with FuturesCluster(executor, pipeline(DYING).stages, ("data",), cache, 2) as cluster:
        if not renews:
            with pytest.raises(BrokenExecutor):
                run_studies([mine], Scheduler(plan), cluster)
            return
        run_studies([mine], Scheduler(plan), cluster)
    assert mine.values == {(0, 4): 1.0, (1, 4): 1.5}
    # No loss where another batch shared the pool when it broke: then it may have been the culprit.
    assert max(node.losses for node in plan.tree) <= 1


def test_a_worker_that_always_dies_fails_nobody_else(tmp_path):
    mine = study(FullTraining([config("kills", 3), *(config("naps", n) for n in (1, 2, 3))], 4))
    plan = SearchPlan(cache=StageCache(tmp_path))
    with FuturesCluster(
        lambda: ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")),
        pipeline().stages,
        ("data",),
        plan.cache,
        4,
    ) as cluster:
        run_studies([mine], Scheduler(plan), cluster)
    assert mine.values == {(1, 4): 0.75, (2, 4): 0.5, (3, 4): 0.25}
    assert mine.errors.keys() == {(0, 4)}
    assert sorted(node.losses for node in plan.tree)[-2:] == [0, 3]
    worked_s = sum(node.cost_s for node in plan.tree if node.has_state and node.cost_s is not None)
    assert plan.spent_s > worked_s  # what was lost is paid for


def test_workers_that_never_gave_a_result_ask_for_a_guard(tmp_path):
    cache, stages = StageCache(tmp_path), [stage(name="die", version="1")(os._exit)]
    mine = StudyRun("study", FullTraining([{}], 1), lambda c, s: stage_path(stages, c, "up", s))
    with FuturesCluster(processes, stages, (1,), cache) as cluster:
        run_studies([mine], Scheduler(SearchPlan(cache=cache)), cluster)
    assert "__main__" in mine.errors[0, 1]


def test_what_a_dead_worker_left_in_the_cache_is_not_lost(tmp_path):
    marker = Constant(str(tmp_path / "marker"))
    configs = [{"prep.dims": 8, "train.lr": Piecewise([0.5, "dies"], [2]), "train.marker": marker}]
    cache = StageCache(tmp_path / "cache")
    mine = StudyRun("study", FullTraining(configs, 4), dying_pipeline(marker), objective="sum")
    plan = SearchPlan(cache=cache)
    with FuturesCluster(processes, pipeline(DYING).stages, ("data",), cache, 2) as cluster:
        run_studies([mine], Scheduler(plan), cluster)
    assert mine.values == {(0, 4): 1.0}
    assert {node.describe().split()[0]: node.losses for node in plan.tree if node.losses} == {
        "train": 1
    }
    assert plan.tree[path_prefix(configs[0], marker)].losses == 0


def path_prefix(config, marker):
    """The key after the first two steps."""
    return dying_pipeline(marker)(config, 4).key(3)


@pytest.mark.parametrize("train", [GAINED, stage(gained, name="train")])
def test_a_global_that_has_changed_since_the_cluster_was_made_counts(monkeypatch, train):
    cache, stages, values = StageCache(), [train], []
    with ThreadPoolExecutor(1) as executor, SearchPlan(cache=cache) as plan:
        cluster = FuturesCluster(executor, stages, (1.0,), cache)
        for gain in (1.0, 10.0):
            monkeypatch.setitem(GAIN, "k", gain)
            mine = StudyRun(
                str(gain), FullTraining([{}], 2), lambda c, step: stage_path(stages, c, "up", step)
            )
            with pytest.warns(match="changed since") if values else nullcontext():
                run_studies([mine], Scheduler(plan), cluster)
            values += mine.values.values()
    assert values in ([2.0, 20.0], [1.0, 10.0])


def test_a_job_is_packed_anew_where_its_code_has_changed(tmp_path, monkeypatch):
    with processes() as executor:
        cluster = FuturesCluster(executor, [stage(gained)], (1.0,), StageCache(tmp_path))
        names = [cluster._pool._name]
        for gain in (1.0, 10.0):
            monkeypatch.setitem(GAIN, "k", gain)
            with pytest.warns(match="changed since") if gain > 1.0 else nullcontext():
                cluster.renew()
            names.append(cluster._pool._name)
    assert names[0] == names[1] != names[2]


def test_an_interrupt_ends_batches_and_the_same_cluster_goes_on(monkeypatch):
    cache, ran, begun = StageCache(), [], Event()

    def wait_for(*args, **options):
        assert begun.wait(10.0)
        monkeypatch.undo()
        raise KeyboardInterrupt

    @stage(space={"k": Int(0, 9)}, version="1")
    def run_once(*, k):
        ran.append(k)
        begun.set()
        return float(k)

    plan = SearchPlan(cache=cache)
    monkeypatch.setattr("eeipu.executors.futures_cluster.wait", wait_for)
    with ThreadPoolExecutor(1) as executor:
        cluster = FuturesCluster(executor, [run_once], (), cache, 2)
        for _ in range(2):
            mine = StudyRun(
                "study",
                FullTraining([{"run_once.k": k} for k in range(3)], 1),
                lambda c, step: stage_path([run_once], c, "", step),
            )
            with suppress(KeyboardInterrupt):
                run_studies([mine], Scheduler(plan), cluster)
    assert mine.values == {(k, 1): float(k) for k in range(3)}
    assert sorted(ran) == [0, 1, 2]


def test_a_worker_that_is_interrupted_too_loses_its_batch_only():
    cache = StageCache()
    plan, cluster = (
        SearchPlan(cache=cache),
        FuturesCluster(Waiting(), pipeline().stages, ("data",), cache, 2),
    )
    batch = batch_of(cluster, plan)
    (future,) = cluster._tasks
    future.set_exception(KeyboardInterrupt())
    outcomes = [Outcome.LOST, *[Outcome.STOPPED] * (len(batch.nodes) - 1)]
    assert [report.outcome for report in cluster.drain()] == outcomes


class Waiting(ThreadPoolExecutor):
    """An executor whose batches never end."""

    def submit(self, function, *args):
        future = Future()
        future.set_running_or_notify_cancel()
        return future


def test_states_that_others_wait_for_are_reported_while_the_batch_goes_on():
    cache, stages = StageCache(), pipeline().stages
    plan = SearchPlan(cache=cache)
    for trial, drop in enumerate((2, 3)):
        plan.request("study", trial, path_of(config(0.5, drop), 4))
    cluster = FuturesCluster(Waiting(), stages, ("data",), cache, 2)
    batch = Scheduler(plan).next(Resources())
    cluster.submit(batch)
    assert cluster.recall(batch.nodes[-1]) == []
    assert not cluster.split(batch.nodes[0], batch.nodes[1])
    by_name = {each.name: each for each in stages}
    works = [work_of(node) for node in batch.nodes]
    run_works(works[:3], Job(by_name, ("data",), None, cache))
    reports = cluster.wait()
    # The others part after two steps; the third node is nobody's but the batch's own.
    assert [(r.node, r.outcome) for r in reports] == [
        (node, Outcome.COMPLETED) for node in batch.nodes[:2]
    ]
    assert all(report.cost_s > 0 for report in reports)


def test_values_come_with_their_batch():
    cache, stages = StageCache(), pipeline().stages
    plan = SearchPlan(cache=cache)
    path = path_of(config(0.5), 4)
    plan.request("study", 0, path)
    plan.request("study", 1, path.call("after", "v", {}))
    plan.request("study", 2, path.call("other", "v", {}))
    batch = Scheduler(plan).next(Resources())
    cluster = FuturesCluster(Waiting(), stages, ("data",), cache, 2)
    cluster.submit(batch)
    for node in batch.nodes:
        cache.put(node.key, 0.0)
    (task,) = cluster._tasks.values()
    assert cluster._look(task) == []


def test_an_error_of_the_machinery_is_raised():
    class Refusing(ThreadPoolExecutor):
        def submit(self, function, *args):
            return super().submit(lambda: 1 / 0)

    with Refusing(1) as executor, pytest.raises(ZeroDivisionError):
        run([study(FullTraining(CONFIGS[:1], 4))], executor, StageCache())


def test_a_missing_state_is_made_again():
    cache = StageCache()
    mine = study(FullTraining(CONFIGS[:1], 4))
    with ThreadPoolExecutor(1) as executor:
        plan, _ = run([mine], executor, cache)
        cache.clear()  # behind the plan's back
        longer = study(FullTraining([config(0.5, 2), config(0.5, 3)], 4), "longer")
        run([longer], executor, cache, plan)
    assert longer.values == expected([config(0.5, 2), config(0.5, 3)])


class Counting(ThreadPoolExecutor):
    """A thread that does as a worker process, and counts how often it was sent the job."""

    sent = batches = 0

    def submit(self, function, name, job, *others):
        self.sent += job is not None
        self.batches += job is None
        return super().submit(function, name, job, *others)


def test_workers_in_other_processes_get_the_job_when_they_ask(tmp_path, monkeypatch):
    monkeypatch.setattr("eeipu.executors.futures_cluster.ThreadPoolExecutor", ProcessPoolExecutor)
    monkeypatch.setattr("eeipu.executors.worker_processes._jobs", {})
    mine = study(FullTraining(CONFIGS, 4))
    with Counting(1) as executor:
        run([mine], executor, StageCache(tmp_path))
    assert mine.values == expected(CONFIGS)
    assert 1 <= executor.sent <= 2 < executor.batches  # two batches ask at once


class Breaking(ThreadPoolExecutor):
    """A pool whose only worker does not have the job, and which then breaks."""

    def submit(self, function, name, job, *others):
        if job is not None:
            raise BrokenExecutor
        return super().submit(lambda: None)


def test_a_pool_that_breaks_before_the_job_is_there_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("eeipu.executors.futures_cluster.ThreadPoolExecutor", ProcessPoolExecutor)
    made = iter([Breaking(1), Counting(1)])
    mine = study(FullTraining(CONFIGS[:1], 4))
    plan, _ = run([mine], lambda: next(made), StageCache(tmp_path))
    assert mine.values == expected(CONFIGS[:1])
    assert sorted(node.losses for node in plan.tree)[-2:] == [0, 1]


def test_inputs_that_cannot_be_hashed_have_a_name_of_the_users_own():
    mine = study(FullTraining(CONFIGS[:1], 4))
    with ThreadPoolExecutor(1) as executor:
        cluster = FuturesCluster(executor, pipeline().stages, (Lock(),), StageCache())
        run_studies([mine], Scheduler(SearchPlan(cache=cluster._cache)), cluster)
    assert "cannot pickle '_thread.lock'" in mine.errors[0, 4]  # they came as far as the stage


@pytest.mark.parametrize("renews", [True, False])
def test_a_worker_that_died_while_it_had_nothing_to_do_is_replaced(tmp_path, renews):
    cache, made = StageCache(tmp_path), []

    def make():
        made.append(processes())
        return made[-1]

    mine = study(FullTraining(CONFIGS, 4))
    broken = make()
    with suppress(BrokenExecutor):
        broken.submit(os._exit, 1).result()
    with FuturesCluster(
        (lambda: made.pop() if made else make()) if renews else broken,
        pipeline().stages,
        ("data",),
        cache,
        2,
    ) as cluster:
        if not renews:
            with pytest.raises(BrokenExecutor):
                run_studies([mine], Scheduler(SearchPlan(cache=cache)), cluster)
            return
        run_studies([mine], Scheduler(SearchPlan(cache=cache)), cluster)
    assert mine.values == expected(CONFIGS)


def batch_of(cluster, plan, *, steps=4):
    plan.request("study", 0, path_of(config(0.5), steps))
    batch = Scheduler(plan).next(Resources())
    cluster.submit(batch)
    return batch


def finish(cluster, batch, cache):
    """Do in the place of a worker what it was sent."""
    ((future, task),) = cluster._tasks.items()
    by_name = {each.name: each for each in pipeline().stages}
    works = [work_of(node) for node in batch.nodes]
    future.set_result(run_works(works, Job(by_name, ("data",), None, cache), cut=task.cut))
    return [(report.node, report.outcome) for report in cluster.wait()]


def test_a_batch_whose_end_nobody_wants_is_cut_short():
    cache = StageCache()
    plan, cluster = (
        SearchPlan(cache=cache),
        FuturesCluster(Waiting(), pipeline().stages, ("data",), cache, 2),
    )
    batch = batch_of(cluster, plan)
    plan.cancel("study", 0)
    (task,) = cluster._tasks.values()
    assert cluster._look(task) == []
    assert finish(cluster, batch, cache) == [
        (batch.nodes[0], Outcome.COMPLETED),
        *((node, Outcome.STOPPED) for node in batch.nodes[1:]),
    ]
    assert set(cache) == {batch.nodes[0].key}  # nothing is left of the cut


def test_leaving_a_cluster_ends_its_batches_after_the_nodes_that_run():
    cache = StageCache()
    plan = SearchPlan(cache=cache)
    with FuturesCluster(Waiting(), pipeline().stages, ("data",), cache, 2) as cluster:
        batch = batch_of(cluster, plan)
    outcomes = [outcome for _, outcome in finish(cluster, batch, cache)]
    assert outcomes == [Outcome.COMPLETED, *[Outcome.STOPPED] * (len(batch.nodes) - 1)]


@pytest.mark.parametrize(("place", "is_cut"), [(0, False), (1, True)])
def test_a_batch_ends_before_a_node_that_was_split(place, is_cut):
    cache = StageCache()
    plan, cluster = (
        SearchPlan(cache=cache),
        FuturesCluster(Waiting(), pipeline().stages, ("data",), cache, 2),
    )
    batch = batch_of(cluster, plan)
    assert not cluster.split(batch.nodes[0], batch.nodes[place])
    assert not cluster.split(batch.nodes[0], batch.nodes[place])
    outcomes = {outcome for _, outcome in finish(cluster, batch, cache)}
    assert (Outcome.STOPPED in outcomes) == is_cut


KILLED = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from eeipu import StageCache
from eeipu.algorithms.full_training import FullTraining
from eeipu.executors.futures_cluster import FuturesCluster
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stages.schedules import MultiStep
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan

folder, dies = Path(sys.argv[1]), int(sys.argv[2])

def advance(state, start, stop, hyper_parameters):
    with (folder / "log").open("a") as log:
        log.write(f"{start} {stop} {hyper_parameters['lr'](stop - 1)}\\n")
    if len((folder / "log").read_text().splitlines()) == dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return state + sum(hyper_parameters["lr"](step) for step in range(start, stop))

training = Training(lambda: 0.0, advance, lambda state: state)
stage = iterative(training, {"lr": 1.0}, steps=8, name="fit", version="1")
configs = [{"fit.lr": MultiStep(1.0, [drop], 0.5)} for drop in (2, 4, 6)]
cache = StageCache(folder / "cache")
plan = SearchPlan(folder / "plan.db", cache)
path_of = lambda config, step: stage_path([stage], config, "", step)
study = StudyRun("study", FullTraining(configs, 8), path_of)
with ThreadPoolExecutor(1) as executor:
    run_studies([study], Scheduler(plan), FuturesCluster(executor, [stage], (), cache))
print([study.values[trial, 8] for trial in range(3)])
"""


def test_a_run_that_is_killed_goes_on_and_runs_nothing_finished_again(tmp_path):
    def run_script(dies):
        arguments = [sys.executable, "-c", KILLED, str(tmp_path), str(dies)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    assert run_script(3).returncode == -signal.SIGKILL
    assert run_script(6).returncode == -signal.SIGKILL
    done = run_script(0)
    assert done.stdout.strip() == "[5.0, 6.0, 7.0]", done.stderr
    stretches = (tmp_path / "log").read_text().splitlines()
    # Six stretches: four up to step 8 by 2, and three tails, of which one is the fourth; the two
    # that were cut off ran twice.
    assert len(set(stretches)) == 6
    assert len(stretches) == 8


OWN_CLASS_SCRIPT = """
import sys
from eeipu import Float, StageCache
from eeipu.algorithms.full_training import FullTraining
from eeipu.executors.futures_cluster import FuturesCluster
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.fingerprints.keys import inputs_key
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.executors.worker_processes import worker_processes

class Net:
    def __init__(self):
        self.weight = 0.0

def init(data):
    return Net()

def advance(net, start, stop, hyper_parameters):
    assert type(net) is Net
    net.weight += sum(hyper_parameters["lr"](step) for step in range(start, stop))
    return net

def evaluate(net):
    return net.weight

train = iterative(Training(init, advance, evaluate), {"lr": Float(0.0, 1.0)}, steps=2, name="train")
cache = StageCache(sys.argv[1])
upstream = inputs_key((1.0,))
configs = [{"train.lr": 0.25}, {"train.lr": 0.5}]
study = StudyRun("own", FullTraining(configs, 2),
                 lambda config, step: stage_path([train], config, upstream, step))
cluster = FuturesCluster(lambda: worker_processes(2), [train], (1.0,), cache, workers=2)
with cluster, SearchPlan(cache=cache) as plan:
    run_studies([study], Scheduler(plan), cluster)
print(sorted(study.values.values()), study.errors)
"""


def test_a_script_s_own_classes_are_states_in_worker_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OWN_CLASS_SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[0.5, 1.0] {}"
