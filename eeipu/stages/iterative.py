"""Stages that train in steps, and can stop and go on at any of them.

An iterative stage is a `Stage`, and a pipeline may treat it as one: calling it trains to the end
and evaluates. What knows of steps sees more: a search plan runs it segment by segment
(`stage_path`), and `segments` makes the stretches between given steps stages of their own,
which a `Tuner` then models, caches and chooses like any others.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from eeipu.errors import PipelineError, SpaceError
from eeipu.fingerprints.code import Look, OwnCode
from eeipu.space import Distribution, Params
from eeipu.stages.declaration import Stage
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Schedule, as_schedule
from eeipu.stages.searchable_schedules import described, schedule_of, space_of, spaces_of

__all__ = ["IterativeStage", "Training", "functions_of", "iterative", "stage_path"]


def _same(state: Any) -> Any:
    return state


@dataclass(frozen=True)
class Training:
    """What a user says of training in steps.

    Resuming must not change anything: what `load` makes of `save(state)` trains on as `state`
    would have, with random generators, optimiser and position in the data as they were.

    Attributes:
        init: What the stage gets -> the state before the first step.
        advance: `(state, start, stop, hyper_parameters)` -> the state after steps
            `[start, stop)`; `hyper_parameters` maps names to functions of the step.
        evaluate: State -> the objective, a dict of metrics, or what the next stage gets. It must
            leave the state as it is.
        save: State -> what can be pickled; the state itself by default.
        load: What `save` returned -> state. Where it takes more, `load(saved, *inputs)`, it also
            gets what `init` got, which then need not be saved.
    """

    init: Callable[..., Any]
    advance: Callable[[Any, int, int, Mapping[str, Schedule]], Any]
    evaluate: Callable[[Any], Any]
    save: Callable[[Any], Any] = _same
    load: Callable[..., Any] = _same

    @cached_property
    def loads_inputs(self) -> bool:
        """Whether `load` takes what `init` got, beside what was saved."""
        try:
            parameters = inspect.signature(self.load).parameters.values()
        except ValueError:  # a builtin that does not tell what it takes
            return False
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        required = [p for p in parameters if p.kind in positional and p.default is p.empty]
        return len(required) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """All five of them."""
        return self.init, self.advance, self.evaluate, self.save, self.load

    @property
    def fingerprint(self) -> str:
        """A digest of the code of all five functions.

        Raises:
            PipelineError: One of them has no source, or holds what cannot be hashed.
        """
        return self.code(Look()).fingerprint

    def code(self, look: Look) -> OwnCode:
        """The code of all five functions, as it is now.

        Args:
            look: A look at code that began now.

        Raises:
            PipelineError: One of them has no source, or holds what cannot be hashed.
        """
        codes = [look.code_of(function) for function in self.functions]
        lines = "\n".join(code.fingerprint for code in codes)
        return OwnCode(
            hashlib.sha256(lines.encode()).hexdigest(),
            tuple(sorted({name for code in codes for name in code.packages})),
            tuple({id(part.code): part for code in codes for part in code.parts}.values()),
            codes[0].home,
        )


@dataclass(frozen=True, eq=False)
class _TrainingStage(Stage):
    """A stage whose code is that of a training.

    Attributes:
        training: How it trains.
        addition: What stands for the rest of what it does.
    """

    training: Training | None = None
    addition: str = ""

    def _code_seen(self, look: Look, last: OwnCode | None) -> OwnCode:
        assert self.training is not None
        found = self.training.code(look)
        return last if last is not None and last.fingerprint == found.fingerprint else found

    @property
    def code(self) -> str:
        """What stands for the training's code in the keys of its segments."""
        return f"version {self._code.fingerprint if self.version is None else self.version}"

    @cached_property
    def fingerprint(self) -> str:
        """What stands for the stage's code in content keys."""
        return f"{self.code}{self.addition}"


def functions_of(stage: Stage) -> tuple[Callable[..., Any], ...]:
    """The user's functions that a stage calls."""
    if isinstance(stage, _TrainingStage) and stage.training is not None:
        return stage.training.functions
    return () if stage.function is None else (stage.function,)


