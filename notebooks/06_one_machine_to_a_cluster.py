# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One machine to a cluster
#
# The same pipeline, from this thread to processes, to several drivers on one database. Nothing in
# the stages changes. The cells that need a cluster are shown as text.
#
# Install what this notebook needs with `pip install ".[notebook]"` in a clone.

# %%
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd

from eeipu import Float, Int, Pipeline, StageCache, Tuner, report, stage

optuna.logging.set_verbosity(optuna.logging.WARNING)

TRIALS = 8


@stage(space={"width": Int(2, 9)})
def prepare(data, *, width):
    time.sleep(0.4)  # stands for work
    return data / width


@stage(space={"lr": Float(1e-3, 1.0, log=True)}, num_cpus=1, retries=2)
def train(prepared, *, lr):
    time.sleep(0.6)
    return -abs(prepared - 0.2) - (lr - 0.05) ** 2


pipeline = Pipeline([prepare, train])

# %% [markdown]
# ## This thread, then two processes
#
# `max_parallel` is all it takes. The unit is a stage call: while one trial trains, another
# prepares, and a call that two trials need runs once.

# %%
walls = {}
for workers in (1, 2):
    tuner = Tuner(
        pipeline, budget=60.0, max_parallel=workers, cache=StageCache(f"cache-{workers}"), seed=0
    )
    began = time.perf_counter()
    study = tuner.run(1.0, max_trials=TRIALS, progress=False)
    walls[workers] = time.perf_counter() - began

pd.Series(walls, name="seconds of wall-clock time").rename_axis("workers").round(1)

# %% [markdown]
# Starting two processes takes a few seconds (the first call of each), which these short stages
# hardly repay. Who did what, and when:

# %%
report.timeline_figure(study)

# %% [markdown]
# ## Several drivers, one study
#
# On a cluster the same script starts on several hosts. They share a database and a directory; here
# two processes on this machine do, with SQLite. They share one budget, take turns at choosing, and
# no configuration runs twice.

# %%
Path("tune.py").write_text(
    """
import sys
from eeipu import Float, Int, Pipeline, StageCache, Tuner, stage

@stage(space={"width": Int(2, 9)}, cost=lambda width: 1.0)
def prepare(data, *, width):
    return data / width

@stage(space={"lr": Float(1e-3, 1.0, log=True)}, cost=lambda lr: 2.0)
def train(prepared, *, lr):
    return -abs(prepared - 0.2) - (lr - 0.05) ** 2

tuner = Tuner(Pipeline([prepare, train]), budget=20.0, cache=StageCache("shared-cache"),
              storage="sqlite:///tune.db", study_name="demo", seed=0)
tuner.run(1.0, progress=False)
"""
)
drivers = [
    subprocess.Popen([sys.executable, "tune.py"], stderr=subprocess.DEVNULL) for _ in range(2)
]
print("exit codes", [driver.wait() for driver in drivers])

study = report.load_study("tune.db")
shared = pd.DataFrame(report.export_rows(study))
print(f"{len(shared)} trials, {shared['charged'].sum():.0f} of 20 units spent")

# %% [markdown]
# What happens if one is killed? The other takes over its trial, from the stages that it had
# finished.
#
# ## SLURM
#
# The same script, with a database between hosts and a directory that all of them see:
#
# ```python
# tuner = Tuner(pipeline, budget=36_000.0, cache=StageCache("/scratch/me/cache"), seed=0,
#               storage="postgresql+psycopg://me@db.cluster/tune", study_name="demo")
# ```
#
# ```bash
# #!/bin/bash
# #SBATCH --array=1-8 --gpus=1 --cpus-per-task=4 --time=08:00:00 --requeue
# srun python tune.py
# ```
#
# ## Ray and Dask
#
# One driver, whose calls run on a cluster. A stage gets what it declares (`num_cpus`, `num_gpus`):
#
# ```python
# from eeipu.executors import RayExecutor
# Tuner(pipeline, budget=3600.0, max_parallel=8, executor=RayExecutor("auto"), cache=cache)
#
# from distributed import Client
# client = Client("scheduler:8786")
# Tuner(pipeline, budget=3600.0, max_parallel=8, executor=client.get_executor(), cache=cache)
# ```
#
# Which one? One machine: `max_parallel`. Jobs of a queue: the same script in each. A cluster of Ray
# or Dask that runs already: its executor.
