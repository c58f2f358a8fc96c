"""Pipelines: stages joined into a graph, with one search space."""

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from optuna.exceptions import TrialPruned
from optuna.trial import BaseTrial, FrozenTrial, Trial

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.explanation import Explanation, Wanted, explain
from eeipu.fingerprints.keys import inputs_key
from eeipu.html_tables import box, table
from eeipu.space import Categorical, Constraint, Distribution, Params, Space, in_words, suggest
from eeipu.spaces.feasible import FeasiblePoints
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.declaration import INPUTS, Sources, SpaceLike, Stage, sources_of
from eeipu.stages.decorator import stage
from eeipu.stages.joining.alternatives import Item, OneOf, Optional
from eeipu.stages.joining.columns import StageColumns
from eeipu.stages.joining.drawing import graph_html
from eeipu.stages.joining.graph import Graph
from eeipu.stages.joining.layout import Layout
from eeipu.stages.running.calls import Clock, StageCall, parts_of, stage_calls
from eeipu.stages.running.objective import checked_objective, names_of, objective_of
from eeipu.stages.running.outcomes import (
    OutcomeLimits,
    check_outcomes,
    constraints_on_outcomes,
    note_violations,
)
from eeipu.stages.running.outputs import StageOutputs
from eeipu.stages.running.programming_errors import is_programming_error
from eeipu.stages.running.records import record_run
from eeipu.stages.running.trial_notes import TrialNotes, written_together
from eeipu.stages.running.walks import graph_of, run_path
from eeipu.stages.runs import PipelineRun, StageRun, error_line

__all__ = [
    "INPUTS",
    "OneOf",
    "Optional",
    "Pipeline",
    "PipelineRun",
    "Stage",
    "StageRun",
    "record_run",
    "stage",
]


