"""What stages need and this process does not have is refused before anything runs."""

import threading

import pytest
import torch
from loky import cpu_count

from eeipu import ConfigurationError, Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.executors.local_resources import visible_gpus
from eeipu.executors.opening import open_pool
from eeipu.executors.pool import InlinePool
from eeipu.stages.running.worker import Job

CORES = cpu_count()
IN_THIS_PROCESS = [{}, {"executor": "threads", "max_parallel": 2}]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def pipeline_of(ran=None, **needs):
    @stage(space={"x": Float(0.0, 1.0)}, version="1", **needs)
    def train(data, *, x):
        if ran is not None:
            ran.append(x)
        return x

    return Pipeline([train])


@pytest.mark.parametrize("workers", IN_THIS_PROCESS)
@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"timeout": 5.0}, r"'train' has a timeout of 5 s.*executor=\"processes\""),
        ({"num_gpus": 4}, "'train' needs 4 GPUs, and there are 0 here.*name an executor"),
        ({"num_cpus": 4096}, "'train' needs 4096 CPU cores, and there are.*name an executor"),
    ],
)
def test_what_this_process_does_not_have_is_refused_before_work_starts(workers, needs, words):
    ran = []
    tuner = Tuner(pipeline_of(ran, **needs), budget=1e3, method="random", **workers)
    with pytest.raises(ConfigurationError, match=words):
        tuner.run(1.0, max_trials=1)
    assert (ran, tuner.study.trials) == ([], [])


@pytest.mark.parametrize("needs", [{"timeout": 5.0}, {"num_gpus": 4}, {"num_cpus": 4096}])
def test_the_pool_of_a_plan_refuses_the_same(needs):
    with pytest.raises(ConfigurationError, match="'train'"):
        InlinePool(Job(pipeline_of(**needs).stages))


@pytest.mark.parametrize("needs", [{"timeout": 5.0}, {"num_gpus": 4}, {"num_cpus": 4096}])
def test_one_configuration_runs_whatever_clusters_are_asked_for(needs):
    assert pipeline_of(**needs).run({"train.x": 0.5}, 1.0).value == 0.5


def test_processes_refuse_more_cores_than_there_are(tmp_path):
    job = Job(pipeline_of(num_cpus=4096).stages, (), StageCache(tmp_path))
    with pytest.raises(ConfigurationError, match="4096 CPU cores"), open_pool("processes", 2, job):
        pass


@pytest.mark.parametrize("workers", IN_THIS_PROCESS)
def test_what_this_machine_has_is_there(workers):
    tuner = Tuner(pipeline_of(num_cpus=CORES), budget=1e3, method="random", **workers)
    assert len(tuner.run(1.0, max_trials=2).trials) == 2


def test_code_for_one_gpu_can_be_tried_without_and_the_log_says_so(caplog):
    tuner = Tuner(pipeline_of(num_gpus=1), budget=1e3, method="random")
    assert len(tuner.run(1.0, max_trials=1).trials) == 1
    assert "'train' declares 1 GPU, and there is none here" in caplog.text


def test_gpus_that_are_there_are_enough(monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    InlinePool(Job(pipeline_of(num_gpus=2).stages))
    with pytest.raises(ConfigurationError, match="needs 3 GPUs, and there are 2 here"):
        InlinePool(Job(pipeline_of(num_gpus=3).stages))
    assert caplog.text == ""


def test_without_a_list_of_gpus_torch_knows_them(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]


def test_threads_share_the_gpus_that_there_are(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    lock, together = threading.Lock(), []

    @stage(space={"k": Int(0, 99)}, version="1", num_gpus=1)
    def train(*, k):
        together.append(lock.acquire(blocking=False))
        threading.Event().wait(0.05)
        lock.release()
        return float(k)

    tuner = Tuner(
        Pipeline([train]), budget=1e3, method="random", executor="threads", max_parallel=3, seed=0
    )
    tuner.run(max_trials=6, progress=False)
    assert together == [True] * 6
