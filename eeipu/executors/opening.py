"""Opening the workers that a tuner was asked to use, and the cache that they can share."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

from eeipu.cache import InMemory, StageCache
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import ConfigurationError
from eeipu.executors.dask import for_stages
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.local_resources import check_cores, lacking_gpus, visible_gpus
from eeipu.executors.pool import InlinePool, Pool
from eeipu.executors.processes import ProcessExecutor, gpu_shares
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stages.declaration import Stage
from eeipu.stages.running.worker import Job

__all__ = ["ExecutorLike", "needs_directory", "open_pool", "opened_cache", "temporary_cache"]

ExecutorLike = Literal["processes", "threads"] | Executor | Callable[[], Executor] | Pool

_PREFIX = "eeipu-cache-of-"

# The share of the free disk space that a temporary cache may use.
DISK_SHARE = 0.25


def needs_directory(executor: ExecutorLike | None, max_parallel: int) -> bool:
    """Whether workers may be other processes, which cannot read a cache in this one's memory.

    Args:
        executor: The argument of a tuner.
        max_parallel: How many stage calls run at once.
    """
    if executor is None:
        return max_parallel > 1
    if isinstance(executor, Pool):
        return not executor.shares_memory
    return executor != "threads" and not isinstance(executor, ThreadPoolExecutor)


def opened_cache(
    cache: StageCache | InMemory | None, executor: ExecutorLike | None, max_parallel: int
) -> StageCache | None:
    """The cache of a tuner: in memory means in a temporary directory where workers need one.

    Raises:
        ConfigurationError: One of the arguments `cache` and `executor` is none of the kinds that
            `Tuner` lists.
    """
    _check_executor(executor)
    if not isinstance(cache, StageCache | InMemory | None):
        raise ConfigurationError(
            f"cache must be a StageCache or None, but got {cache!r}; "
            f'for a directory, write StageCache("path").'
        )
    if not isinstance(cache, InMemory):
        return cache
    return temporary_cache() if needs_directory(executor, max_parallel) else cache.open()


def _check_executor(executor: ExecutorLike | None) -> None:
    known = executor is None or executor in ("processes", "threads")
    if not (known or isinstance(executor, Executor | Pool) or callable(executor)):
        raise ConfigurationError(
            f'executor must be "processes", "threads", a concurrent.futures.Executor, a function '
            f"that makes one, a pool of eeipu's, or None, but got {executor!r}."
        )


@contextmanager
def open_pool(
    executor: ExecutorLike | None,
    max_parallel: int,
    job: Job,
) -> Iterator[Pool]:
    """Start the workers of a run, and end them with the context: at once after an exception.

    Args:
        executor: The argument of the tuner. `None` is this thread, or local processes where several
            stage calls are to run at once. A pool of eeipu's serves this run, and is closed.
        max_parallel: How many stage calls run at once.
        job: The stages, inputs and cache.

    Yields:
        The workers.

    Raises:
        ConfigurationError: A stage needs more GPUs or cores than this machine has, or a timeout
            that workers in this process cannot keep; or workers in other processes cannot reach
            the cache.
    """
    pool = _pool(executor, max_parallel, job)
    try:
        yield pool
    except BaseException:
        pool.close(at_once=True)
        raise
    pool.close(at_once=False)


def _pool(executor: ExecutorLike | None, max_parallel: int, job: Job) -> Pool:
    if executor is None and max_parallel == 1:
        return InlinePool(job)
    if isinstance(executor, Pool):
        return _with_job(executor, job)
    if executor in (None, "processes"):
        stages = list(job.stages.values())
        check_cores(stages, max_parallel)
        gpus = _gpus(stages, max_parallel)
        executor = partial(ProcessExecutor, max_parallel, gpus=gpus)
    elif executor == "threads":
        executor = partial(ThreadPoolExecutor, max_parallel)
    assert not isinstance(executor, str)
    assert executor is not None
    return FuturesPool(for_stages(executor), max_parallel, job)


def _with_job(pool: Pool, job: Job) -> Pool:
    """A pool of the user's own, which runs the stages of this job and no other's."""
    if isinstance(pool, InlinePool | SimulatedPool):
        pool.job = job
        return pool
    mine, theirs = pool.job, job
    is_same = mine.cache is theirs.cache and mine.stages == theirs.stages
    if not (is_same and mine.run_inputs.key == theirs.run_inputs.key):
        raise ConfigurationError(
            f"{pool!r} was made for other stages, inputs or another cache than this run's; give "
            f"the executor itself, of which the run makes a pool of its own."
        )
    return pool


def _gpus(stages: Sequence[Stage], max_parallel: int) -> list[tuple[str, float]]:
    """For each local worker, its GPUs and the share of them that the most demanding stage needs."""
    most = max(stages, key=lambda stage: stage.num_gpus, default=None)
    if most is None or most.num_gpus == 0:
        return []
    devices = visible_gpus()
    shares = gpu_shares(devices, most.num_gpus)
    if not shares:
        raise lacking_gpus(most, len(devices))
    return shares[:max_parallel]


def temporary_cache() -> StageCache:
    """Make a cache in a temporary directory, which is removed when the cache is garbage-collected.

    Directories that killed processes left behind are removed as well.
    """
    _clear_after_the_dead()
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{ProcessIdentity.here()}-")
    # It need not survive a power failure, since it does not even outlive this process.
    max_bytes = DISK_SHARE * shutil.disk_usage(folder).free
    cache = StageCache(folder, max_bytes=max_bytes, durable=False)
    weakref.finalize(cache, _remove, folder, os.getpid())
    return cache


def _clear_after_the_dead() -> None:
    """Remove the temporary caches of this user's processes that were killed on this host."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).rpartition("-")[0]
        # The folder may have gone meanwhile, or may not be a cache.
        with suppress(OSError, ValueError):
            is_mine = folder.stat().st_uid == os.getuid()
            if is_mine and ProcessIdentity.parse(owner).is_alive() is False:
                shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not a forked child that exits
        shutil.rmtree(folder, ignore_errors=True)
