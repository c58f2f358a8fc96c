"""The trials of a study that are trained in stretches: what they reached, and what they paid."""

import logging
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.algorithms.configurations import Config
from eeipu.cache import StageCache
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import SearchOver
from eeipu.pipeline import PipelineRun, StageRun, record_run
from eeipu.sampler import EEIPUSampler
from eeipu.stage_tree.nodes import Answer, PlanNode
from eeipu.stage_tree.payments import Payment, Purpose
from eeipu.stages.paths import Path
from eeipu.stages.running.records import keys_of
from eeipu.studies.early_stopping.common_step import COSTS_BY_STEP, KEYS_BY_STEP, at_common_step
from eeipu.studies.early_stopping.earlier_trials import (
    continue_ended,
    other_drivers,
    superseded,
    take_over,
)
from eeipu.studies.early_stopping.pauses import StudyWithPauses
from eeipu.studies.early_stopping.trial_paths import TrialPaths
from eeipu.studies.records.trial_notes import TrialNotes, flat_notes
from eeipu.studies.run_limits import RunLimits
from eeipu.studies.trials import Trials

__all__ = ["StagedTrial", "StagedTrials"]

logger = logging.getLogger("eeipu")

# User attributes of a trial with the parts of what it has paid that are not a first run.
_TOLD_APART = {
    "load_s": Purpose.TRANSFERS,
    "lost_s": Purpose.LOSSES,
    "repeated_s": Purpose.REPEATS,
}


@dataclass(eq=False)
class StagedTrial:
    """A trial, and how far it is.

    Attributes:
        trial: The trial in the study.
        params: Its configuration.
        curve: Step -> value, as evaluated.
        costs: The same for what the stages have cost up to there, by the step as text.
        keys: The same for the content keys of the stages' outputs.
        overhead: What the budget pays for the choice of the configuration.
        paid_s: What it has paid, by stage and purpose.
        ran: The calls that were run for it, with the times of the system's clock.
        is_open: Whether the study has it as running: it may be trained further.
        has_failed: Whether a stage has failed or pruned it; it gives no further value.
    """

    trial: optuna.Trial
    params: Mapping[str, Any]
    curve: dict[int, float] = field(default_factory=dict)
    costs: dict[str, list[float | None]] = field(default_factory=dict)
    keys: dict[str, list[str | None]] = field(default_factory=dict)
    overhead: float = 0.0
    paid_s: dict[tuple[str, Purpose], float] = field(default_factory=lambda: defaultdict(float))
    ran: list[tuple[str, float, float]] = field(default_factory=list)
    is_open: bool = True
    has_failed: bool = False

    @property
    def number(self) -> int:
        """The trial's number in the study."""
        return self.trial.number

    def paid_for(self, stage: str) -> float:
        """What it has paid for a stage."""
        return math.fsum(s for (name, _), s in self.paid_s.items() if name == stage)

    def has_run(self, stage: str) -> bool:
        """Whether a call of a stage was run for it."""
        return any((stage, purpose) in self.paid_s for purpose in (Purpose.RUNS, Purpose.REPEATS))

    @property
    def charged(self) -> float:
        """All that the budget has paid for it."""
        return math.fsum([self.overhead, *self.paid_s.values()])


