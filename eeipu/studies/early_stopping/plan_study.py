"""A tuner's study as a client of a stage tree: an algorithm decides how far trials are trained."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from eeipu.algorithms.configurations import Config
from eeipu.algorithms.early_stopping import EarlyStopping, Setting
from eeipu.algorithms.freeze_thaw import Known
from eeipu.algorithms.moves import Algorithm, Ask, Move, News, Stop, no_news
from eeipu.algorithms.study_run import StudyRun
from eeipu.pipeline import PipelineRun
from eeipu.stage_tree.nodes import Answer, PlanNode
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.runs import StageRun
from eeipu.studies.early_stopping.run_watch import RunWatch
from eeipu.studies.early_stopping.staged_trial import StagedTrial
from eeipu.studies.early_stopping.staged_trials import StagedTrials
from eeipu.studies.early_stopping.trial_paths import TrialPaths
from eeipu.studies.run_limits import RunLimits

__all__ = ["PlanStudy"]


class PlanStudy(StudyRun):
    """The study of one run of a tuner.

    Args:
        name: Its name in the plan.
        trials: The trials, in the order in which the algorithm gets them.
        paths: The paths of configurations.
        limits: When nothing further begins.
        watch: Follows the run of the plan.
        plan: The plan on which they are trained.
        minimize: Whether smaller is better.
    """

    def __init__(
        self,
        name: str,
        trials: StagedTrials,
        paths: TrialPaths,
        limits: RunLimits,
        watch: RunWatch,
        plan: SearchPlan,
        *,
        minimize: bool,
    ) -> None:
        self._trials = trials
        self._paths = paths
        self._plan = plan
        self._limits = limits
        self._watch = watch
        self._seen: dict[str, int] = {}  # configuration -> the first trial that has it
        super().__init__(name, _Nothing(), paths, minimize=minimize)

    def follow(
        self,
        rule: EarlyStopping,
        concurrency: int,
        seed: int | None,
        known: Known | None = None,
        news: News = no_news,
    ) -> None:
        """Let a rule decide how far trials are trained.

        Args:
            rule: The rule.
            concurrency: The number of trials that wait or run at the same time.
            seed: Makes the rule's own choices repeatable.
            known: What is known of the trials, for a rule with a model of its own.
            news: What has changed of the trials of other processes.

        Raises:
            ConfigurationError: The rule does not fit the number of steps.
        """
        setting = Setting(
            configs=_Source(lambda: self._trials.begin(self.due, self._watch.take_waited)),
            steps=self._paths.steps,
            concurrency=concurrency,
            space=self._paths.space,
            seed=seed,
            should_prune=lambda index: self._trials[index].trial.should_prune(),
            known=known,
            news=news,
        )
        self.algorithm = _Bounded(rule.algorithm(setting), self)

    def request(self, ask: Ask, scheduler: Scheduler) -> None:
        """Request what an algorithm asks for, from the latest checkpoint that there is.

        An earlier run or another process may have made it, at a step that this plan has not met.
        """
        for step in sorted((s for s in self._trials.rungs if s < ask.step), reverse=True):
            training = self._paths.training(ask.config, step)
            if training is None or self._plan.knows(training):
                break
        super().request(ask, scheduler)

    # --- What it answers the algorithm

    def known(self, move: Ask) -> tuple[bool, float | None]:
        """Whether a trial's value at a step is known already, and which it is, to be maximised."""
        mine, step = self._trials[move.trial], move.step
        if step in mine.curve and self._was_trained_with(move.config, mine, step):
            return True, -mine.curve[step] if self.minimize else mine.curve[step]
        return mine.has_failed, None

    def _was_trained_with(self, config: Config, mine: StagedTrial, step: int) -> bool:
        """Whether a trial has come to a step with this configuration.

        A member of a population has been trained with schedules, which its parameters do not tell.
        """
        if self._paths.are_same(config, mine.params, step):
            return True
        path, keys = self._paths(config, step), mine.keys.get(str(step))
        return keys is not None and path.key(len(path)) in keys

    def goes_on(self, move: Ask) -> bool:
        """Let a trial be trained to a step, unless nothing further begins; then it pauses."""
        mine = self._trials[move.trial]
        is_new = mine.is_open and not mine.curve
        if not is_new and not self._limits.allow_more(self.due()):
            if mine.is_open:
                self._trials.pause(move.trial)
            return False
        self._trials.go_on(move.trial, move.step)
        return True

    def stops(self, index: int) -> None:
        """End a trial that is not trained further, unless it has ended."""
        self._trials.end(index, None, is_pruned=True)

    def fails(self, index: int, step: int) -> None:
        """End a trial that has failed before anything was run for it."""
        if not self._trials[index].has_failed:
            self._trials.refuse(index, self.errors.get((index, step), "it failed"))

    def due(self) -> Iterator[float]:
        """Yield what the calls that run or wait are still expected to cost."""
        nodes: dict[str, PlanNode] = {}
        for _, key in self._open:
            node = self._plan.tree[str(key)]
            assert isinstance(node, PlanNode)
            nodes |= {n.key: n for n in node.ancestry() if n.must_run or n.is_running}
        yield from map(self._watch.expected_cost, nodes.values())

    # --- What the plan answers

    def read(self, answer: Answer, step: int) -> tuple[float | None, StageRun | None]:
        """Write down what a trial has reached; see `StudyRun`."""
        index = answer.request.trial
        self._watch.settle(reaching=index)
        mine = self._trials[index]
        run = self._trials.reached(answer, step, self.configs[index])
        if run.value is None:
            self.errors[index, step] = run.error or ""
            self._trials.end(index, None, is_pruned=run.is_pruned)
        else:
            self.values[index, step] = run.value
            if step >= self._paths.steps:
                self._trials.end(index, run.value)
            else:
                self._trials.pause(index)
        self._limits.judge(self._as_judged(run, index, mine.params))
        self._watch.report(mine, step, run)
        return run.value, None

    def _as_judged(self, run: PipelineRun, index: int, params: Mapping[str, Any]) -> PipelineRun:
        """A run; as one that reused nothing, unless another trial has the same configuration."""
        if self._seen.setdefault(repr(sorted(params.items())), index) != index:
            return run
        return replace(run, stage_runs=tuple(replace(r, memoized=False) for r in run.stage_runs))


