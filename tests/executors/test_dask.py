"""Stages as calls of a Dask cluster of two worker processes."""

import subprocess
import sys
import time

import pytest
from engines import (
    check_finds_what_one_finds,
    check_observes_what_one_observes,
    check_runs_a_notebook,
    check_survives_a_death,
    data,
    diary,
    point,
    tuner_of,
)

from eeipu import Float, Pipeline, StageCache, stage
from eeipu.executors.dask import DaskExecutor, for_stages
from eeipu.stages.resources import Resources

pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def client():
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(**options, resources={"GPU": 1}) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_dask_finds_what_one_thread_finds(client, tmp_path):
    check_finds_what_one_finds(client.get_executor(), tmp_path)


def test_a_killed_worker_is_replaced_and_its_call_tried_again(client, tmp_path):
    check_survives_a_death(client.get_executor, tmp_path)


def test_stages_are_observed_on_their_workers(client, tmp_path):
    looks = tmp_path / "looks"
    looks.mkdir()
    cache = StageCache(tmp_path / "cache")
    assert check_observes_what_one_observes(client.get_executor(), looks, cache=cache) == [2, 2, 2]


def test_what_a_notebook_defines_runs(client):
    check_runs_a_notebook(client.get_executor())


def test_a_call_that_hangs_in_a_thread_is_ended(client, tmp_path):
    def act(y, before):
        if before == 0:
            time.sleep(60)

    tuner = tuner_of(diary(tmp_path, act, timeout=0.5), executor=client.get_executor())
    tuner.enqueue(point())
    study = tuner.run(data(), max_trials=1, progress=False)
    assert study.trials[0].state.name == "COMPLETE"
    assert study.trials[0].user_attrs["charged"] >= 0.5


def test_calls_have_names_of_their_own_and_the_gpus_that_are_declared(client, monkeypatch):
    @stage(space={"a": Float(0.0, 1.0)}, num_gpus=1, version="1")
    def fit(data, *, a):
        return data + a

    @stage(space={"b": Float(0.0, 1.0)}, version="1")
    def score(fitted, *, b):
        return fitted + b

    executor, seen = client.get_executor(), []
    submit = executor.submit

    def noted(function, *args, **options):
        _, data, _ = args
        if data is None:  # not where a worker has asked for the job
            seen.append(options)
        return submit(function, *args, **options)

    monkeypatch.setattr(executor, "submit", noted)
    tuner_of(Pipeline([fit, score]), executor=executor).run(1.0, max_trials=2, progress=False)
    assert sorted(options["key"].split("-")[0] for options in seen) == [
        "fit",
        "fit",
        "score",
        "score",
    ]
    assert len({options["key"] for options in seen}) == 4
    for options in seen:
        wanted = {"GPU": 1} if options["key"].startswith("fit") else None
        assert options.get("resources") == wanted


def test_where_no_worker_declares_gpus_all_may_have_them(client, monkeypatch):
    executor = DaskExecutor(client.get_executor())
    monkeypatch.setattr(type(client), "scheduler_info", lambda self, n_workers: {"workers": {}})
    assert executor.submit_with(Resources(1.0, 5.0), abs, -1).result() == 1
    assert executor.submit(int, "12", base=8).result() == 10
    executor.shutdown()


def test_what_dask_has_lost_is_a_death(client):
    executor = DaskExecutor(client.get_executor())
    future = executor.submit(time.sleep, 60)
    time.sleep(0.1)
    client.cancel(list(executor._executor._futures))
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - whatever Dask says
        future.result()
    assert executor.is_death(raised.value)
    assert not executor.is_death(ValueError())
    executor.shutdown(wait=True, cancel_futures=True)


def test_nobody_loads_dask_for_others():
    code = (
        "import sys, eeipu.executors.opening; "
        "assert not {'distributed', 'ray'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_executors_stay_what_they_are():
    assert for_stages(lambda: 5)() == 5
