"""The workers that a tuner opens, and the cache that they share."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from toys import Toy

import eeipu
from eeipu import Float, Pipeline, StageCache, Tuner, stage
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.executors.opening import temporary_cache


def tuner_of(pipeline, **arguments):
    return Tuner(pipeline, budget=1e3, method="random", seed=0, max_parallel=2, **arguments)


def test_workers_elsewhere_cannot_share_a_cache_in_memory():
    with pytest.raises(eeipu.ConfigurationError, match=r"cache in memory.*StageCache\(directory\)"):
        tuner_of(Toy().pipeline, cache=StageCache()).run(1.0, max_trials=1)


def test_the_temporary_cache_is_removed_with_the_tuner():
    @stage(version="1", space={"x": Float(0.0, 1.0)})
    def train(data, *, x):
        return data + x

    tuner = tuner_of(Pipeline([train]))
    tuner.run(1.0, max_trials=1, progress=False)
    folder = Path(tuner.cache.location)
    assert any(folder.iterdir())
    del tuner
    assert not folder.exists()


def test_temporary_caches_of_the_dead_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = ProcessIdentity.of(process.pid)
    process.communicate(b"\n", timeout=60)
    here = ProcessIdentity.here()
    reused = replace(here, created_s=here.created_s - 100.0)
    elsewhere = replace(dead, host="elsewhere")
    for owner in (dead, reused):
        (tmp_path / f"eeipu-cache-of-{owner}-a").mkdir()
    names = [f"eeipu-cache-of-{owner}-b" for owner in (here, elsewhere, "someone")] + ["eeipu-mine"]
    for name in names:
        (tmp_path / name).mkdir()
    cache = temporary_cache()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names, Path(cache.location).name}


def test_a_stage_that_needs_more_gpus_than_there_are(monkeypatch):
    @stage(version="1", num_gpus=1, space={"x": Float(0.0, 1.0)})
    def train(data, *, x):
        return x

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(eeipu.ConfigurationError, match=r"'train' needs 1 GPU,.*there are 0"):
        tuner_of(Pipeline([train])).run(1.0)
