"""Stages that train in steps, and can be interrupted and resumed at any step.

An iterative stage is a `Stage`, and a pipeline may treat it as one: calling it trains to the end
and evaluates. There are two ways to use its steps. A search plan runs the stage segment by segment
(`stage_path`). The method `segments` splits it at given steps into stages of their own, which a
`Tuner` models, caches and chooses like any other stages.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from types import FunctionType
from typing import Any

from eeipu.counts import counted
from eeipu.errors import PipelineError, SpaceError
from eeipu.fingerprints.code import CodeReader, CodeReading
from eeipu.space import Distribution, Params
from eeipu.stages.declaration import DEFAULT_RETRIES, INPUTS, Stage
from eeipu.stages.functions.signatures import leading_inputs, takes_more_than_one
from eeipu.stages.functions.training_functions import check_training_functions, whole_steps
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Schedule, as_schedule
from eeipu.stages.searchable_schedules import (
    as_templates,
    canonical_form,
    schedule_of,
    space_of,
    spaces_of,
)

__all__ = ["IterativeStage", "Training", "iterative", "stage_path"]


def _same(state: Any) -> Any:
    return state


@dataclass(frozen=True)
class Training:
    """How to train in steps: five functions that the user writes.

    Resuming must not change the result: `load(save(state))` must train on exactly as `state` would
    have, with the same random generators, optimiser and position in the data.

    Attributes:
        init: Takes the stage's inputs and returns the state before the first step.
        advance: `(state, start, stop, hyper_parameters)` -> the state after steps
            `[start, stop)`; `hyper_parameters` maps names to functions of the step.
        evaluate: Takes a state, which it must not change, and returns the objective, a dict of
            metrics, or the next stage's input.
        save: Takes a state and returns a value that can be pickled; by default the state itself.
        load: Takes the value that `save` returned and returns the state. If it takes further
            positional arguments, as `load(saved, *inputs)`, it gets the stage's inputs too, and
            `save` may leave them out.
        uses_process_state: Whether training sets state that all threads of a process share, such
            as the global random generators, and so must not run in two threads of one process.
    """

    init: Callable[..., Any]
    advance: Callable[[Any, int, int, Mapping[str, Schedule]], Any]
    evaluate: Callable[[Any], Any]
    save: Callable[[Any], Any] = _same
    load: Callable[..., Any] = _same
    uses_process_state: bool = False

    @property
    def loads_inputs(self) -> bool:
        """Whether `load` takes the stage's inputs behind the saved value."""
        if isinstance(self.load, FunctionType):
            return takes_more_than_one(self.load)  # which is asked for each call
        return takes_more_than_one.__wrapped__(self.load)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The five functions."""
        return self.init, self.advance, self.evaluate, self.save, self.load


@dataclass(frozen=True, eq=False)
class TrainingStage(Stage):
    """A stage whose code is that of a training, in whole or in part.

    Attributes:
        training: How it trains.
    """

    training: Training = field(kw_only=True)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The user's functions that the stage calls."""
        return self.training.functions

    @property
    def uses_process_state(self) -> bool:
        """Whether a call sets state that all threads of its process share, so it needs its own."""
        return self.training.uses_process_state

    @property
    def code_fingerprint(self) -> str:
        """The string that stands for the training's code in the keys of all its steps."""
        return f"version {self._reading.fingerprint if self.version is None else self.version}"

    def read_code(self, reader: CodeReader, last: CodeReading | None) -> CodeReading:  # noqa: ARG002
        """Read the code of all five functions as it is now; raises as `Stage.read_code`."""
        return reader.read_together(self.training.functions)


@dataclass(frozen=True, eq=False)
class _SegmentStage(TrainingStage):
    """A segment of a training, or its evaluation, as a stage of its own.

    Attributes:
        addition: The part of the fingerprint that stands for all but the code.
    """

    addition: str = ""

    @property
    def fingerprint(self) -> str:
        """The string that stands for all that the stage does in its content keys."""
        return f"{self.code_fingerprint}{self.addition}"


