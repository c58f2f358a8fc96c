"""One run of a tuner: workers and a display are opened, and a driver runs trials on them."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from eeipu.cache import StageCache
from eeipu.executors.opening import ExecutorLike, open_pool
from eeipu.executors.pool import Pool
from eeipu.fingerprints.keys import inputs_key
from eeipu.methods.budget import Budget
from eeipu.pipeline import PipelineRun
from eeipu.sampler import EEIPUSampler
from eeipu.stages.running.worker import Job
from eeipu.studies.changes import Remarks
from eeipu.studies.displays.progress import cost_unit, showing
from eeipu.studies.early_stopping.pauses import StudyWithPauses
from eeipu.studies.early_stopping.trial_paths import TrialPaths
from eeipu.studies.records.best_trials import best_trial
from eeipu.studies.records.recorded_runs import recorded_run
from eeipu.studies.storages import using_storage
from eeipu.studies.study import how_to_resume, stoppable
from eeipu.studies.trials import Trials

__all__ = ["RunSetting", "RunsTrials", "run_of_best", "run_to_end"]

logger = logging.getLogger("eeipu")


class RunsTrials(Protocol):
    """A driver; see `eeipu.studies.driver`."""

    was_cut: bool

    def run(self) -> str | None:
        """Run trials until a limit is reached, and say why the search has stopped."""


@dataclass(frozen=True)
class RunSetting:
    """What all runs of a tuner have in common; see `Tuner`.

    Attributes:
        kind: Makes the driver.
        trials: The trials of the study.
        budget: What all of them may cost together.
        cache: The cache of stage outputs, if there is one.
        executor: What runs the stages.
        max_parallel: How many stage calls run at once.
        max_failures: How many failed trials in a row end a run.
        remarks: Which trials do not count, as the user knows it.
    """

    kind: Callable[..., RunsTrials]
    trials: Trials
    budget: Budget
    cache: StageCache | None
    executor: ExecutorLike | None
    max_parallel: int
    max_failures: int | None
    remarks: Remarks = field(default_factory=Remarks)

    def remark(self) -> None:
        """Say which trials do not count, once."""
        self.remarks.say(self.trials.history)

    def how_to_resume(self) -> str:
        """A sentence for the user about how to go on after an interruption."""
        unit = " seconds" if cost_unit(self.trials.pipeline) else ""
        remaining = self.budget.remaining(self.trials.spent)
        left = f"{remaining:.4g}{unit}" if self.budget.is_limited else None
        return how_to_resume(self.trials.study, self.cache, left)


def run_to_end(
    setting: RunSetting,
    inputs: tuple[Any, ...],
    upstream: str,
    interrupted: threading.Event,
    max_trials: int | None,
    *,
    progress: bool,
) -> None:
    """Run trials until a limit of the user's is reached or the search is over, and say why.

    Args:
        setting: What all runs of the tuner have in common.
        inputs: The arguments of the first stage.
        upstream: The key of the inputs.
        interrupted: Set when the user asks to stop.
        max_trials: See `Tuner.run`.
        progress: See `Tuner.run`.
    """
    study, cache = setting.trials.study, setting.cache
    job = Job(setting.trials.pipeline.stages, inputs, cache, upstream)
    try:
        with (
            using_storage(),
            showing(progress) as display,
            stoppable(study),
            open_pool(setting.executor, setting.max_parallel, job) as pool,
        ):
            _share_processors(study.sampler, pool)
            driver = setting.kind(
                setting.trials,
                pool=pool,
                budget=setting.budget,
                max_trials=max_trials,
                cache=cache,
                upstream=upstream,
                display=display,
                interrupted=interrupted,
                max_failures=setting.max_failures,
            )
            reason = driver.run()
    except KeyboardInterrupt:
        logger.warning("%s", setting.how_to_resume())
        raise
    if driver.was_cut:
        logger.warning("%s", setting.how_to_resume())
    elif reason is not None:
        logger.warning("%s", reason)


def run_of_best(setting: RunSetting, inputs: tuple[Any, ...], number: int | None) -> PipelineRun:
    """The run of the best trial, or of another one, as the study has it; see `Tuner.best_run`."""
    trials, cache = setting.trials, setting.cache
    if isinstance(trials.study, StudyWithPauses):
        trial = best_trial(trials.study, number=number)
        calls = TrialPaths(trials.pipeline, inputs_key(inputs)).calls_of(trial)
        return recorded_run(trial, trials.pipeline, inputs, cache, calls)
    history = trials.history
    trial = best_trial(trials.study, history, number)
    stages = history.stages.names_of(trial)
    return recorded_run(trial, trials.pipeline, inputs, cache, stage_names=stages)


def _share_processors(sampler: object, pool: Pool) -> None:
    if isinstance(sampler, EEIPUSampler):
        sampler.share_processors(pool.size > 1)
