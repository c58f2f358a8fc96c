"""Pipelines: stages joined into a graph, with one search space."""

import hashlib
import inspect
import math
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import TrialPruned
from optuna.trial import BaseTrial, FrozenTrial

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.explanation import Explanation, Wanted, explain
from eeipu.fingerprints.keys import inputs_key
from eeipu.space import Distribution, Params, Space
from eeipu.stages.calls import Clock, StageCall, parts_of, stage_calls
from eeipu.stages.declaration import INPUTS, Sources, Stage, refresh_code, sources_of, stage
from eeipu.stages.graph import Graph
from eeipu.stages.outputs import StageOutputs
from eeipu.stages.programming_errors import is_programming_error
from eeipu.stages.runs import PipelineRun, StageRun, error_line, number_of
from eeipu.stages.walks import graph_of, run_path

__all__ = [
    "INPUTS",
    "Pipeline",
    "PipelineRun",
    "Stage",
    "StageRun",
    "record_run",
    "recorded_run",
    "stage",
]


class Pipeline:
    """Stages joined into a graph: each gets the output of the one before it, or what it names.

    Args:
        stages: The stages, in an order in which everything comes before its use. The last one gives
            the objective.
        objective: Which metric to optimise, where the last stage returns a dict of them.
        name: For people; defaults to the stages' names.

    Raises:
        PipelineError: Two stages share a name, a stage gets the output of one that is not there or
            comes later, a stage leads nowhere, or a function cannot take what it would get.

    Note:
        Declare costs for all stages or for none: a budget adds them up, and declared costs have a
        unit of their own. `Tuner` refuses a mixture.

    >>> from eeipu import Float, Pipeline, stage
    >>> @stage(space={"x": Float(0.0, 1.0)})
    ... def square(*, x):
    ...     return x * x
    >>> Pipeline([square]).run({"square.x": 0.5}).value
    0.25
    """

    def __init__(
        self,
        stages: Iterable[Stage],
        objective: str | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(stages, Stage):
            raise PipelineError("a pipeline takes a list of stages: Pipeline([...]).")
        self.stages = tuple(stages)
        self.objective = objective
        if not self.stages:
            raise PipelineError("a pipeline needs at least one stage, but got none.")
        for each in self.stages:
            if not isinstance(each, Stage):
                raise PipelineError(f"{each!r} is not a stage; decorate it with @stage(...).")
        repeated = [n for n, count in Counter(self.stage_names).items() if count > 1]
        if repeated:
            raise PipelineError(
                f"two stages are named {repeated[0]!r}; rename one with stage(name=...)."
            )
        self.graph = Graph.of(self.stages)
        self.name = name if name is not None else " -> ".join(self.stage_names)

    @classmethod
    def declare(
        cls,
        spaces: Mapping[str, Mapping[str, Distribution]],
        name: str | None = None,
        inputs: Mapping[str, Sources] | None = None,
    ) -> "Pipeline":
        """A pipeline without functions, for those who run the stages themselves (ask/tell).

        Args:
            spaces: Stage name -> hyper-parameter name -> distribution, first stage first.
            name: For people.
            inputs: Stage name -> what it gets, as `stage(inputs=...)` takes it. A stage that is not
                named here gets the output of the one before it.

        Raises:
            PipelineError: The stages do not fit together, or `inputs` names one that is not there.
        """
        given = {} if inputs is None else dict(inputs)
        strangers = [key for key in given if key not in spaces]
        if strangers:
            raise PipelineError(
                f"inputs are declared for {strangers[0]!r}, which is no stage; the stages are "
                f"{list(spaces)}."
            )
        stages = [
            Stage(key, space, inputs=sources_of(key, given.get(key)))
            for key, space in spaces.items()
        ]
        return cls(stages, name=name)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self.space)} hyper-parameters)"

    @property
    def memoizes(self) -> tuple[bool, ...]:
        """For each stage, whether its output may be reused: not below one that is not memoized."""
        return tuple(
            all(self.stages[j].memoize for j in self.graph.up_to(k))
            for k in range(len(self.stages))
        )

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages' names, first to last."""
        return tuple(each.name for each in self.stages)

    @cached_property
    def space(self) -> dict[str, Distribution]:
        """`"stage.param"` -> distribution, in stage order."""
        return {
            f"{each.name}.{param}": distribution
            for each in self.stages
            for param, distribution in each.space.items()
        }

    @cached_property
    def cube(self) -> Space:
        """The search space and its map to the unit cube."""
        return Space(self.space)

    @cached_property
    def stage_columns(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the columns of the unit cube that hold its own hyper-parameters."""
        ends = [0, *accumulate(len(each.space) for each in self.stages)]
        return tuple(tuple(range(start, end)) for start, end in pairwise(ends))

    def code_up_to(self, stage_name: str | None) -> str:
        """A digest of the code of a stage and of those that lead to it.

        Args:
            stage_name: The stage's name; for any other name, all stages count.
        """
        if stage_name not in self.stage_names:
            return _code_of(self.stages)
        return _code_of(
            self.stages[j] for j in self.graph.up_to(self.stage_names.index(stage_name))
        )

    @property
    def is_runnable(self) -> bool:
        """Whether every stage has a function."""
        return all(each.function is not None for each in self.stages)

    def calls(self, params: Params, upstream: str = "") -> tuple[StageCall, ...]:
        """The stage calls of a configuration, with their content keys.

        Args:
            params: The configuration.
            upstream: The key of the run's inputs (`eeipu.fingerprints.keys.inputs_key`).

        Raises:
            SpaceError: The configuration does not lie in the space.
        """
        stored = self.cube.canonical(params)
        by_stage = [
            {param: stored[f"{each.name}.{param}"] for param in each.space} for each in self.stages
        ]
        return stage_calls(self.stages, by_stage, upstream, self.graph)

    def check_inputs(self, inputs: tuple[Any, ...]) -> None:
        """Check that the stages can be called with these inputs, and all of them run.

        Raises:
            PipelineError: It cannot.
        """
        missing = [each.name for each in self.stages if each.function is None]
        if missing:
            raise PipelineError(
                f"stage {missing[0]!r} was declared without a function; run the stages yourself "
                f"and report through Tuner.ask and Tuner.tell."
            )
        for k, each in enumerate(self.stages):
            if self.graph.takes_inputs(k):
                self._check_takes_inputs(each, k, inputs)
        if inputs and not any(map(self.graph.takes_inputs, range(len(self.stages)))):
            raise PipelineError(
                f"no stage takes the run's inputs, but got {len(inputs)}; name eeipu.INPUTS in "
                f"stage(inputs=...) of those that need them."
            )

    def _check_takes_inputs(self, each: Stage, k: int, inputs: tuple[Any, ...]) -> None:
        if each.inputs is not None:
            self.graph.check_call(each, k, len(inputs))
            return
        try:
            inspect.Signature(each.positional).bind(*inputs)
        except TypeError as error:
            expected = [p.name for p in each.positional]
            raise PipelineError(
                f"the first stage, {each.name!r}, takes the inputs {expected}, but got "
                f"{len(inputs)} ({error}); pass them to run(...) in this order."
            ) from error

    def run(
        self,
        params: Params | BaseTrial,
        *inputs: Any,
        cache: StageCache | None = None,
        clock: Clock = time.perf_counter,
    ) -> PipelineRun:
        """Run one configuration, reusing the outputs that the cache holds.

        Args:
            params: The configuration, or an Optuna trial (also a finished one, such as
                `study.best_trial`), which then suggests one and gets `stage_costs`, `memoized`
                and `charged` as user attributes.
            inputs: What the first stage gets.
            cache: Where stage outputs are looked up and kept.
            clock: Seconds that only grow.

        Returns:
            The run. A stage that failed is in it as data: `run.error` has the traceback.
            `run.outputs["name"]` is the output of a stage.

        Raises:
            SpaceError: The configuration does not lie in the space.
            PipelineError: The first stage does not take these inputs.
            ConfigurationError: `cache` is not a `StageCache`.
            optuna.TrialPruned: A stage has raised it, and there is a trial that can be pruned.
        """
        _check_cache(cache)
        self.check_inputs(inputs)
        refresh_code(self.stages)
        trial = None
        if isinstance(params, BaseTrial):
            trial, params = params, suggest(params, self.space)
        upstream = inputs_key(inputs)
        calls = self.calls(params, upstream)
        run = self.join(run_path(calls, inputs, cache, clock=clock))
        run = replace(run, outputs=StageOutputs(calls, inputs, upstream, cache, run.stage_runs))
        if trial is not None:
            record_run(trial, calls, run)
            if run.is_pruned and not isinstance(trial, FrozenTrial):
                raise TrialPruned(error_line(run.error or ""))
        return run

    def explain(
        self, params: Params | BaseTrial, *inputs: Any, cache: StageCache | None = None
    ) -> Explanation:
        """Say which stages `run` would run, and why it would not reuse their outputs. Nothing runs.

        For each stage that would run, it names the parts of its content key that differ from the
        nearest entry of the cache, whichever process or study made that: the stage's name, its
        version or its code by the names of functions, classes, modules and values, each
        hyper-parameter, each input of the run, or the output of the stage before.

        Args:
            params: The configuration, or a trial that has one.
            inputs: What the first stage gets.
            cache: Where `run` would look.

        Returns:
            A `eeipu.explanation.StageLook` for each stage; as text, a line for each.

        Raises:
            SpaceError: The configuration does not lie in the space.
            PipelineError: The first stage does not take these inputs.
            ConfigurationError: `cache` is not a `StageCache`.
        """
        _check_cache(cache)
        self.check_inputs(inputs)
        refresh_code(self.stages)
        params = params.params if isinstance(params, BaseTrial) else params
        wanted: list[Wanted] = []
        for k, call in enumerate(self.calls(params, inputs_key(inputs))):
            leading = (self.stages[j] for j in self.graph.up_to(k))
            unkept = next((each.name for each in leading if not each.memoize), None)
            given = self.graph.sources[k]
            before = (
                self.stage_names[given[0]] if len(given) == 1 and given[0] is not None else None
            )
            parts = parts_of(call)
            wanted.append(Wanted(call.name, call.key, call.recorded_params, parts, unkept, before))
        return explain(wanted, None if cache is None else cache.place, self.graph)

    def join(self, stage_runs: Iterable[StageRun]) -> PipelineRun:
        """The run that these stage runs make up, with the last one's output as its value.

        Args:
            stage_runs: The runs of the stages that were reached, in the pipeline's order.
        """
        runs = list(stage_runs)
        value: float | None = None
        metrics: dict[str, float] = {}
        if len(runs) == len(self.stages) and runs[-1].error is None:
            try:
                value, metrics = _objective(runs[-1], self.objective)
            except Exception as error:
                is_bug = is_programming_error(error)
                runs[-1] = replace(runs[-1], error=traceback.format_exc(), is_bug=is_bug)
        return PipelineRun(self.stage_names, tuple(runs), value, metrics)


def _check_cache(cache: StageCache | None) -> None:
    if not (cache is None or isinstance(cache, StageCache)):
        raise ConfigurationError(
            f"cache must be a StageCache or None, but got {cache!r}; "
            f"a directory is given as StageCache(location)."
        )


def _code_of(stages: Iterable[Stage]) -> str:
    """A digest of the code of stages."""
    code = "\n".join(each.fingerprint for each in stages)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def _objective(run: StageRun, objective: str | None) -> tuple[float, dict[str, float]]:
    """The value to optimise and all metrics, from the run of the last stage.

    Raises:
        TypeError: The stage returned something of which the objective cannot be made.
        ValueError: The objective is not finite.
    """
    output, metrics = run.output, {}
    if isinstance(output, Mapping):
        metrics = {
            str(name): _number(metric, f"a number as the metric {name!r}", run.name)
            for name, metric in output.items()
        }
        if objective not in metrics:
            raise TypeError(
                f"the last stage, {run.name!r}, returned the metrics {list(metrics)}, and the "
                f"objective is {objective!r}; name one of them with Pipeline(objective=...)."
            )
        output = metrics[objective]
    value = _number(output, "a number or a dict of numbers", run.name)
    if not math.isfinite(value):
        raise ValueError(
            f"the objective must be finite, but the last stage, {run.name!r}, returned {value!r}."
        )
    return value, metrics


def _number(output: Any, wanted: str, stage_name: str) -> float:
    number = number_of(output)
    if number is None:
        raise TypeError(
            f"the last stage, {stage_name!r}, must return {wanted}, but it returned "
            f"{type(output).__name__}: {output!r:.80}; {_remedy(output)}."
        )
    return number


def _remedy(output: Any) -> str:
    """What to write in place of something that is not a number."""
    if output is None:
        return "end its function with `return` and the number"
    if isinstance(output, list | tuple):
        return "return the number alone, or a dict with Pipeline(objective=...)"
    shape = getattr(output, "shape", ())
    if isinstance(shape, tuple) and shape and math.prod(shape) == 1:
        return f"it has the shape {list(shape)}: return its one element with .item()"
    return "return a float"


def suggest(trial: BaseTrial, space: Mapping[str, Distribution]) -> dict[str, Any]:
    """Let an Optuna trial suggest a value for every parameter of a space."""
    return {name: _suggest_one(trial, name, dist) for name, dist in space.items()}


def _suggest_one(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case _:  # pragma: no cover - Stage has refused it
            raise AssertionError


def record_run(trial: BaseTrial, calls: Sequence[StageCall], run: PipelineRun) -> None:
    """Write a run, finished or not, into a trial's user attributes."""
    trial.set_user_attr("stage_keys", [call.key for call in calls])
    trial.set_user_attr("stage_costs", run.stage_costs)
    trial.set_user_attr("memoized", run.memoized)
    trial.set_user_attr("charged", run.charged)
    trial.set_user_attr("saved", run.saved)
    if any(value is not None for value in run.stage_values[:-1]):
        trial.set_user_attr("stage_values", run.stage_values)
    if any(peak is not None for peak in run.peak_gpu_bytes):
        trial.set_user_attr("peak_gpu_bytes", run.peak_gpu_bytes)
    if run.metrics:
        trial.set_user_attr("metrics", dict(run.metrics))
    failed = run.failed
    if failed is not None and run.is_pruned:
        trial.set_user_attr("pruned_stage", failed.name)
    elif failed is not None:
        trial.set_user_attr("failed_stage", failed.name)
        place = run.stage_names.index(failed.name)
        reached = [calls[k].stage for k in graph_of(calls).up_to(place)]
        trial.set_user_attr("failed_code", _code_of(reached))
        trial.set_user_attr("error", failed.error)


def recorded_run(
    trial: FrozenTrial, pipeline: Pipeline, inputs: tuple[Any, ...], cache: StageCache | None
) -> PipelineRun:
    """The run of a finished trial as `record_run` wrote it down. No stage runs, and nothing loads.

    Args:
        trial: A trial that has a value.
        pipeline: The pipeline that it is a configuration of.
        inputs: What the first stage gets.
        cache: Where `PipelineRun.outputs` looks for outputs, and keeps those that it makes again.
    """
    upstream = inputs_key(inputs)
    calls = pipeline.calls(trial.params, upstream)
    noted, none = trial.user_attrs, [None] * len(calls)
    costs = noted.get("stage_costs", none)
    values = noted.get("stage_values", none)
    memoized = noted.get("memoized", [False] * len(calls))
    runs = [
        StageRun(call.name, call.key, cost, is_reused, charged=cost or 0.0, value=value)
        for call, cost, is_reused, value in zip(calls, costs, memoized, values, strict=True)
    ]
    # The seconds of loading, and what was saved, are written down for all stages together.
    loading = noted.get("charged", 0.0) - math.fsum(run.charged for run in runs)
    charged = runs[-1].charged + loading
    runs[-1] = replace(runs[-1], charged=charged, saved=noted.get("saved", 0.0))
    return PipelineRun(
        pipeline.stage_names,
        tuple(runs),
        trial.values[0],
        noted.get("metrics", {}),
        StageOutputs(calls, inputs, upstream, cache),
    )