@dataclass(frozen=True, eq=False)
class IterativeStage(TrainingStage):
    """A stage that trains in steps. Made by `iterative`.

    Attributes:
        training: How it trains.
        templates: Hyper-parameter -> schedule, template of one, distribution, or value.
        steps: The number of steps of a whole training.
        takes: Whose leading parameters are the stage's inputs; `None`: those of `training.init`.
        metrics: The names of all metrics that an evaluation may return; empty: they are not known.
    """

    templates: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1
    takes: Callable[..., Any] | None = None
    metrics: tuple[str, ...] = ()

    def __repr__(self) -> str:
        searched = ", ".join(self.space) or "nothing"
        steps = counted(self.steps, "step")
        return f"IterativeStage({self.name!r}, {steps}, searches over {searched})"

    @property
    def positional(self) -> tuple[inspect.Parameter, ...]:
        """The parameters that get the stage's inputs."""
        function = self.training.init if self.takes is None else self.takes
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # a builtin that does not tell what it takes
            return super().positional
        return leading_inputs(parameters, self.templates)

    @property
    def fingerprint(self) -> str:
        """The string that stands for a whole training: code, steps, and fixed values."""
        return f"{self.code_fingerprint}, {self.steps} steps of {self._fixed_digest}"

    @cached_property
    def _fixed_digest(self) -> str:
        """A digest of all in the templates that is not searched over."""
        fixed = {
            name: canonical_form(t if space_of(name, t) else as_schedule(t), self.steps)
            for name, t in self.templates.items()
        }
        return _digest(fixed)

    def schedules(self, params: Params) -> dict[str, Schedule]:
        """The hyper-parameters as functions of the step.

        Args:
            params: Values of the stage's space, or schedules for whole hyper-parameters.

        Raises:
            SpaceError: A parameter is neither of the two, so its value would be ignored.
        """
        unknown = [
            name
            for name, value in params.items()
            if name not in self.space
            and not (name in self.templates and isinstance(value, Schedule))
        ]
        if unknown:
            raise SpaceError(
                f"stage {self.name!r} does not search over {unknown[0]!r}, but over "
                f"{list(self.space)}; give it a distribution, or pass a schedule."
            )
        return {
            name: params[name]
            if isinstance(params.get(name), Schedule)
            else schedule_of(name, template, params)
            for name, template in self.templates.items()
        }

    def extend(
        self, path: Path, params: Params, steps: int, checkpoint_every: int | None = None
    ) -> Path:
        """A path followed by `steps` steps of this stage and by its evaluation."""
        schedules, code = self.schedules(params), self.code_fingerprint
        trained = path.train(self.name, code, schedules, steps, checkpoint_every)
        return trained.evaluate(self.name, code)

    def segments(self, spaces: Mapping[int, Mapping[str, Distribution]]) -> list[Stage]:
        """Split the stage into segments, each a stage of its own, followed by the evaluation.

        The segments have the same keys as the same steps of a search plan if all hyper-parameters
        are in the spaces, they change from each segment to the next, and `load` takes no inputs.
        If `load` does take inputs, as in `eeipu.stages.torch_training`, every segment hands them
        on to the next.

        Args:
            spaces: The step at which a segment ends -> hyper-parameter -> distribution.
                Hyper-parameters that a space leaves out get the values of the stage's templates,
                which then must not be searched over.

        Raises:
            PipelineError: The steps do not ascend, or a hyper-parameter has no value.

        >>> train = iterative(Training(int, max, float), {"lr": 0.1}, steps=90, version="1")
        >>> [stage.name for stage in train.segments({30: {}, 90: {}})]
        ['iterative@30', 'iterative@90', 'iterative@evaluation']
        """
        ends = [0, *spaces]
        if any(start >= stop for start, stop in pairwise(ends)):
            raise PipelineError(f"segments must end at ascending steps, but got {ends[1:]}.")
        segments = [
            (_Segment(self.training, start, stop, self._fixed(space)), space)
            for (start, stop), space in zip(pairwise(ends), spaces.values(), strict=True)
        ]
        stages = [
            self._stage(str(segment.stop), segment, space, segment.values)
            for segment, space in segments
        ]
        last = self._stage("evaluation", _Evaluation(self.training), {}, {})
        return [*stages, replace(last, observe=self.observe)]

    def _stage(
        self,
        suffix: str,
        function: Callable[..., Any],
        space: Mapping[str, Distribution],
        fixed: Mapping[str, Any],
    ) -> Stage:
        digest = f", {_digest(fixed)}" if fixed else ""
        return _SegmentStage(
            f"{self.name}@{suffix}",
            space,
            function,
            version=self.version,
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            timeout=self.timeout,
            retries=self.retries,
            training=self.training,
            addition=f"{digest}, with inputs" if self.training.loads_inputs else digest,
        )

    def _fixed(self, space: Mapping[str, Distribution]) -> dict[str, Schedule]:
        """The hyper-parameters that a segment's space leaves out, as schedules."""
        fixed = {name: t for name, t in self.templates.items() if name not in space}
        searched = [name for name, template in fixed.items() if space_of(name, template)]
        if searched:
            raise PipelineError(
                f"stage {self.name!r}: the segments have no space for {searched[0]!r}, which is "
                f"searched over; give every segment one."
            )
        return {name: schedule_of(name, template, {}) for name, template in fixed.items()}