@dataclass(frozen=True, eq=False)
class IterativeStage(_TrainingStage):
    """A stage that trains in steps. Made by `iterative`.

    Attributes:
        training: How it trains.
        templates: Hyper-parameter -> schedule, template of one, distribution, or value.
        steps: How many steps a whole training has.
    """

    templates: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1

    @cached_property
    def fingerprint(self) -> str:
        """What stands for a whole training: its code, its steps, and what is not searched over."""
        fixed = {
            name: described(t if space_of(name, t) else as_schedule(t), self.steps)
            for name, t in self.templates.items()
        }
        return f"{self.code}, {self.steps} steps of {_digest(fixed)}"

    def schedules(self, params: Params) -> dict[str, Schedule]:
        """The hyper-parameters as functions of the step.

        Args:
            params: Values of the stage's space, or schedules in the place of hyper-parameters.

        Raises:
            SpaceError: A parameter is neither, so that its value would not count.
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
        """A path followed by so many steps of this stage, and by its evaluation."""
        schedules = self.schedules(params)
        trained = path.train(self.name, self.code, schedules, steps, checkpoint_every)
        return trained.evaluate(self.name, self.code)

    def segments(self, spaces: Mapping[int, Mapping[str, Distribution]]) -> list[Stage]:
        """Its stretches as stages of their own, and its evaluation as the last.

        Their keys are those that a search plan has for the same steps, as long as all
        hyper-parameters are in the spaces and change from each stretch to the next, and `load`
        takes no inputs. Where it does, as in `eeipu.stages.torch_training.loop`, every segment
        hands them on.

        Args:
            spaces: The step at which a stretch ends -> hyper-parameter -> distribution.
                Hyper-parameters that a space leaves out are as the stage's templates say, which
                then must not have parameters.

        Raises:
            PipelineError: The steps do not ascend, or a hyper-parameter is left without a value.

        >>> train = iterative(Training(int, max, float), {"lr": 0.1}, steps=90, version="1")
        >>> [stage.name for stage in train.segments({30: {}, 90: {}})]
        ['iterative@30', 'iterative@90', 'iterative@evaluation']
        """
        ends = [0, *spaces]
        if any(start >= stop for start, stop in pairwise(ends)):
            raise PipelineError(f"segments must end at ascending steps, but got {ends[1:]}.")
        assert self.training is not None
        segments = [
            (_Segment(self.training, start, stop, self._fixed(space)), space)
            for (start, stop), space in zip(pairwise(ends), spaces.values(), strict=True)
        ]
        stages = [
            self._stage(str(segment.stop), segment, space, segment.values)
            for segment, space in segments
        ]
        return [*stages, self._stage("evaluation", _Evaluation(self.training), {}, {})]

    def _stage(
        self,
        suffix: str,
        function: Callable[..., Any],
        space: Mapping[str, Distribution],
        fixed: Mapping[str, Any],
    ) -> Stage:
        assert self.training is not None
        digest = f", {_digest(fixed)}" if fixed else ""
        return _TrainingStage(
            f"{self.name}@{suffix}",
            space,
            function,
            version=self.version,
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            training=self.training,
            addition=f"{digest}, with inputs" if self.training.loads_inputs else digest,
        )

    def _fixed(self, space: Mapping[str, Distribution]) -> dict[str, Schedule]:
        """The hyper-parameters that a segment's space leaves as they are."""
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
) -> IterativeStage:
    """Make training in steps a stage.

    Args:
        training: How to train.
        space: Hyper-parameter -> value, distribution, schedule, or template of schedules
            (`eeipu.stages.searchable_schedules`).
        steps: How many steps a whole training has.
        name: The stage's name.
        version: Replaces the code fingerprint in content keys.
        num_cpus: CPU cores that it takes.
        num_gpus: GPUs that it takes; a fraction shares one.

    Raises:
        PipelineError: The code cannot be fingerprinted and there is no version, or `steps` is
            below 1.
        SpaceError: Two parameters would have one name.
    """
    if steps < 1:
        raise PipelineError(f"stage {name!r} must train for at least 1 step, got {steps!r}.")
    if version is None:
        training.code(Look())  # what cannot be fingerprinted is refused now, not when it runs
    return IterativeStage(
        name,
        spaces_of(space),
        _Whole(training, dict(space), steps),
        version=version,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        training=training,
        templates=dict(space),
        steps=steps,
    )


@dataclass(frozen=True)
class _Whole:
    """Training from the beginning to the end, and the evaluation there."""

    training: Training
    templates: Mapping[str, Any]
    steps: int

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        schedules = {n: schedule_of(n, template, params) for n, template in self.templates.items()}
        state = self.training.init(*inputs)
        return self.training.evaluate(self.training.advance(state, 0, self.steps, schedules))


@dataclass(frozen=True)
class _Segment:
    """Training from one step to another, from a saved state to a saved state."""

    training: Training
    start: int
    stop: int
    fixed: Mapping[str, Schedule]

    @property
    def values(self) -> dict[str, Any]:
        """The values that no space has, over these steps."""
        return {name: described(s, self.stop, self.start) for name, s in self.fixed.items()}

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        schedules = {**self.fixed, **{name: as_schedule(value) for name, value in params.items()}}
        training = self.training
        if self.start:
            state, inputs = _taken_up(training, *inputs)
        else:
            state = training.init(*inputs)
        saved = training.save(training.advance(state, self.start, self.stop, schedules))
        return (saved, inputs) if training.loads_inputs else saved


@dataclass(frozen=True)
class _Evaluation:
    """The evaluation of a saved state."""

    training: Training

    def __call__(self, left: Any) -> Any:
        state, _ = _taken_up(self.training, left)
        return self.training.evaluate(state)


def _taken_up(training: Training, left: Any) -> tuple[Any, tuple[Any, ...]]:
    """The state that the segment before has left, and what the stage got, where `load` takes it."""
    if not training.loads_inputs:
        return training.load(left), ()
    saved, inputs = left
    return training.load(saved, *inputs), inputs


def _digest(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def stage_path(
    stages: Sequence[Stage],
    params: Params,
    upstream: str,
    steps: int,
    checkpoint_every: int | None = None,
) -> Path:
    """The path of a configuration through these stages.

    Args:
        stages: Plain and iterative stages, first to last.
        params: `"stage.param"` -> value or schedule; plain stages get its value at step 0.
        upstream: The key of the run's inputs.
        steps: How far to train iterative stages.
        checkpoint_every: Save iterative stages also at every multiple of so many steps.
    """
    path = Path(upstream)
    for stage in stages:
        prefix = f"{stage.name}."
        own = {key.removeprefix(prefix): v for key, v in params.items() if key.startswith(prefix)}
        if isinstance(stage, IterativeStage):
            path = stage.extend(path, own, steps, checkpoint_every)
        else:
            values = {k: v(0) if isinstance(v, Schedule) else v for k, v in own.items()}
            path = path.call(stage.name, stage.code, values)
    return path
