"""Local worker processes, each of which may die without harm to the others."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from importlib import import_module
from typing import Any

import psutil
from loky import cpu_count
from loky.process_executor import ProcessPoolExecutor

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.counts import counted
from eeipu.errors import ConfigurationError
from eeipu.executors.jobs import PackedJob, pack_task, run_packed
from eeipu.executors.local_resources import cores_for
from eeipu.executors.stage_executor import StageExecutor
from eeipu.executors.worker_processes import begin
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask

__all__ = ["ProcessExecutor", "gpu_shares"]

# The share of the machine's memory by which all workers together may grow from call to call. One
# that grows by more than its part is replaced by a new process: its stages may leak.
MEMORY_SHARE = 0.5


class ProcessExecutor(StageExecutor):
    """Workers on this machine, each a loky pool of one process.

    One pool of many processes breaks as a whole when one of them dies, and nobody knows whose call
    it was. Here only the call of the worker that died is lost, and a new one takes its place.

    Args:
        max_workers: The number of workers. By default, the number of CPU cores.
        gpus: The devices that each worker sees, as in `CUDA_VISIBLE_DEVICES`, and how many GPUs it
            may lend to a call (see `gpu_shares`). Workers beyond the list have none.

    Raises:
        ConfigurationError: There is no worker, or more entries in `gpus` than workers.
    """

    def __init__(
        self, max_workers: int | None = None, *, gpus: Sequence[tuple[str, float]] = ()
    ) -> None:
        count = cpu_count() if max_workers is None else max_workers
        if count < 1 or len(gpus) > count:
            raise ConfigurationError(
                f"a pool needs a worker at least, and one for each entry of gpus, but got "
                f"max_workers={max_workers!r} and gpus={gpus!r}."
            )
        self._num_cpus = cores_for(count)
        growth = MEMORY_SHARE * psutil.virtual_memory().total / count
        devices = [*gpus, *[("", 0.0)] * (count - len(gpus))]
        self._workers = [_Worker(growth, *each) for each in devices]
        for worker in self._workers:  # they load what they need while the first trial is chosen
            worker.start()

    def can_take(self, needs: Resources) -> bool:
        """See `StageExecutor`. A call of more cores than there are waits until it is alone."""
        taken = sum(worker.needs.num_cpus for worker in self._workers if worker.is_busy)
        return bool(self._free_for(needs)) and (
            taken == 0 or taken + needs.num_cpus <= self._num_cpus
        )

    def _free_for(self, needs: Resources) -> "list[_Worker]":
        """The free workers with the fewest GPUs that suffice."""
        free = [w for w in self._workers if not w.is_busy and w.num_gpus >= needs.num_gpus]
        fewest = min((worker.num_gpus for worker in free), default=0.0)
        return [worker for worker in free if worker.num_gpus == fewest]

    def submit_task(
        self, job: PackedJob, task: StageTask, *, with_job: bool = False
    ) -> "Future[Any]":
        """See `StageExecutor`. A worker that has the training state to go on from comes first."""
        free = self._free_for(task.call.resources)
        if not free:
            return super().submit_task(job, task, with_job=with_job)  # which says why
        worker = max(free, key=lambda each: (each.state == task.upstream, each.state == ""))
        data = job.data if with_job or worker.job != job.name else None
        worker.job = job.name
        if task.call.is_training or task.call.resumes:
            worker.state = task.call.key if task.call.is_training else task.upstream
        return worker.submit(task.call.resources, run_packed, job.name, data, pack_task(task))

    def submit_with(
        self, needs: Resources, function: Callable[..., Any], /, *args: Any
    ) -> "Future[Any]":
        """See `StageExecutor`.

        Raises:
            ConfigurationError: No worker that is free has what the call needs.
        """
        free = self._free_for(needs)
        if not free:
            raise ConfigurationError(
                f"no free worker has {needs}; the executor has "
                f"{counted(len(self._workers), 'worker')}, "
                f"{sum(w.num_gpus > 0 for w in self._workers)} of them with GPUs."
            )
        return free[0].submit(needs, function, *args)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See `concurrent.futures.Executor`; but there must be a free worker."""
        return self.submit_with(Resources(), partial(fn, **kwargs), *args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`; without `wait`, running calls are ended at once."""
        del cancel_futures  # there is no queue
        for worker in self._workers:
            worker.shutdown(kill=not wait)


class _Worker:
    """A process that takes one call at a time, and is replaced when it dies.

    Args:
        growth: By how many bytes it may grow from call to call before a new process replaces it.
        devices: The GPUs that it sees, as in `CUDA_VISIBLE_DEVICES`.
        num_gpus: How many GPUs it may lend to a call.

    Attributes:
        needs: What its last call takes.
        job: The name of the job that it was sent last.
        state: The key of the training state that it has in memory; empty if there is none.
    """

    def __init__(self, growth: float, devices: str, num_gpus: float) -> None:
        self._growth = growth
        self.num_gpus = num_gpus
        self.job = self.state = ""
        self.needs = Resources(0.0, 0.0)
        self._devices = devices
        self._pool: ProcessPoolExecutor | None = None
        self._future: Future[Any] | None = None

    @property
    def is_busy(self) -> bool:
        return self._future is not None and not self._future.done()

    def submit(self, needs: Resources, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        self.needs = needs
        try:
            self._future = self._running_pool().submit(function, *args)
        except BrokenExecutor:  # it died, under its last call or since
            self._pool = None
            self._future = self._running_pool().submit(function, *args)
        return self._future

    def start(self) -> None:
        self._running_pool().submit(import_module, "eeipu.executors.jobs")

    def _running_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                initializer=begin,
                initargs=(ProcessIdentity.here(), self._growth),
                env={"CUDA_VISIBLE_DEVICES": self._devices},
            )
        return self._pool

    def shutdown(self, *, kill: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(kill_workers=kill)
            self._pool = None


def gpu_shares(devices: Sequence[str], num_gpus: float) -> list[tuple[str, float]]:
    """The workers among whom GPUs are shared out.

    Args:
        devices: What `CUDA_VISIBLE_DEVICES` calls them.
        num_gpus: What the most demanding stage needs: a fraction puts several workers on one GPU.

    Returns:
        For each worker its devices, and how many GPUs it may lend.

    >>> gpu_shares(["0", "1"], 0.5)
    [('0', 0.5), ('1', 0.5), ('0', 0.5), ('1', 0.5)]
    >>> gpu_shares(["0", "1", "2"], 2)
    [('0,1', 2.0)]
    """
    if num_gpus <= 0:
        return []
    if num_gpus < 1:
        return [(device, num_gpus) for _ in range(int(1 / num_gpus)) for device in devices]
    size = math.ceil(num_gpus)
    groups = [devices[k : k + size] for k in range(0, len(devices) - size + 1, size)]
    return [(",".join(group), float(size)) for group in groups]
