"""Where stages run: local processes, any `concurrent.futures.Executor`, Dask, Ray, a simulation.

Public: ProcessExecutor, RayExecutor, `simulated_pool` (SimulatedPool), `opening` (open_pool).
Read `pool` (the protocol Pool) first, then `futures_pool` (FuturesPool), which runs calls on any
executor, and `jobs`, which sends them to other processes. `stage_executor` is the base of
executors that know what a call needs: `processes`, `ray`, `dask`. `local_resources` says what this
machine has.
"""

from eeipu.executors.processes import ProcessExecutor
from eeipu.executors.ray import RayExecutor

__all__ = ["ProcessExecutor", "RayExecutor"]
