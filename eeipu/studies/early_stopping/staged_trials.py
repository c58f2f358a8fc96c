"""The trials of a study that are trained in stretches: what they reached, and what they paid."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection

from eeipu.algorithms.configurations import Config
from eeipu.cache import StageCache
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import SearchOver
from eeipu.pipeline import PipelineRun, record_run
from eeipu.sampler import EEIPUSampler
from eeipu.stage_tree.nodes import Answer
from eeipu.stage_tree.payments import Payment
from eeipu.stages.paths import Path
from eeipu.stages.running.records import keys_of
from eeipu.stages.running.trial_notes import TrialNotes, flat_notes
from eeipu.studies.drivers.dead_drivers import RUNS
from eeipu.studies.drivers.driver_queue import NOBODY
from eeipu.studies.early_stopping.answered_runs import AnsweredRuns
from eeipu.studies.early_stopping.common_step import COSTS_BY_STEP, KEYS_BY_STEP, at_common_step
from eeipu.studies.early_stopping.earlier_trials import continue_ended, earlier_trials
from eeipu.studies.early_stopping.pauses import StudyWithPauses
from eeipu.studies.early_stopping.staged_trial import StagedTrial
from eeipu.studies.early_stopping.trial_paths import TrialPaths
from eeipu.studies.run_limits import RunLimits
from eeipu.studies.trials import Trials

__all__ = ["StagedTrials"]

logger = logging.getLogger("eeipu")


class StagedTrials:
    """The trials of one run, in the order in which the algorithm gets their configurations.

    Trials that earlier runs have begun come first, so that the algorithm comes to where they had
    it; their values are known. A trial that an earlier run left open goes on; one that it stopped
    goes on under a new number, because Optuna ends a trial for good.

    Attributes:
        taken_up: The numbers of the trials of earlier runs that this one goes on with.
        over: Why there is no further configuration, if there is none.
        rungs: Step -> how many trials have a value there.
        answers: What the stages of the trials have given.

    Args:
        trials: Begins and ends the trials of the study.
        study: The study.
        paths: The paths of configurations.
        limits: When no further trial begins.
        cache: The cache of stage outputs.
        joins: Whether other processes run trials of the study. Then those of earlier runs are
            left to them, or begin again where a process has died.
    """

    def __init__(
        self,
        trials: Trials,
        study: StudyWithPauses,
        paths: TrialPaths,
        limits: RunLimits,
        cache: StageCache,
        *,
        joins: bool = False,
    ) -> None:
        self._trials = trials
        self._study = study
        self._better = max if study.direction is StudyDirection.MAXIMIZE else min
        self._paths = paths
        self._limits = limits
        self._cache = cache
        self._driver = str(ProcessIdentity.here())
        sampler, least = study.sampler, len(trials.pipeline.space) + 1
        learns = isinstance(sampler, EEIPUSampler) and sampler.method.score is not None
        trials.lens = partial(at_common_step, least=least) if learns else None
        self._all: list[StagedTrial] = []
        # Of several processes that begin at the same time, one at a time looks for such trials.
        with cache.holders.claim(f"trials of {trials.study_id}"):
            self._earlier = deque(earlier_trials(trials, self._driver, joins=joins))
        self.taken_up = frozenset(mine.number for mine in self._earlier)
        self.answers = AnsweredRuns(trials.pipeline.stage_names)
        self.rungs: Counter[int] = Counter()
        self.over: SearchOver | None = None

    def __iter__(self) -> Iterator[StagedTrial]:
        return iter(tuple(self._all))

    def __getitem__(self, index: int) -> StagedTrial:
        return self._all[index]

    # --- A trial begins

    @property
    def earlier(self) -> int:
        """How many trials of earlier runs come before the next new one."""
        return len(self._earlier)

    def begin(
        self, due: Callable[[], Iterable[float]], waited: Callable[[], float]
    ) -> Config | None:
        """The configuration of the next trial; `None` while no trial may begin.

        Args:
            due: What the calls that run or wait are still expected to cost.
            waited: The seconds during which workers have waited, since it was last asked.
        """
        if self._earlier:
            self._all.append(self._earlier.popleft())
            self.rungs.update(self._all[-1].curve.keys())
        elif self.over is not None or not self._limits.allow_new(due()):
            return None
        else:
            self._limits.count_trial()
            overhead = 0.0

            def note_choice(notes: TrialNotes, trial: optuna.Trial, *_: Any) -> None:
                nonlocal overhead
                waited_s = waited()
                overhead = self._limits.charge_for_choice(trial, waited_s)
                notes.set_user_attr("waited_s", waited_s)
                notes.set_user_attr("overhead", overhead)
                notes.set_user_attr("charged", overhead)
                notes.set_user_attr(RUNS, False)

            try:
                begun = self._trials.begin(self._cache, self._driver, note_more=note_choice)
            except SearchOver as over:
                self.over = over
                return None
            self._all.append(StagedTrial(*begun, overhead=overhead))
        return self._all[-1].params

    def go_on(self, index: int, step: int) -> StagedTrial:
        """Let a trial be trained to a step, under another number if the study has ended it."""
        mine = self._all[index]
        if not mine.is_open:
            ended = self._study._storage.get_trial(mine.trial._trial_id)
            again = continue_ended(self._trials, ended, self._driver, step)
            curve = {at: value for at, value in mine.curve.items() if at < step}
            mine = self._all[index] = StagedTrial(again, mine.params, curve, dict(mine.costs))
        self._study.go_on(mine.number)
        return mine

    # --- A trial is trained

    def runs(self, index: int) -> None:
        """Note that a call of a trial runs, which may be what kills this process."""
        mine = self._all[index]
        if mine.is_open and not mine.runs:
            mine.runs = True
            with _unless_taken_over(self._study, mine):
                mine.trial.set_user_attr(RUNS, True)

    def pay(self, payments: Iterable[Payment], reaching: int | None = None) -> None:
        """Let trials pay for what was run for them.

        Args:
            payments: What they pay.
            reaching: The trial whose account `reached` is about to write.
        """
        touched = {}
        for payment in payments:
            mine = self._all[-1 if payment.trial is None else payment.trial]
            stage = payment.node.first.call.stage
            mine.paid_s[stage, payment.purpose] += payment.seconds
            touched[mine.number] = mine
        for mine in touched.values():
            if mine.is_open and (reaching is None or mine is not self._all[reaching]):
                with _unless_taken_over(self._study, mine):
                    _write_account(mine)
                self._study.look_again(mine.number)

    def reached(self, answer: Answer, step: int, config: Config) -> PipelineRun:
        """Write down what a trial has reached: its value at a step, or its failure.

        Args:
            answer: The plan's answer.
            step: The step.
            config: What the trial was trained with; schedules are written down.

        Returns:
            The run of the configuration's stages up to here.
        """
        mine, path = self._all[answer.request.trial], answer.request.node.path
        calls = self._paths.calls(mine.params, path)
        run = self._trials.pipeline.join(self.answers.of(mine, answer), calls)
        notes = TrialNotes(mine.trial)  # which a database takes in one go
        record_run(notes, calls, run)
        mine.note_account(notes)
        notes.set_user_attr("ran", mine.ran)
        notes.set_user_attr(RUNS, False)
        mine.runs = False
        if mine.has_died:  # from here on, others would not be in a row
            notes.set_user_attr("deaths", 0)
            mine.has_died = False
        flat = flat_notes(run.stage_names, run.stage_costs, run.reused, run.metrics)
        for name, noted in flat.items():
            notes.set_user_attr(name, noted)
        if not self._paths.are_same(config, mine.params, step):
            notes.set_user_attr("schedules", _in_words(path))
        is_new = False
        if run.value is None:
            mine.has_failed = True
        else:
            mine.keys[str(step)] = keys_of(run.stage_names, calls)
            notes.set_user_attr(KEYS_BY_STEP, dict(mine.keys))
            is_new = self._note_value(mine, step, run, notes)
        with _unless_taken_over(self._study, mine):
            if is_new and run.value is not None:
                with notes.gathering():
                    mine.trial.report(run.value, step)
            notes.write()
            self.rungs[step] += is_new and run.value is not None
        return run

    def _note_value(
        self, mine: StagedTrial, step: int, run: PipelineRun, notes: TrialNotes
    ) -> bool:
        """Note a value at a step, and return whether there was none."""
        assert run.value is not None
        known, mine.curve = mine.curve, {**mine.curve, step: run.value}
        mine.costs[str(step)] = run.stage_costs
        notes.set_user_attr(COSTS_BY_STEP, dict(mine.costs))
        best = self._better(mine.curve, key=lambda at: mine.curve[at])
        notes.set_user_attr("best_step", best)
        notes.set_user_attr("best_value", mine.curve[best])
        # What a part of the training has cost says nothing about the cost of the whole.
        part = self._paths.counted_in(mine.params) if step < self._paths.steps else None
        notes.set_user_attr("pruned_stage", part)
        return step not in known

    # --- A trial ends

    def refuse(self, index: int, why: str) -> None:
        """Let a trial fail whose configuration is none."""
        mine = self._all[index]
        mine.has_failed = True
        if mine.is_open:
            mine.trial.set_user_attr("error", why)
        self.end(index, None)

    def pause(self, index: int) -> None:
        """Let a trial wait for what the algorithm decides."""
        self._study.pause(self._all[index].number)

    def end(self, index: int, value: float | None, *, is_pruned: bool = False) -> None:
        """End a trial, unless it has ended: with its value, pruned, or as a failure."""
        mine = self._all[index]
        if mine.is_open:
            self._study.go_on(mine.number)
            mine.is_open = False
            with _unless_taken_over(self._study, mine):
                _write_account(mine)
                _check_is_open(self._study, mine)
                self._trials.end(mine.trial, None if is_pruned else value, is_pruned=is_pruned)

    def close(self) -> None:
        """End the trials that are still open: they will not be trained further in this run.

        One without a value has not been trained yet. It is cut off, and runs again first. Of
        earlier runs, there may be trials that the algorithm has not asked for.
        """
        self._all += self._earlier
        for index, mine in enumerate(self._all):
            if mine.curve or not mine.is_open:
                self.end(index, None, is_pruned=True)
            else:
                mine.is_open = False
                self._trials.interrupt(mine.trial)

    def leave(self) -> None:
        """Leave the open trials as they are to the next run, of this process or another."""
        still_open = [mine for mine in (*self._all, *self._earlier) if mine.is_open]
        for mine in still_open:
            self._trials.heart.stop_for(mine.trial)
        for mine in still_open:
            with _unless_taken_over(self._study, mine):
                mine.trial.set_user_attr("driver", NOBODY)


def _write_account(mine: StagedTrial) -> None:
    """Write what a trial has paid into the study."""
    notes = TrialNotes(mine.trial)
    mine.note_account(notes)
    notes.write()


def _check_is_open(study: StudyWithPauses, mine: StagedTrial) -> None:
    """Raise `UpdateFinishedTrialError` where another process has ended a trial."""
    storage, trial_id = study._storage, mine.trial._trial_id
    storage.check_trial_is_updatable(trial_id, storage.get_trial(trial_id).state)


@contextmanager
def _unless_taken_over(study: StudyWithPauses, mine: StagedTrial) -> Iterator[None]:
    """Leave a trial to another process that has taken it for dead, having found this silent."""
    try:
        yield
    except UpdateFinishedTrialError as error:
        logger.warning("a trial was taken over by another driver: %s", error)
        mine.is_open, mine.has_failed = False, True
        study.go_on(mine.number)


def _in_words(path: Path) -> dict[str, list[list[Any]]]:
    """Stage -> what its hyper-parameters were, from which of its steps on."""
    words: dict[str, list[list[Any]]] = {}
    for stretch in (stretch for part in path.parts() for stretch in part.stretches):
        if stretch.call.params:
            since = [stretch.start - stretch.origin, dict(stretch.call.params)]
            words.setdefault(stretch.call.stage, []).append(since)
    return words
