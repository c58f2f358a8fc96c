"""One run of a tuner: workers and a display are opened, and a driver runs trials on them."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from eeipu.cache import StageCache
from eeipu.executors.opening import ExecutorLike, open_pool
from eeipu.executors.pool import Pool
from eeipu.methods.budget import Budget
from eeipu.sampler import EEIPUSampler
from eeipu.stages.running.worker import Job
from eeipu.studies.displays.progress import cost_unit, showing
from eeipu.studies.storages import using_storage
from eeipu.studies.study import how_to_resume, stoppable
from eeipu.studies.trials import Trials

__all__ = ["RunsTrials", "run_to_end"]

logger = logging.getLogger("eeipu")


class RunsTrials(Protocol):
    """A driver; see `eeipu.studies.driver`."""

    was_cut: bool

    def run(self) -> str | None:
        """Run trials until a limit is reached, and say why the search has stopped."""


def run_to_end(
    kind: Callable[..., RunsTrials],
    trials: Trials,
    inputs: tuple[Any, ...],
    interrupted: threading.Event,
    *,
    upstream: str,
    cache: StageCache | None,
    budget: Budget,
    executor: ExecutorLike | None,
    max_parallel: int,
    max_trials: int | None,
    max_failures: int | None,
    progress: bool,
) -> None:
    """Run trials until a limit of the user's is reached or the search is over, and say why.

    Args:
        kind: Makes the driver.
        trials: The trials of the study.
        inputs: The arguments of the first stage.
        interrupted: Set when the user asks to stop.
        upstream: The key of the inputs.
        cache: The cache of stage outputs, if there is one.
        budget: What all trials of the study may cost together.
        executor: See `Tuner`.
        max_parallel: See `Tuner`.
        max_trials: See `Tuner.run`.
        max_failures: See `Tuner`.
        progress: See `Tuner.run`.
    """
    study, job = trials.study, Job(trials.pipeline.stages, inputs, cache, upstream)
    try:
        with (
            using_storage(),
            showing(progress) as display,
            stoppable(study),
            open_pool(executor, max_parallel, job) as pool,
        ):
            _share_processors(study.sampler, pool)
            driver = kind(
                trials,
                pool=pool,
                budget=budget,
                max_trials=max_trials,
                cache=cache,
                upstream=upstream,
                display=display,
                interrupted=interrupted,
                max_failures=max_failures,
            )
            reason = driver.run()
    except KeyboardInterrupt:
        logger.warning("%s", _resuming(trials, budget, cache))
        raise
    if driver.was_cut:
        logger.warning("%s", _resuming(trials, budget, cache))
    elif reason is not None:
        logger.warning("%s", reason)


def _resuming(trials: Trials, budget: Budget, cache: StageCache | None) -> str:
    unit = " seconds" if cost_unit(trials.pipeline) else ""
    left = f"{budget.remaining(trials.spent):.4g}{unit}" if budget.is_limited else None
    return how_to_resume(trials.study, cache, left)


def _share_processors(sampler: object, pool: Pool) -> None:
    if isinstance(sampler, EEIPUSampler):
        sampler.share_processors(pool.size > 1)
