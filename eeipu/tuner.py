"""The tuner: it spends a budget on the most promising configurations of a pipeline.

`Tuner.run` chooses configurations and runs their stages. With `Tuner.ask` and `Tuner.tell` the
caller runs the stages and reports values and costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import optuna
import torch
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from eeipu.algorithms.early_stopping import EarlyStopping
from eeipu.cache import IN_MEMORY, InMemory, StageCache
from eeipu.executors.interrupts import interruptible
from eeipu.executors.opening import ExecutorLike, opened_cache
from eeipu.fingerprints.keys import inputs_key
from eeipu.methods.budget import Budget
from eeipu.pipeline import Pipeline, PipelineRun
from eeipu.sampler import Recommendation, check_price, recommended
from eeipu.space import Params
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.schedules import Schedule
from eeipu.studies import arguments
from eeipu.studies.asked_trials import AskedTrials
from eeipu.studies.changes import retry_failed
from eeipu.studies.driver import Driver
from eeipu.studies.drivers.dead_drivers import reclaim_dead_trials
from eeipu.studies.early_stopping.checks import check_metrics, checked_rule, pruner_of
from eeipu.studies.early_stopping.pauses import StudyWithPauses
from eeipu.studies.early_stopping.replay import schedules_of
from eeipu.studies.early_stopping.staged_driver import StagedDriver
from eeipu.studies.given.ask_and_tell import Suggestion
from eeipu.studies.given.earlier_studies import EarlierStudy, earlier_studies
from eeipu.studies.given.enqueued import enqueue, enqueue_best_of_earlier
from eeipu.studies.given.known_results import add_result
from eeipu.studies.given.reported_values import Reported
from eeipu.studies.one_run import RunSetting, run_of_best, run_to_end
from eeipu.studies.records.best_trials import best_trial
from eeipu.studies.records.recommended import tuner_html
from eeipu.studies.storages import using_storage
from eeipu.studies.study import (
    Direction,
    note_settings,
    open_study,
    warn_of_changed_code,
    warn_of_other_inputs,
)
from eeipu.studies.trials import Callback, Trials

__all__ = ["Recommendation", "Suggestion", "Tuner"]


class Tuner:
    """Spends a budget on the configurations of a pipeline that promise the most per unit of cost.

    Args:
        pipeline: The pipeline to tune.
        budget: What all trials together may cost, warm-up included: seconds, or the unit of
            the declared costs. Trials that run when the budget is used up are finished, and no
            further trial begins. Where costs are measured, it also pays the seconds of looking at
            the inputs, of loading and keeping outputs, and those during which a worker was idle
            because a configuration was being chosen or the last results were being written down.
            `None`: no such limit; then `timeout`, or `max_trials` of `run`, ends a run.
        timeout: After this many seconds a call of `run` begins no further trial, and finishes those
            that run. They are counted from the moment when the workers have been opened. `None`: no
            such limit.
        overhead: What choosing a configuration costs, in the unit of the declared costs. The budget
            is charged for each configuration that was not enqueued. `None`: nothing where costs are
            declared. Where they are measured, the seconds during which at least one worker waited
            for the configuration; any `overhead` is charged instead of these.
        direction: `"maximize"` or `"minimize"`.
        directions: The direction of each objective, where the pipeline has several.
        method: A name in `eeipu.methods.catalogue.METHODS`, or any Optuna sampler.
        top_q: The stage outputs of this many best trials are kept for reuse.
        n_initial: How many trials the warm-up has. Enqueued trials count. By default 10,
            or fewer, but not fewer than 3, if these have cost a quarter of the budget (always 10
            for `"eeipu-paper"`).
        cache: The cache of stage outputs. By default it is in memory (for workers in other
            processes, in a temporary directory on this machine) and takes at most a quarter of
            the free space there. `None` turns memoization off.
        storage: The storage of the study, as Optuna takes it: a URL, a storage object, or `None`
            for memory. The same call on the same storage continues the study.
        study_name: The study's name in the storage; by default the pipeline's name.
        seed: Makes the search repeatable.
        price: The worth of a unit of cost, in the unit of the objective. The search ends as soon as
            no candidate's expected improvement is worth its expected cost. With `None`, the search
            goes on until the budget is spent.
        stop_when_done: Whether the search ends as soon as no trial can be expected to tell more
            than is known: every candidate's value is known to within the noise, or none can be
            expected to improve on the best, even if the models were three times less sure. By
            default, this is said once, and the search goes on.
        device: Where models are fitted, `"cpu"` or a GPU such as `"cuda"`; see `EEIPUSampler`.
        executor: What runs the stages: `"processes"` on this machine, `"threads"` of this process,
            any `concurrent.futures.Executor`, or a function that makes one and is called again when
            a worker's death has broken the last one; or a pool of eeipu's, which has its own size
            (`eeipu.executors.simulated_pool`). `None`: this thread; processes if several run.
        max_parallel: How many stage calls run at once.
        callbacks: Functions, called as `callback(study, trial)` after every trial, and objects
            with a method `on_stage(study, trial, run)`, called after every stage
            (`eeipu.studies.trials.StageCallback`). One that calls `study.stop()` ends `run`.
        max_failures: How many failed trials in a row end `run`. `None`: ten; but fifty if their
            errors say that a configuration does not work, such as a `ValueError`.
        forget: Texts. A failure whose error contains one of them does not count: its configuration
            may be tried again, and the search learns nothing from it. See `retry_failed`.
        on_change: Where the study's pipeline has another space by now: `"refuse"` it, or `"adopt"`
            what its trials still say (`eeipu.studies.changes`).
        early_stopping: How far the last stage that trains in steps is trained: a rule such as
            `eeipu.ASHA(min_steps=3)`; `"model"`, where a model of learning curves decides
            (`eeipu.FreezeThaw`); or a pruner of Optuna's. `None`: always to the end.
        learn_from: Earlier studies of the same stages, or pairs of a storage and a study's name.
            The models of costs and of the objective begin from their trials, as far as they agree
            (`eeipu.methods.transfer`), and their best configurations are evaluated first.

    Raises:
        ConfigurationError: An argument is out of range, or the storage's study belongs to
            another pipeline (`StudyMismatchError`).
        StorageError: The study's storage fails.
        PipelineError: The pipeline has no hyper-parameters, or declares the costs of some stages
            and not of others.

    Attributes:
        pipeline: The pipeline that is tuned.
        cache: The cache of stage outputs; `None` where memoization is off.
        study: The Optuna study.
        top_q: The stage outputs of this many best trials are kept.
        n_initial: How many trials the warm-up has, if the budget is large enough.
        was_interrupted: Whether Ctrl-C ended the last `run`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        budget: float | None = None,
        timeout: float | None = None,
        overhead: float | None = None,
        direction: Direction | Sequence[Direction] = "maximize",
        directions: Sequence[Direction] | None = None,
        method: str | BaseSampler = "eeipu",
        top_q: int = 5,
        n_initial: int | None = None,
        cache: StageCache | InMemory | None = IN_MEMORY,
        storage: str | BaseStorage | None = None,
        study_name: str | None = None,
        seed: int | None = None,
        price: float | None = None,
        stop_when_done: bool = False,
        device: str | torch.device | None = None,
        executor: ExecutorLike | None = None,
        max_parallel: int = 1,
        callbacks: Iterable[Callback] = (),
        max_failures: int | None = None,
        forget: str | Iterable[str] = (),
        on_change: str = "refuse",
        early_stopping: EarlyStopping | BasePruner | str | None = None,
        learn_from: EarlierStudy | Iterable[EarlierStudy] = (),
    ) -> None:
        arguments.check_pipeline(pipeline)
        directions = arguments.checked_directions(direction, directions, pipeline.objectives)
        forgotten = arguments.checked_texts("forget", forget)
        arguments.check_method(method, pipeline, price, device, stop_when_done=stop_when_done)
        self.pipeline = pipeline
        self._budget = Budget.given(budget, timeout, overhead)
        self.top_q = arguments.check_count("top_q", top_q, 1)
        n_initial = arguments.check_if_given("n_initial", n_initial, 1)
        max_failures = arguments.check_if_given("max_failures", max_failures, 1)
        max_parallel = arguments.check_count("max_parallel", max_parallel, 1)
        self.cache = opened_cache(cache, executor, max_parallel)
        rule = checked_rule(early_stopping, pipeline, has_cache=self.cache is not None)
        sampler = arguments.sampler_of(
            method,
            pipeline,
            self._budget,
            top_q=self.top_q,
            n_initial=n_initial,
            seed=seed,
            device=device,
            learn_from=earlier_studies(learn_from),
        )
        self.n_initial = n_initial or arguments.usual_warm_up(sampler)
        self.study = open_study(
            pipeline,
            directions=directions,
            sampler=sampler,
            storage=storage,
            study_name=study_name,
            adopts=arguments.check_on_change(on_change),
        )
        if rule is not None:
            self.study = StudyWithPauses.of(self.study, pruner_of(rule))
        note_settings(
            self.study, self._budget, method, self.top_q, self.n_initial, self.cache, forgotten
        )
        self._trials = Trials(
            self.study,
            pipeline,
            top_q=self.top_q,
            price=None if price is None else check_price(price),
            stop_when_done=stop_when_done,
            callbacks=arguments.checked_callbacks(callbacks),
        )
        enqueue_best_of_earlier(sampler, self.study)
        kind = Driver if rule is None else partial(StagedDriver, rule=rule, seed=seed)
        self._setting = RunSetting(
            kind, self._trials, self._budget, self.cache, executor, max_parallel, max_failures
        )
        self._setting.remark()
        self._asked = AskedTrials(self._trials, self._budget, keeps_best=self.cache is not None)
        self.was_interrupted = False

    def __repr__(self) -> str:
        of = f" of {self.budget:.4g}" if self._budget.is_limited else ""
        return (
            f"Tuner({self.pipeline!r}, study {self.study.study_name!r}, spent {self.spent:.4g}{of})"
        )

    def _repr_html_(self) -> str:
        return tuner_html(self.pipeline.name, self.study, self.recommend)

    @property
    def budget(self) -> float:
        """What all trials together may cost; `math.inf` without a budget."""
        return self._budget.total

    @property
    def spent(self) -> float:
        """What the trials have cost so far, including those that still run."""
        return self._trials.spent

    @property
    def remaining(self) -> float:
        """What is left of the budget; never negative."""
        return self._budget.remaining(self.spent)

    def enqueue(self, params: Params) -> None:
        """Have a configuration evaluated before all others, as part of the warm-up.

        Nothing happens if the study already has this configuration, or this part of one, so that a
        script can be run again.

        Args:
            params: The configuration, `"stage.param"` -> value; or a part of it, which the method
                completes when its turn comes.

        Raises:
            SpaceError: The configuration does not lie in the pipeline's space, or violates a
                constraint; or none was found that completes it.
        """
        enqueue(self.study, self.pipeline, params)

    def add_trial(
        self,
        params: Params,
        value: Reported,
        *,
        stage_costs: Sequence[float | None] | None = None,
    ) -> None:
        """Add a result that is known already: it is data, and costs the budget nothing.

        It counts as warm-up. If it has been added before, as by the same script, nothing happens.

        Args:
            params: The whole configuration, `"stage.param"` -> value.
            value: The objective, a list of several, or a dict of metrics.
            stage_costs: The cost of each stage; `None` where it is not known. If the list is left
                out, the declared costs are taken where the pipeline has them.

        Raises:
            SpaceError: The configuration does not lie in the pipeline's space.
            ConfigurationError: The value is no finite number, or the costs do not fit the stages.
        """
        add_result(self.study, self.pipeline, params, value, stage_costs)

    def ask(self) -> Suggestion:
        """Choose the next configuration, for callers who run the stages themselves.

        The stage outputs are the caller's. The tuner assumes that the caller keeps the outputs of
        the `top_q` best trials told so far, and may throw away all others. If `cache` is `None`, it
        assumes that none are kept.

        Returns:
            The configuration, and which of its stage outputs the tuner assumes to be kept.

        Raises:
            SearchOver: Every configuration has been evaluated or is running, or none is worth a
                trial (see `price` and `stop_when_done`).
        """
        return self._asked.ask()

    def tell(
        self,
        suggestion: Suggestion,
        value: Reported | None = None,
        *,
        stage_costs: Sequence[float | None] | None = None,
        failed: bool = False,
        pruned: bool = False,
        observations: Mapping[str, Any] | None = None,
    ) -> None:
        """Report the value and the cost of a suggestion.

        Args:
            suggestion: What `ask` returned, in this process or in an earlier one.
            value: The objective, a list of several, or a dict of metrics. If an objective is not
                finite, the trial has failed.
            stage_costs: The cost of each stage; `None` for a stage that was reused or not reached.
                If the whole list is left out, the declared costs are taken where the pipeline has
                them. Otherwise the seconds since `ask` are charged, and the search learns nothing
                about single stages.
            failed: Whether the evaluation failed. It failed in the last stage that has a cost, and
                `value` is ignored.
            pruned: Whether the evaluation was stopped because it was no good. `value` is then what
                it reported last, if anything.
            observations: What the stages showed on the way: the name of a stage -> a number or a
                dict of numbers; or flat names, `"stage.entry"` -> number.

        Raises:
            ConfigurationError: The trial has been told already, or an argument does not fit.
        """
        self._asked.tell(
            suggestion,
            value,
            stage_costs=stage_costs,
            failed=failed,
            pruned=pruned,
            observations=observations,
        )

    def run(
        self, *inputs: Any, max_trials: int | None = None, progress: bool = True
    ) -> optuna.Study:
        """Tune until the budget is spent, the time is over, or no configuration is left to try.

        If a stage fails, its trial has failed and the search goes on; after too many failures in
        a row it stops (see `max_failures`), and at once after an error of programming that no other
        configuration would avoid. A stage that raises `optuna.TrialPruned` prunes its trial, which
        is no failure. Ctrl-C stops the run after the current stage, a second Ctrl-C at once.
        Nothing that was computed is lost, and the same call continues from there.

        Args:
            inputs: The arguments of the first stage.
            max_trials: How many trials this call may begin; `None`: any number, until the budget
                or the timeout ends it.
            progress: Whether to show progress: a live table in a notebook or on a terminal, and
                elsewhere a line for each trial on standard error. The lines go to the logger
                `eeipu` instead if logging takes its level `INFO`.

        Returns:
            The study, with `study.best_params`, `study.trials_dataframe()` and Optuna's plots.

        Raises:
            PipelineError: The pipeline cannot run on these inputs.
            ConfigurationError: There is neither a budget nor a timeout nor `max_trials`; or a stage
                needs what its workers do not have, such as GPUs.
            StorageError: The study's storage fails.
            KeyboardInterrupt: Ctrl-C ended the run, and everything is stored. A script that does
                not catch it ends, with 130 as the shell's exit code. `study` has the trials.
        """
        arguments.check_ends(self._budget, max_trials)
        check_metrics(self.pipeline)
        self.pipeline.layout.check_inputs(inputs)
        refresh_code(self.pipeline.stages)
        upstream = inputs_key(inputs)
        with using_storage():
            warn_of_other_inputs(self.study, upstream)
            warn_of_changed_code(self.study, self.pipeline)
            if not isinstance(self.study, StudyWithPauses):  # otherwise they go on where they are
                reclaim_dead_trials(self.study, self.pipeline)
            self._setting.remark()
        self.study._stop_flag = False  # which an earlier run may have set
        with interruptible() as interrupted:
            try:
                run_to_end(
                    self._setting, inputs, upstream, interrupted, max_trials, progress=progress
                )
            finally:
                self.was_interrupted = interrupted.is_set()
        self._setting.remark()
        if self.was_interrupted:
            raise KeyboardInterrupt
        return self.study

    def retry_failed(self, error: str = "") -> int:
        """Forget failures whose cause is gone, and run their configurations again first.

        Failures of code that has changed since are forgotten without this. So are three or more
        with the same error that came one after another, at scattered places, before trials that
        succeeded.

        Args:
            error: Only failures whose error contains this text, such as `"FileNotFoundError"`; by
                default all of them.

        Returns:
            How many configurations will run again.
        """
        return retry_failed(self.study, self.pipeline, error)

    def best_run(self, *inputs: Any, number: int | None = None) -> PipelineRun:
        """The run of the best trial: `best_run(data).outputs["train"]` is what a stage made in it.

        If the pipeline has changed since, it is the best one of those that still fit it.
        Nothing runs until an output is asked for. It is loaded from the cache then. If it is gone,
        or the code or the inputs have changed, its stage runs again, after those above it that are
        gone too.

        Args:
            inputs: The arguments of the first stage, as `run` got them.
            number: The number of another trial that has a value; of several objectives no trial is
                the best, and one of `study.best_trials` is to be chosen.

        Raises:
            ConfigurationError: No trial has a value yet, or this one has none.
            PipelineError: The pipeline cannot run on these inputs.
        """
        self.pipeline.layout.check_inputs(inputs)
        refresh_code(self.pipeline.stages)
        return run_of_best(self._setting, inputs, number)

    def recommend(self) -> Recommendation:
        """The configuration that the models believe to be best, among those that have run.

        Where values scatter, `study.best_params` is the luckiest one. Any method may have chosen
        the trials.

        Raises:
            ConfigurationError: No trial within all limits has a value; or several objectives.
        """
        return recommended(self._trials.history, self.study.sampler)

    def best_schedule(self, stage: str | None = None) -> dict[str, Schedule]:
        """The hyper-parameters of the best trial as schedules, which a later training can replay.

        `torch_training(..., space=tuner.best_schedule())` trains as the best trial was trained:
        also where its hyper-parameters have changed on the way, as in population-based training.

        Args:
            stage: The name of the stage; `None`: the last one that trains in steps.

        Raises:
            ConfigurationError: No trial has a value yet.
            PipelineError: There is no such stage.
        """
        return schedules_of(best_trial(self.study), self.pipeline, stage)
