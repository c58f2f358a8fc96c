"""Plans on real workers: threads and processes run what the simulation runs."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from threading import Event, Lock

import pytest
import torch
from counting import pipeline, prep

from eeipu import Int, StageCache, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.halving import ASHA
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.study_run import StudyRun
from eeipu.errors import ConfigurationError, EeipuError
from eeipu.executors.futures_pool import FuturesPool
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.stages.resources import Resources
from eeipu.stages.running.worker import Job
from eeipu.stages.schedules import Constant, Piecewise
from eeipu.stages.torch_training.loop import torch_loop

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


def job(cache, stages=None, inputs=("data",)):
    return Job(pipeline().stages if stages is None else stages, inputs, cache)


def run(studies, executor, cache, plan=None, **options):
    plan = SearchPlan(cache=cache) if plan is None else plan
    pool = FuturesPool(executor, 2, job(cache), **options)
    run_studies(studies, Scheduler(plan), pool)
    return plan, pool


def expected(configs):
    return {
        (trial, 4): pytest.approx(sum(each["train.lr"](step) for step in range(4)))
        for trial, each in enumerate(configs)
    }


def test_threads_answer_every_trial():
    mine = study(FullTraining(CONFIGS, 4))
    with ThreadPoolExecutor(2) as executor:
        plan, pool = run([mine], executor, StageCache())
    assert mine.values == expected(CONFIGS)
    assert sum(node.steps for node in plan.tree if node.cost_s is not None) == (
        plan.tree.distinct_steps
    )
    assert pool.now() > 0
    assert pool.can_take(Resources())


@pytest.mark.parametrize(("threads", "workers"), [(2, 2), (1, 2), (2, 1)])
def test_torch_does_not_train_in_several_threads_of_a_process(threads, workers):
    training = torch_loop(torch.nn.Identity, torch.optim.SGD, torch.nn.functional.mse_loss, int)
    refused = pytest.raises(ConfigurationError, match="trains with torch")
    stages = [prep, iterative(training, {}, steps=1, version="1")]
    with (
        ThreadPoolExecutor(threads) as executor,
        refused if threads == workers else nullcontext(),
    ):
        FuturesPool(executor, workers, job(StageCache(), stages, ()))


def test_processes_share_states_through_a_directory(tmp_path):
    mine = study(ASHA(CONFIGS, [1, 4], eta=2, concurrency=2))
    with processes() as executor:
        plan, _ = run([mine], executor, StageCache(tmp_path))
    assert {trial for trial, step in mine.values if step == 1} == set(range(len(CONFIGS)))
    assert sum(step == 4 for _, step in mine.values) >= len(CONFIGS) // 2
    assert all(node.has_state for node in plan.tree if node.cost_s is not None)


def test_processes_cannot_share_memory():
    with processes() as executor, pytest.raises(ConfigurationError, match="StageCache"):
        FuturesPool(executor, 1, job(StageCache()))


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
    with FuturesPool(executor, 2, job(cache, pipeline(DYING).stages)) as pool:
        if not renews:
            with pytest.raises(EeipuError, match="the executor broke under stage 'train'"):
                run_studies([mine], Scheduler(plan), pool)
            return
        run_studies([mine], Scheduler(plan), pool)
    assert mine.values == {(0, 4): 1.0, (1, 4): 1.5}
    # No loss where another batch shared the pool when it broke: then it may have been the culprit.
    assert max(node.losses for node in plan.tree) <= 1


def test_a_worker_that_always_dies_fails_nobody_else(tmp_path):
    mine = study(FullTraining([config("kills", 3), *(config("naps", n) for n in (1, 2, 3))], 4))
    plan = SearchPlan(cache=StageCache(tmp_path))
    context = multiprocessing.get_context("fork")
    with FuturesPool(
        lambda: ProcessPoolExecutor(4, mp_context=context), 4, job(plan.cache)
    ) as pool:
        run_studies([mine], Scheduler(plan), pool)
    assert mine.values == {(1, 4): 0.75, (2, 4): 0.5, (3, 4): 0.25}
    assert mine.errors.keys() == {(0, 4)}
    assert sorted(node.losses for node in plan.tree)[-2:] == [0, 3]
    worked_s = sum(node.cost_s for node in plan.tree if node.has_state and node.cost_s is not None)
    assert plan.spent_s > worked_s  # what was lost is paid for


def test_workers_that_never_gave_a_result_ask_for_a_guard(tmp_path):
    cache, stages = StageCache(tmp_path), [stage(name="die", version="1")(os._exit)]
    mine = StudyRun("study", FullTraining([{}], 1), lambda c, s: stage_path(stages, c, "up", s))
    with FuturesPool(processes, 1, job(cache, stages, (1,))) as pool:
        run_studies([mine], Scheduler(SearchPlan(cache=cache)), pool)
    assert "__main__" in mine.errors[0, 1]


def test_what_a_dead_worker_left_in_the_cache_is_not_lost(tmp_path):
    marker = Constant(str(tmp_path / "marker"))
    configs = [{"prep.dims": 8, "train.lr": Piecewise([0.5, "dies"], [2]), "train.marker": marker}]
    cache = StageCache(tmp_path / "cache")
    mine = StudyRun("study", FullTraining(configs, 4), dying_pipeline(marker), objective="sum")
    plan = SearchPlan(cache=cache)
    with FuturesPool(processes, 2, job(cache, pipeline(DYING).stages)) as pool:
        run_studies([mine], Scheduler(plan), pool)
    assert mine.values == {(0, 4): 1.0}
    assert {node.describe().split()[0]: node.losses for node in plan.tree if node.losses} == {
        "train": 1
    }
    assert plan.tree[path_prefix(configs[0], marker)].losses == 0


def path_prefix(config, marker):
    """The key after the first two steps."""
    return dying_pipeline(marker)(config, 4).key(3)


@pytest.mark.parametrize("train", [GAINED, stage(gained, name="train")])
def test_a_global_that_has_changed_since_the_pool_was_made_counts(monkeypatch, train):
    cache, stages, values = StageCache(), [train], []
    with ThreadPoolExecutor(1) as executor, SearchPlan(cache=cache) as plan:
        pool = FuturesPool(executor, 1, job(cache, stages, (1.0,)))
        for gain in (1.0, 10.0):
            monkeypatch.setitem(GAIN, "k", gain)
            mine = StudyRun(
                str(gain), FullTraining([{}], 2), lambda c, step: stage_path(stages, c, "up", step)
            )
            with pytest.warns(match="changed since") if values else nullcontext():
                run_studies([mine], Scheduler(plan), pool)
            values += mine.values.values()
    assert values in ([2.0, 20.0], [1.0, 10.0])


def test_an_interrupt_waits_for_what_runs_and_the_same_pool_goes_on(monkeypatch):
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
    monkeypatch.setattr("eeipu.executors.futures_pool.wait", wait_for)
    with ThreadPoolExecutor(1) as executor:
        pool = FuturesPool(executor, 2, job(cache, [run_once], ()))
        for _ in range(2):
            mine = StudyRun(
                "study",
                FullTraining([{"run_once.k": k} for k in range(3)], 1),
                lambda c, step: stage_path([run_once], c, "", step),
            )
            with suppress(KeyboardInterrupt):
                run_studies([mine], Scheduler(plan), pool)
    assert mine.values == {(k, 1): float(k) for k in range(3)}
    assert sorted(ran) == [0, 1, 2]


def test_an_error_of_the_machinery_is_a_failure_of_its_trial():
    class Refusing(ThreadPoolExecutor):
        def submit(self, function, *args):
            return super().submit(lambda: 1 / 0)

    mine = study(FullTraining(CONFIGS[:1], 4))
    with Refusing(1) as executor:
        run([mine], executor, StageCache())
    assert "ZeroDivisionError" in mine.errors[0, 4]


def test_a_missing_state_is_made_again():
    cache = StageCache()
    mine = study(FullTraining(CONFIGS[:1], 4))
    with ThreadPoolExecutor(1) as executor:
        plan, _ = run([mine], executor, cache)
        cache.clear()  # behind the plan's back
        longer = study(FullTraining([config(0.5, 2), config(0.5, 3)], 4), "longer")
        run([longer], executor, cache, plan)
    assert longer.values == expected([config(0.5, 2), config(0.5, 3)])


def test_inputs_that_cannot_be_hashed_have_a_name_of_the_users_own():
    mine = study(FullTraining(CONFIGS[:1], 4))
    with ThreadPoolExecutor(1) as executor:
        pool = FuturesPool(executor, 1, job(StageCache(), inputs=(Lock(),)))
        run_studies([mine], Scheduler(SearchPlan(cache=pool.job.cache)), pool)
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
    executor = (lambda: made.pop() if made else make()) if renews else broken
    with FuturesPool(executor, 2, job(cache)) as pool:
        if not renews:
            with pytest.raises(EeipuError, match="the executor broke"):
                run_studies([mine], Scheduler(SearchPlan(cache=cache)), pool)
            return
        run_studies([mine], Scheduler(SearchPlan(cache=cache)), pool)
    assert mine.values == expected(CONFIGS)


KILLED = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from eeipu import StageCache
from eeipu.algorithms.full_training import FullTraining
from eeipu.executors.futures_pool import FuturesPool
from eeipu.stages.running.worker import Job
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
    run_studies([study], Scheduler(plan), FuturesPool(executor, 1, Job([stage], (), cache)))
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
from eeipu.stages.running.worker import Job
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.fingerprints.keys import inputs_key
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.executors.opening import open_pool

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
plan, job = SearchPlan(cache=cache), Job([train], (1.0,), cache)
with open_pool("processes", 2, job) as pool:
    run_studies([study], Scheduler(plan), pool)
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