class Pipeline:
    """Stages joined into a graph: each gets the output of the one before it, or what it names.

    Args:
        stages: The stages, in an order in which everything comes before its use. The last one gives
            the objective. Where one of several is to be run, there is a `OneOf` or an `Optional`.
        objective: Which metric to optimise, where the last stage returns a dict of them; or a list
            of several.
        name: For people; defaults to the stages' names.
        constraints: Conditions on configurations, such as `lambda p: p["a.x"] + p["b.y"] <= 1`.
            Each gets a configuration as the study stores it, and returns whether it is allowed. No
            other configuration is suggested, run or learnt from. They are asked some thousand times
            for a suggestion, so let them be quick. A dict is taken for `outcome_constraints`.
        outcome_constraints: Limits of what trials give, such as `{"memory_mb": "<= 500"}`: of
            metrics of the last stage, and of what stages show (`stage(observe=...)`). A trial that
            is beyond one is run and learnt from, and is never the best.

    Raises:
        PipelineError: Two stages share a name, a stage gets the output of one that is not there or
            comes later, a stage leads nowhere, or a function cannot take what it would get; or the
            objective or a limit cannot be read.
        SpaceError: A constraint is no function, or fails for the middle of the space.

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
        stages: Iterable[Item],
        objective: str | Sequence[str] | None = None,
        name: str | None = None,
        constraints: Iterable[Constraint] | OutcomeLimits = (),
        outcome_constraints: OutcomeLimits = MappingProxyType({}),
    ) -> None:
        if isinstance(stages, Stage | OneOf):
            raise PipelineError("a pipeline takes a list of stages: Pipeline([...]).")
        items = list(stages)
        if not items:
            raise PipelineError("a pipeline needs at least one stage, but got none.")
        self.layout = Layout.of(items)
        self.stages = self.layout.stages
        self.objective = checked_objective(objective)
        if isinstance(constraints, Mapping):
            outcome_constraints, constraints = {**constraints, **outcome_constraints}, ()
        self.outcome_constraints = constraints_on_outcomes(outcome_constraints)
        self.name = name if name is not None else " -> ".join(self.stage_names)
        self.cube = Space(self.space, constraints, self.layout.conditions())

    @classmethod
    def declare(
        cls,
        spaces: Mapping[str, SpaceLike],
        name: str | None = None,
        inputs: Mapping[str, Sources] | None = None,
        constraints: Iterable[Constraint] | OutcomeLimits = (),
        objective: str | Sequence[str] | None = None,
        outcome_constraints: OutcomeLimits = MappingProxyType({}),
    ) -> "Pipeline":
        """A pipeline without functions, for those who run the stages themselves (ask/tell).

        Args:
            spaces: Stage name -> its space, as `stage` takes it, first stage first.
            name: For people.
            inputs: Stage name -> what it gets, as `stage(inputs=...)` takes it. A stage that is not
                named here gets the output of the one before it.
            constraints: Conditions on configurations; see `Pipeline`.
            objective: Which metrics to optimise, where `Tuner.tell` gets a dict of them.
            outcome_constraints: Limits of what trials give; see `Pipeline`.

        Raises:
            PipelineError: The stages do not fit together, or `inputs` names one that is not there.
        """
        if not isinstance(spaces, Mapping):
            raise PipelineError(
                f"the stages are declared by a dict from their names to their spaces, such as "
                f'{{"prep": {{"x": Float(0, 1)}}}}, but got {spaces!r:.200}.'
            )
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
        return cls(stages, objective, name, constraints, outcome_constraints)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self.space)} hyper-parameters)"

    def _repr_html_(self) -> str:
        rows = [
            (each.name, in_words(each.space), "declared" if each.cost else "measured", memoized)
            for each, memoized in zip(self.stages, self.memoizes, strict=True)
        ]
        heads = ("stage", "hyper-parameters", "cost", "memoized")
        return box(f"Pipeline {self.name}", graph_html(self.layout), table(heads, rows))

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

    @property
    def objectives(self) -> tuple[str | None, ...]:
        """The names of all objectives; `None` for one that needs no name."""
        return names_of(self.objective)

    @property
    def graph(self) -> Graph:
        """Whose output each stage may get."""
        return self.layout.graph

    @cached_property
    def space(self) -> dict[str, Distribution]:
        """`"stage.param"` -> distribution, in stage order.

        The parameters that choose among alternatives come before those of the first of them.
        """
        found: dict[str, Distribution] = {}
        for each, chosen in zip(self.stages, self.layout.chosen_by, strict=True):
            for name, _ in chosen:
                found.setdefault(name, Categorical(list(self.layout.places[name])))
            found |= {f"{each.name}.{param}": dist for param, dist in each.space.items()}
        return found

    @cached_property
    def feasible(self) -> FeasiblePoints:
        """Points of the search space that satisfy its constraints."""
        return FeasiblePoints(self.cube)

    @cached_property
    def columns(self) -> StageColumns:
        """Which columns of the unit cube belong to which stage."""
        return StageColumns(self.layout, self.space)

    def calls(self, params: Params, upstream: str = "") -> tuple[StageCall, ...]:
        """The stage calls of a configuration, with their content keys.

        Args:
            params: The configuration.
            upstream: The key of the run's inputs (`eeipu.fingerprints.keys.inputs_key`).

        Raises:
            SpaceError: The configuration does not lie in the space.
        """
        stored = self.cube.conditions.active(self.cube.canonical(params))
        by_stage = [
            {
                param: stored[f"{each.name}.{param}"]
                for param in each.space
                if f"{each.name}.{param}" in stored
            }
            for each in self.stages
        ]
        return stage_calls(self.stages, by_stage, upstream, self.layout, stored)

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
                `study.best_trial`), which then suggests one and gets `stage_costs`, `memoized`,
                `charged` and `observations` as user attributes.
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
            optuna.TrialPruned: A stage has raised it, or a sampler that knows no constraints has
                suggested a configuration that violates one; and the trial can be pruned.
        """
        _check_cache(cache)
        self.layout.check_inputs(inputs)
        refresh_code(self.stages)
        trial = None
        if isinstance(params, BaseTrial):
            trial, params = params, _suggested_by(params, self)
            violated = self.cube.constraints.violated(params)
            if violated is not None and isinstance(trial, Trial):
                raise TrialPruned(f"the suggested configuration {params} violates {violated}")
        upstream = inputs_key(inputs)
        calls = self.calls(params, upstream)
        stage_runs = run_path(calls, inputs, cache, clock=clock, inputs_key=upstream)
        run = self.join(stage_runs, calls)
        run = replace(run, outputs=StageOutputs(calls, inputs, upstream, cache, run.stage_runs))
        if trial is not None:
            _note_run(trial, self, calls, run)
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
        self.layout.check_inputs(inputs)
        refresh_code(self.stages)
        params = params.params if isinstance(params, BaseTrial) else params
        calls = self.calls(params, inputs_key(inputs))
        graph, wanted = graph_of(calls), []
        for k, call in enumerate(calls):
            leading = (calls[j].stage for j in graph.up_to(k))
            unkept = next((each.name for each in leading if not each.memoize), None)
            given = graph.sources[k]
            before = calls[given[0]].name if len(given) == 1 and given[0] is not None else None
            parts = parts_of(call)
            wanted.append(Wanted(call.name, call.key, call.recorded_params, parts, unkept, before))
        return explain(wanted, None if cache is None else cache.place, graph)

    def join(
        self, stage_runs: Iterable[StageRun], calls: Sequence[StageCall] | None = None
    ) -> PipelineRun:
        """The run that these stage runs make up, with the last one's output as its value.

        Args:
            stage_runs: The runs of the stages that were reached, in the pipeline's order.
            calls: The calls of the configuration; `None`: it leaves no stage out.
        """
        runs = list(stage_runs)
        values: tuple[float, ...] = ()
        metrics: dict[str, float] = {}
        count = len(self.stages) if calls is None else len(calls)
        if len(runs) == count and runs[-1].error is None:
            try:
                values, metrics = objective_of(runs[-1], self.objective)
                if count == len(self.stages):  # others may leave out the stage that shows it
                    check_outcomes(self.outcome_constraints, runs, metrics)
            except Exception as error:
                values, is_bug = (), is_programming_error(error)
                runs[-1] = replace(runs[-1], error=traceback.format_exc(), is_bug=is_bug)
        reached = self.stages if calls is None else [call.stage for call in calls]
        left_out = self.layout.left_out(reached)
        value = values[0] if values else None
        return PipelineRun(
            self.stage_names, tuple(runs), value, metrics, values=values, left_out=left_out
        )


def _suggested_by(trial: BaseTrial, pipeline: Pipeline) -> Params:
    """The configuration that a trial suggests, all of which is written at once."""
    if not isinstance(trial, Trial):
        return suggest(trial, pipeline.space, pipeline.cube.conditions)
    with written_together(trial):
        return suggest(trial, pipeline.space, pipeline.cube.conditions)


def _note_run(
    trial: BaseTrial, pipeline: Pipeline, calls: Sequence[StageCall], run: PipelineRun
) -> None:
    """Write a run into a trial, and how far it is beyond its limits."""
    if not isinstance(trial, Trial):
        record_run(trial, calls, run)
        return
    notes = TrialNotes(trial)
    record_run(notes, calls, run)
    notes.write()
    with written_together(trial):
        note_violations(trial, pipeline.outcome_constraints)


def _check_cache(cache: StageCache | None) -> None:
    if not (cache is None or isinstance(cache, StageCache)):
        raise ConfigurationError(
            f"cache must be a StageCache or None, but got {cache!r}; "
            f"a directory is given as StageCache(location)."
        )
