"""Stages as Ray tasks, on one machine or a cluster.

An output that has just been made stays in Ray's object store, and goes to the next task as its
argument: Ray sends the task to where it lies. It is copied once into memory that processes share,
and once out of it, which is less than to read a cache entry and check it; outputs below 100 kB
travel with Ray's messages. What is not in the object store any more comes from the cache.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from eeipu.errors import MissingExtraError
from eeipu.executors.jobs import (
    PackedJob,
    has_job,
    has_output_apart,
    keep_job,
    pack_task,
    run_apart,
)
from eeipu.executors.stage_executor import StageExecutor
from eeipu.serialization import transport
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask, TaskResult

__all__ = ["RayExecutor"]

logger = logging.getLogger("eeipu")


@dataclass(frozen=True)
class _Held:
    """An output, or inputs, in the object store for as long as this is held."""

    ref: Any


class RayExecutor(StageExecutor):
    """Workers of a Ray cluster, each stage call with the CPUs and GPUs that its stage declares.

    What does not fit at once waits in Ray's own queue, by which a cluster knows to grow. A GPU task
    has a process of its own, as always in Ray: devices cannot be changed in a process that has
    used them.

    Args:
        address: Where to connect to, as in `ray.init`; `None` starts Ray on this machine, unless a
            cluster is there to be found. A Ray that runs already in this process is used as it is:
            call `ray.init` yourself for anything else that it takes.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError(
                f'a RayExecutor needs Ray ({error}); pip install "eeipu[ray]"'
            ) from error
        self._ray = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            ray.init(address)
        errors = ray.exceptions
        self._deaths = (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,  # Ray ends the process that takes the most
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
        )
        # The driver retries, and knows what it costs.
        once = {"max_retries": 0, "num_returns": 2}
        self._on_cpu = ray.remote(**once)(_run)
        self._on_gpu = ray.remote(**once, num_gpus=1, max_calls=1)(_run)
        self._job: tuple[str, Any] | None = None
        self._known: set[Resources] = set()
        self._futures: set[Future[Any]] = set()  # those that have not ended

    def can_take(self, needs: Resources) -> bool:
        """Always: what has no room yet waits in Ray's queue."""
        if needs not in self._known:
            self._known.add(needs)
            self._check_room(needs)
        return True

    def _check_room(self, needs: Resources) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(needs.fit(Resources(n.get("CPU", 0), n.get("GPU", 0))) for n in nodes):
            logger.warning(
                "no node of the Ray cluster has %s now; what needs them waits until one comes",
                needs,
            )

    def submit_with(
        self, needs: Resources, function: Callable[..., Any], /, *args: Any
    ) -> "Future[Any]":
        """See `StageExecutor`."""
        remote = self._ray.remote(max_retries=0)(lambda: transport.dumps(function(*args)))
        ref = remote.options(**_options(needs)).remote()
        return self._followed(ref, transport.loads)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See `concurrent.futures.Executor`."""
        return self.submit_with(Resources(), partial(fn, *args, **kwargs))

    def submit_task(
        self, job: PackedJob, task: StageTask, *, with_job: bool = False
    ) -> "Future[Any]":
        """See `StageExecutor`. A worker fetches the job from the object store by itself."""
        del with_job
        needs = task.call.resources
        remote = self._on_gpu if needs.num_gpus > 0 else self._on_cpu
        result_ref, output_ref = remote.options(name=task.call.name, **_options(needs)).remote(
            job.name, self._job_refs(job), pack_task(replace(task, args=None)), self._args_ref(task)
        )

        result_ref.future().add_done_callback(partial(_heed, output_ref))
        return self._followed(result_ref, partial(_opened, task, output_ref))

    def _job_refs(self, job: PackedJob) -> list[Any]:
        """The job in the object store; inside a list, a reference is not fetched before a call."""
        if self._job is None or self._job[0] != job.name:
            self._job = job.name, self._ray.put(job.data)
        return [self._job[1]]

    def _args_ref(self, task: StageTask) -> Any:
        """A task's arguments in the object store; `None` where the worker finds them."""
        args = task.args
        if args is None:
            return None
        if len(args) == 1 and isinstance(args[0], _Held):
            return args[0].ref
        at_hand = [self._fetched(each) if isinstance(each, _Held) else each for each in args]
        return self._ray.put(transport.segments(tuple(at_hand)))

    def _fetched(self, held: _Held) -> Any:
        """An output that is one of several arguments, which travel together."""
        (output,) = transport.loads_apart(self._ray.get(held.ref))
        return output

    def _followed(self, ref: Any, opened: Callable[[Any], Any]) -> "_Followed":
        end = partial(self._ray.cancel, ref, force=True)
        future = _Followed(end, opened, self._ray.exceptions.ObjectLostError)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        ref.future().add_done_callback(future.settle)
        return future

    def is_death(self, error: BaseException) -> bool:
        """See `StageExecutor`."""
        return isinstance(error, self._deaths)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`; Ray itself goes on if it ran before."""
        running = list(self._futures)
        if cancel_futures or not wait:
            for future in running:
                future.cancel()
        if wait:
            wait_for(running)
        self._job = None
        if self._is_ours:
            self._ray.shutdown()


def _run(name: str, jobs: list[Any], packed: bytes, args: Any) -> Any:
    """Run a task in a Ray worker, which fetches the job once."""
    if not has_job(name):
        import ray

        keep_job(name, ray.get(jobs[0]))
    return run_apart(name, packed, args)


class _Followed(Future[Any]):
    """The future result of a task. Cancelling it ends the task.

    Args:
        end: Ends the task.
        opened: Result -> what is made of it.
        lost: The exception that says that what the task was to get is gone, with its node.
    """

    def __init__(
        self, end: Callable[[], None], opened: Callable[[Any], Any], lost: type[Exception]
    ) -> None:
        super().__init__()
        self._end = end
        self._opened = opened
        self._lost = lost

    def cancel(self) -> bool:
        if not self.done():
            self._end()
        return super().cancel()

    def settle(self, done: "Future[Any]") -> None:
        """Take over what the task has come to, in a thread of Ray's."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self._opened(done.result()))
        except self._lost:
            self.set_result(TaskResult(None))
        except Exception as error:
            self.set_exception(error)


def _opened(task: StageTask, output_ref: Any, packed: bytes) -> TaskResult:
    """A result, with a handle in place of its output."""
    result: TaskResult = transport.loads(packed)
    if result.run is None or not has_output_apart(task, result):
        return result
    return replace(result, run=replace(result.run, output=_Held(output_ref)))


def _heed(output_ref: Any, done: "Future[Any]") -> None:
    """Look at the error of an output too: Ray prints those that nobody has looked at."""
    if done.exception() is not None:
        output_ref.future()


def _options(needs: Resources) -> dict[str, float]:
    return {"num_cpus": needs.num_cpus, "num_gpus": needs.num_gpus}