class StagedTrials:
    """The trials of one run, in the order in which the algorithm gets their configurations.

    Trials that earlier runs have begun come first, so that the algorithm comes to where they had
    it; their values are known. A trial that an earlier run left open goes on; one that it stopped
    goes on under a new number, because Optuna ends a trial for good.

    Attributes:
        taken_up: The numbers of the trials of earlier runs that this one goes on with.
        over: Why there is no further configuration, if there is none.
        rungs: Step -> how many trials have a value there.

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
            self._earlier = deque(self._of_earlier_runs(joins=joins))
        self.taken_up = frozenset(mine.number for mine in self._earlier)
        self._failures: dict[PlanNode, StageRun] = {}
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

    def _of_earlier_runs(self, *, joins: bool) -> Iterator[StagedTrial]:
        is_whole = self._trials.pipeline.cube.is_whole
        all_trials = self._study.get_trials(deepcopy=False)
        others, gone_on = other_drivers(self._study), superseded(all_trials)
        for trial in all_trials:
            has_all, is_open = is_whole(trial.params), trial.state is TrialState.RUNNING
            driver = trial.user_attrs.get("driver")
            if joins and driver != self._driver:
                continue
            if is_open and driver is not None and driver not in others:
                mine = take_over(self._trials, trial, self._driver, is_whole=has_all)
                if mine is not None:
                    yield self._known(mine, trial)
            elif (
                has_all
                and trial.state.is_finished()
                and trial.intermediate_values
                and trial.number not in gone_on
            ):
                known = self._known(optuna.Trial(self._study, trial._trial_id), trial)
                known.is_open = False
                yield known

    def _known(self, mine: optuna.Trial, trial: FrozenTrial) -> StagedTrial:
        space = self._trials.pipeline.space
        params = {name: trial.params[name] for name in space if name in trial.params}
        known = StagedTrial(mine, params, dict(trial.intermediate_values))
        known.ran = list(trial.user_attrs.get("ran", ()))
        known.costs = dict(trial.user_attrs.get(COSTS_BY_STEP, {}))
        known.keys = dict(trial.user_attrs.get(KEYS_BY_STEP, {}))
        known.has_failed = trial.state is TrialState.FAIL or "error" in trial.user_attrs
        known.overhead = trial.user_attrs.get("charged") or 0.0  # all that was paid before
        return known

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
            try:
                trial, params = self._trials.begin(self._cache, self._driver)
            except SearchOver as over:
                self.over = over
                return None
            mine = StagedTrial(trial, params)
            self._all.append(mine)
            waited_s = waited()
            mine.overhead = self._limits.charge_for_choice(trial, waited_s)
            notes = TrialNotes(trial)
            notes.set_user_attr("waited_s", waited_s)
            notes.set_user_attr("overhead", mine.overhead)
            notes.set_user_attr("charged", mine.charged)
            notes.write()
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

    def pay(self, payments: Iterable[Payment]) -> None:
        """Let trials pay for what was run for them."""
        touched = {}
        for payment in payments:
            mine = self._all[-1 if payment.trial is None else payment.trial]
            stage = payment.node.stretches[0].call.stage
            mine.paid_s[stage, payment.purpose] += payment.seconds
            touched[mine.number] = mine
        for mine in touched.values():
            if mine.is_open:
                with self._unless_taken_over(mine):
                    mine.trial.set_user_attr("charged", mine.charged)
                self._study.look_again(mine.number)

    def note_failure(self, node: PlanNode, run: StageRun) -> None:
        """Take note of how a node has failed."""
        self._failures[node] = run

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
        run = self._trials.pipeline.join(self._stage_runs(mine, answer), calls)
        notes = TrialNotes(mine.trial)  # which a database takes in one go
        record_run(notes, calls, run)
        notes.set_user_attr("charged", mine.charged)
        notes.set_user_attr("ran", mine.ran)
        flat = flat_notes(run.stage_names, run.stage_costs, run.reused, run.metrics)
        for name, noted in flat.items():
            notes.set_user_attr(name, noted)
        for name, purpose in _TOLD_APART.items():
            seconds = (s for (_, each), s in mine.paid_s.items() if each is purpose)
            notes.set_user_attr(name, math.fsum(seconds))
        if not self._paths.are_same(config, mine.params, step):
            notes.set_user_attr("schedules", _in_words(path))
        is_new = False
        if run.value is None:
            mine.has_failed = True
        else:
            mine.keys[str(step)] = keys_of(run.stage_names, calls)
            notes.set_user_attr(KEYS_BY_STEP, dict(mine.keys))
            is_new = self._note_value(mine, step, run, notes)
        with self._unless_taken_over(mine):
            notes.write()
            if is_new and run.value is not None:
                self.rungs[step] += 1
                mine.trial.report(run.value, step)
        return run

    @contextmanager
    def _unless_taken_over(self, mine: StagedTrial) -> Iterator[None]:
        """Leave a trial to another process that has taken it for dead, having found this silent."""
        try:
            yield
        except UpdateFinishedTrialError as error:
            logger.warning("a trial was taken over by another driver: %s", error)
            mine.is_open, mine.has_failed = False, True
            self._study.go_on(mine.number)

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

    def _stage_runs(self, mine: StagedTrial, answer: Answer) -> list[StageRun]:
        """What each stage of a trial's path has given, as far as it was run."""
        nodes = list(answer.request.node.ancestry())[::-1]
        runs = []
        broken = None if answer.error is None else _broken(nodes)
        for name in self._trials.pipeline.stage_names:
            own = [node for node in nodes if node.stretches[0].call.stage == name]
            if broken is not None and broken in own:
                failed = self._failures.get(broken)
                flags = {} if failed is None else _flags(failed)
                paid = mine.paid_for(name)
                runs.append(
                    StageRun(name, own[-1].key, paid, error=answer.error, charged=paid, **flags)
                )
            elif own and (broken is None or all(node.cost_s is not None for node in own)):
                runs.append(self._stage_run(mine, name, own))
        if answer.error is None:
            runs[-1] = replace(runs[-1], output=answer.value)
        elif broken is None:  # a call above, whose output is there again by now
            runs[-1] = replace(runs[-1], error=answer.error)
        return runs

    @staticmethod
    def _stage_run(mine: StagedTrial, name: str, own: Sequence[PlanNode]) -> StageRun:
        """What a stage has given whose nodes have run, for this trial or for another."""
        cost_s = math.fsum(node.cost_s or 0.0 for node in own)
        has_run = mine.has_run(name)
        return StageRun(
            name,
            own[-1].key,
            cost=cost_s if has_run else None,
            memoized=not has_run,
            charged=mine.paid_for(name),
            saved=0.0 if has_run else cost_s,
        )

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
            with self._unless_taken_over(mine):
                mine.trial.set_user_attr("charged", mine.charged)  # raises where it has been ended
                self._trials.end(mine.trial, None if is_pruned else value, is_pruned=is_pruned)

    def close(self) -> None:
        """End the trials that are still open: they will not be trained further in this run.

        One without a value has not been trained yet. It is cut off, and runs again first.
        """
        for index, mine in enumerate(self._all):
            if mine.curve or not mine.is_open:
                self.end(index, None, is_pruned=True)
            else:
                mine.is_open = False
                self._trials.interrupt(mine.trial)


def _broken(nodes: Iterable[PlanNode]) -> PlanNode | None:
    """The first node that has failed."""
    return next((node for node in nodes if node.error is not None and not node.has_state), None)


def _flags(failed: StageRun) -> dict[str, Any]:
    names = ("is_transient", "is_bug", "is_about_values", "is_pruned")
    return {name: getattr(failed, name) for name in names}


def _in_words(path: Path) -> dict[str, list[list[Any]]]:
    """Stage -> what its hyper-parameters were, from which of its steps on."""
    words: dict[str, list[list[Any]]] = {}
    for stretch in (stretch for part in path.parts() for stretch in part.stretches):
        if stretch.call.params:
            since = [stretch.start - stretch.origin, dict(stretch.call.params)]
            words.setdefault(stretch.call.stage, []).append(since)
    return words
