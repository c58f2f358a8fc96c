"""One run of a tuner whose trainings may stop early: the parts are made, and the plan is run.

The tuner's part is the study, its budget and its display; the plan's is the tree of calls, their
order and the workers. What is common to the paths of trials runs once, and a trial that goes on
does so from its checkpoint, which the cache has under its content key, whoever made it.

Several processes may run trials of one study, on one storage and one cache. They choose one at a
time and pay from one budget. Each trains the trials that it has begun, and compares them with those
of all. The trials of a process that has died begin again in another one, from their checkpoints.
"""

import threading
from dataclasses import replace

from optuna.samplers import GridSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from eeipu.algorithms.early_stopping import EarlyStopping, NoStopping
from eeipu.algorithms.runner import run_studies
from eeipu.cache import StageCache
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.executors.pool import Pool
from eeipu.methods.budget import Budget
from eeipu.methods.warm_up import in_order, spread_out
from eeipu.sampler import EEIPUSampler
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.studies.displays.progress import Display, Reporter
from eeipu.studies.early_stopping.earlier_trials import other_drivers
from eeipu.studies.early_stopping.known import KnownTrials
from eeipu.studies.early_stopping.other_trials import OtherTrials
from eeipu.studies.early_stopping.pauses import StudyWithPauses
from eeipu.studies.early_stopping.plan_study import PlanStudy
from eeipu.studies.early_stopping.run_watch import RunWatch
from eeipu.studies.early_stopping.staged_trials import StagedTrials
from eeipu.studies.early_stopping.trial_paths import TrialPaths
from eeipu.studies.run_limits import RunLimits
from eeipu.studies.study import study_id
from eeipu.studies.trials import Trials

__all__ = ["StagedDriver"]

# More trials than one run merges before it begins; their number is what `max_trials` says.
ALL_AT_ONCE = 1_000_000


class StagedDriver:
    """One call of `Tuner.run` whose trainings may stop early. It is made like a `Driver`.

    Args:
        trials: The trials of the study.
        pool: The workers that run the stages.
        budget: What all trials of the study may cost together.
        max_trials: How many trials this run may begin; `None` is any number.
        cache: Where checkpoints and outputs are kept.
        upstream: The key of the inputs.
        display: Where progress is shown.
        interrupted: Set when the user asks to stop after the calls that run now.
        max_failures: How many failures in a row end the run; see `RunLimits`.
        rule: Says how far trials are trained.
        seed: Makes the rule's own choices repeatable.

    Attributes:
        was_cut: Whether Ctrl-C ended the run before its limits did; then `run` has raised.
    """

    was_cut = False

    def __init__(
        self,
        trials: Trials,
        *,
        pool: Pool,
        budget: Budget,
        max_trials: int | None,
        cache: StageCache | None,
        upstream: str,
        display: Display,
        interrupted: threading.Event,
        max_failures: int | None,
        rule: EarlyStopping,
        seed: int | None,
    ) -> None:
        assert cache is not None, "`checked_rule` has seen to it"
        assert isinstance(trials.study, StudyWithPauses)
        self._trials, self._study = trials, trials.study
        self._pool, self._budget, self._cache = pool, budget, cache
        self._interrupted = interrupted
        self._limits = RunLimits(trials, budget, max_trials, pool.now, max_failures=max_failures)
        self._paths = TrialPaths(trials.pipeline, upstream)
        self._reporter = Reporter(trials, budget, display, workers=pool.size)
        self._rule, self._seed = rule, seed
        sampler = trials.study.sampler
        if (
            isinstance(sampler, EEIPUSampler)
            and not isinstance(rule, NoStopping)
            and sampler.method.design is in_order
        ):
            sampler.method = replace(sampler.method, design=spread_out)

    def run(self) -> str | None:
        """Run trials until a limit is reached or the search is over; see `Driver.run`.

        Raises:
            KeyboardInterrupt: Ctrl-C. Trials that are open stay open, and the next run goes on with
                them.
        """
        study, limits = self._study, self._limits
        others = other_drivers(study)
        owner = study_id(study), not isinstance(study._storage, InMemoryStorage)
        if others:  # who pin what they need under the study's name
            owner = f"{owner[0]} {ProcessIdentity.here()}", False
        try:
            with SearchPlan(cache=self._cache, pins_for=owner) as plan:
                staged = StagedTrials(
                    self._trials, study, self._paths, limits, self._cache, joins=bool(others)
                )
                watch = RunWatch(staged, plan, limits, self._reporter, self._pool)
                mine = PlanStudy(
                    study.study_name,
                    staged,
                    self._paths,
                    limits,
                    watch,
                    plan,
                    minimize=study.direction is StudyDirection.MINIMIZE,
                )
                known = KnownTrials(
                    self._trials,
                    staged,
                    self._paths,
                    self._cache,
                    self._budget,
                    mine.due,
                    minimize=study.direction is StudyDirection.MINIMIZE,
                )
                news = OtherTrials(study, staged.taken_up, self._trials.pipeline.cube.is_whole)
                mine.follow(self._rule, self._concurrency, self._seed, known, news)
                try:
                    scheduler = Scheduler(plan)
                    run_studies(
                        [mine], scheduler, self._pool, watch=watch, interrupted=self._interrupted
                    )
                except BaseException:  # Ctrl-C, or an error such as that of a callback
                    watch.settle()
                    staged.leave()
                    raise
                watch.settle()
                staged.close()
                if staged.over is not None:
                    limits.stop(staged.over)
        finally:
            limits.close()
        return limits.reason or limits.remark() or self._remark()

    def _remark(self) -> str | None:
        """A sentence for the user if trials have values, and none of the end of its training."""
        states = {trial.state for trial in self._study.get_trials(deepcopy=False)}
        if TrialState.PRUNED not in states or TrialState.COMPLETE in states:
            return None
        return (
            "no trial was trained to the end, so that the study has no best trial yet: call "
            "run(...) again with more trials or a larger budget, or choose a rule that stops fewer "
            "(reduction=..., min_steps=...)."
        )

    @property
    def _concurrency(self) -> int:
        """How many trials wait or run at the same time.

        Where nothing is learnt from them and nothing but their number ends the run, they are all
        merged before any is run, so that none runs past a step at which a later one parts from it.
        """
        sampler = self._study.sampler
        is_blind = isinstance(sampler, GridSampler | RandomSampler) or (
            isinstance(sampler, EEIPUSampler) and sampler.method.score is None
        )
        if is_blind and isinstance(self._rule, NoStopping) and not self._budget.ends:
            return ALL_AT_ONCE
        return self._pool.size
