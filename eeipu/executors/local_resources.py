"""The cores and GPUs of this machine, and stages that need more than workers in this process have.

What a stage declares is kept or refused before anything runs, for workers in this process as
follows. A timeout is refused: only a process can be ended. More cores than this machine has are
refused. More GPUs than it has are refused, but for one: code that uses a GPU where there is one can
be tried on a machine without, which is then said in the log.
"""

import logging
import os
from collections.abc import Collection

from loky import cpu_count

from eeipu.errors import ConfigurationError
from eeipu.stages.declaration import Stage
from eeipu.stages.resources import Resources

__all__ = [
    "check_cores",
    "cores_for",
    "lacking_gpus",
    "refuse_timeouts",
    "room_of_this_process",
    "visible_gpus",
]

logger = logging.getLogger("eeipu")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names of `CUDA_VISIBLE_DEVICES`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return [name for name in names if name and not name.startswith("-")]  # -1 is none
    # Only here: processes that run no stage on a GPU do without torch.
    import torch

    return [str(k) for k in range(torch.cuda.device_count())]


def lacking_gpus(stage: Stage, count: int) -> ConfigurationError:
    """The error of a stage that needs more GPUs than this machine has."""
    return ConfigurationError(
        f"stage {stage.name!r} needs {stage.num_gpus:g} GPU{'' if stage.num_gpus == 1 else 's'}, "
        f"and there {'is' if count == 1 else 'are'} {count} here; "
        f"declare what it needs on this machine, or name an executor that has them."
    )


def cores_for(workers: int) -> float:
    """The cores of this machine that this many workers share.

    Who asks for more workers than cores expects them to wait for something else: each then counts
    as a core.
    """
    return float(max(cpu_count(), workers))


def check_cores(stages: Collection[Stage], workers: int) -> float:
    """Refuse stages that need more cores than this machine has.

    Args:
        stages: The stages.
        workers: The number of workers.

    Returns:
        The number of cores (`cores_for`).

    Raises:
        ConfigurationError: A stage needs more.
    """
    cores = cores_for(workers)
    for stage in stages:
        if stage.num_cpus > cores:
            raise ConfigurationError(
                f"stage {stage.name!r} needs {stage.num_cpus:g} CPU cores, and there are {cores:g} "
                f"here; declare what it needs on this machine, or name an executor that has them."
            )
    return cores


def refuse_timeouts(stages: Collection[Stage]) -> None:
    """Refuse stages with a timeout, for workers that are threads of this process.

    Raises:
        ConfigurationError: A stage has one.
    """
    for stage in stages:
        if stage.timeout is not None:
            raise ConfigurationError(
                f"stage {stage.name!r} has a timeout of {stage.timeout:g} s, after which only a "
                f'worker process can be ended; use executor="processes", or declare no timeout.'
            )


def room_of_this_process(stages: Collection[Stage], workers: int = 1) -> Resources:
    """The cores and GPUs that calls in this process share.

    Args:
        stages: The stages that will run.
        workers: The number of threads that run calls.

    Raises:
        ConfigurationError: A stage has a timeout, or needs more than there is.
    """
    refuse_timeouts(stages)
    cores = check_cores(stages, workers)
    most = max(stages, key=lambda stage: stage.num_gpus, default=None)
    if most is None or most.num_gpus == 0:
        return Resources(cores)
    count = len(visible_gpus())
    if most.num_gpus > max(count, 1):
        raise lacking_gpus(most, count)
    if count == 0:
        logger.warning(
            "stage %r declares %g GPU, and there is none here: it runs without",
            most.name,
            most.num_gpus,
        )
    return Resources(cores, float(max(count, 1)))