class _Source(Iterator[Config]):
    """Yields a configuration whenever another trial may begin; it may end, and go on later."""

    def __init__(self, begin: Callable[[], Config | None]) -> None:
        self._begin = begin

    def __next__(self) -> Config:
        config = self._begin()
        if config is None:
            raise StopIteration
        return config


class _Nothing:
    """An algorithm that asks for nothing."""

    def start(self) -> list[Move]:
        return []

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:  # noqa: ARG002
        return []


class _Bounded:
    """An algorithm that is told what is known already, and whose trials go on while they may.

    Args:
        algorithm: The algorithm of the rule.
        study: Answers it.
    """

    def __init__(self, algorithm: Algorithm, study: PlanStudy) -> None:
        self._algorithm = algorithm
        self._study = study

    def start(self) -> list[Move]:
        return self._bounded(self._algorithm.start())

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        if value is None:
            self._study.fails(trial, step)
        return self._bounded(self._algorithm.tell(trial, step, value))

    def _bounded(self, moves: Iterable[Move]) -> list[Move]:
        pending: deque[Move] = deque(moves)
        bounded: list[Move] = []
        while pending:
            move = pending.popleft()
            if isinstance(move, Stop):
                self._study.stops(move.trial)
                bounded.append(move)
                continue
            is_known, value = self._study.known(move)
            if is_known:
                pending.extend(self._algorithm.tell(move.trial, move.step, value))
            elif self._study.goes_on(move):
                bounded.append(move)
        return bounded