def iterative(
    training: Training,
    space: Mapping[str, Any],
    steps: int,
    name: str = "iterative",
    version: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
    observe: Callable[[Any], Any] | None = None,
) -> IterativeStage:
    """Make a stage of a training in steps.

    Args:
        training: How to train.
        space: Hyper-parameter -> value, distribution, list of choices, schedule, or template of a
            schedule (`eeipu.stages.searchable_schedules`).
        steps: The number of steps of a whole training.
        name: The stage's name.
        version: Replaces the code fingerprint in content keys.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call counts as hanging: a call trains from one checkpoint to
            the next. `None`: never.
        retries: The number of times that a call is tried again, if it raises `TransientError` or
            its worker dies.
        observe: Takes what `evaluate` returned, and returns numbers to record; see `stage`.

    Raises:
        PipelineError: The code cannot be fingerprinted and no version is given, `steps` is no whole
            number of at least 1, or a function does not take what it gets.
        SpaceError: Two parameters would have the same name, or choices are schedules.
    """
    space, steps = as_templates(space), whole_steps(name, steps)
    if not isinstance(training, Training):
        raise PipelineError(f"stage {name!r} needs a Training(...), but got {training!r}.")
    names = ("init", "advance", "evaluate", "save", "load")
    check_training_functions(name, dict(zip(names, training.functions, strict=True)))
    if version is None:
        # Refuse code that cannot be fingerprinted now, and not only when the stage runs. The
        # reading is not kept, as a script may set its globals after declaring its stages.
        CodeReader().read_together(training.functions)
    return IterativeStage(
        name,
        spaces_of(space),
        _Whole(training, space, steps),
        version=version,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        timeout=timeout,
        retries=retries,
        observe=observe,
        training=training,
        templates=space,
        steps=steps,
    )


@dataclass(frozen=True)
class _Whole:
    """Trains from the first step to the last, and evaluates."""

    training: Training
    templates: Mapping[str, Any]
    steps: int

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        schedules = {n: schedule_of(n, template, params) for n, template in self.templates.items()}
        state = self.training.init(*inputs)
        return self.training.evaluate(self.training.advance(state, 0, self.steps, schedules))


@dataclass(frozen=True)
class _Segment:
    """Trains from one step to another, from a saved state to a saved state."""

    training: Training
    start: int
    stop: int
    fixed: Mapping[str, Schedule]

    @property
    def values(self) -> dict[str, Any]:
        """The values of the fixed hyper-parameters over these steps."""
        return {name: canonical_form(s, self.stop, self.start) for name, s in self.fixed.items()}

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        schedules = {**self.fixed, **{name: as_schedule(value) for name, value in params.items()}}
        training = self.training
        if self.start:
            state, inputs = _loaded(training, *inputs)
        else:
            state = training.init(*inputs)
        saved = training.save(training.advance(state, self.start, self.stop, schedules))
        return (saved, inputs) if training.loads_inputs else saved


@dataclass(frozen=True)
class _Evaluation:
    """Evaluates a saved state."""

    training: Training

    def __call__(self, output: Any) -> Any:
        state, _ = _loaded(self.training, output)
        return self.training.evaluate(state)


def _loaded(training: Training, output: Any) -> tuple[Any, tuple[Any, ...]]:
    """The state in a segment's output, and the stage's inputs if `load` takes them."""
    if not training.loads_inputs:
        return training.load(output), ()
    saved, inputs = output
    return training.load(saved, *inputs), inputs


def _digest(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def stage_path(
    stages: Sequence[Stage],
    params: Params,
    upstream: str,
    steps: int | Mapping[str, int],
    checkpoint_every: int | None = None,
) -> Path:
    """The path of a configuration through a pipeline's stages.

    Args:
        stages: Plain and iterative stages, first to last.
        params: `"stage.param"` -> value or schedule. Plain stages get a schedule's value at step 0.
        upstream: The key of the run's inputs.
        steps: The number of steps that iterative stages train for: one for all, or one for each
            stage's name.
        checkpoint_every: Iterative stages are also saved at every multiple of this number of steps.

    Raises:
        PipelineError: The stages are no chain, or one of several alternatives is to be chosen.
    """
    _check_chain(stages, params)
    path = Path(upstream)
    for stage in stages:
        prefix = f"{stage.name}."
        own = {key.removeprefix(prefix): v for key, v in params.items() if key.startswith(prefix)}
        if isinstance(stage, IterativeStage):
            count = steps[stage.name] if isinstance(steps, Mapping) else steps
            path = stage.extend(path, own, count, checkpoint_every)
        else:
            values = {k: v(0) if isinstance(v, Schedule) else v for k, v in own.items()}
            path = path.call(stage.name, stage.code_fingerprint, values)
    return path


def _check_chain(stages: Sequence[Stage], params: Params) -> None:
    """Check that each stage gets the output of the one before it, as a path says."""
    for k, stage in enumerate(stages):
        given = (stages[k - 1].name,) if k else (INPUTS,)
        if stage.inputs not in (None, given):
            raise PipelineError(
                f"a path takes stages one after another, and stage {stage.name!r} names what it "
                f"gets, {stage.inputs!r}; run a graph with Tuner.run, without early_stopping."
            )
    choices = [name for name in params if "." not in name]
    if choices:
        raise PipelineError(
            f"a path takes all stages one after another, and {choices[0]!r} chooses among "
            f"alternatives; run these with Tuner.run, without early_stopping."
        )
