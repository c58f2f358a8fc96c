"""Where stages run: local processes, any `concurrent.futures.Executor`, Dask, Ray, a simulation."""

from eeipu.executors.processes import ProcessExecutor
from eeipu.executors.ray import RayExecutor

__all__ = ["ProcessExecutor", "RayExecutor"]
