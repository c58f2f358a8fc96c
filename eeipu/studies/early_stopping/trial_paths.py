"""The paths of a pipeline's configurations through its stages, trained up to a step."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from eeipu.algorithms.configurations import Config
from eeipu.errors import ConfigurationError
from eeipu.fingerprints.keys import joined
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution, Params
from eeipu.stages.declaration import Stage
from eeipu.stages.iterative import IterativeStage
from eeipu.stages.paths import Path
from eeipu.stages.running.calls import StageCall
from eeipu.stages.schedules import Schedule

__all__ = ["TrialPaths", "counted_stages", "iterative_stages"]

# Configurations whose stages and schedules are remembered. Those that are trained at the same time
# are asked about again and again.
REMEMBERED = 256


def iterative_stages(pipeline: Pipeline) -> list[IterativeStage]:
    """The stages of a pipeline that train in steps, first to last."""
    return [stage for stage in pipeline.stages if isinstance(stage, IterativeStage)]


def counted_stages(pipeline: Pipeline) -> list[IterativeStage]:
    """The stages whose steps may count: the last that trains in steps, and its alternatives."""
    found: list[IterativeStage] = []
    for stage, chosen in zip(
        reversed(pipeline.stages), reversed(pipeline.layout.chosen_by), strict=True
    ):
        if isinstance(stage, IterativeStage):
            found.append(stage)
            if not chosen:
                break
    return found[::-1]


class TrialPaths:
    """The paths of a pipeline's configurations.

    Of the stages of a configuration that train in steps, the last one is the one whose steps count:
    it is trained up to a step, and what gets its output runs on what it has become by then. Others
    are trained to their ends. Where alternatives have different numbers of steps, the longest
    training counts, and the others are trained to the same share of theirs. A configuration without
    such a stage is run as a whole at every step, which costs something once.

    Args:
        pipeline: The pipeline, with at least one iterative stage.
        upstream: The key of the run's inputs.

    Attributes:
        steps: The number of steps of the whole training.
    """

    def __init__(self, pipeline: Pipeline, upstream: str) -> None:
        self._counted = counted_stages(pipeline)
        self.steps = max(stage.steps for stage in self._counted)
        self._pipeline = pipeline
        self._upstream = upstream
        self._known: OrderedDict[int, tuple[Config, list[_Part]]] = OrderedDict()

    @property
    def space(self) -> dict[str, Distribution]:
        """The hyper-parameters that may change while the stage is trained whose steps count.

        There are none where alternatives are trained.
        """
        if len(self._counted) > 1 or self._is_alternative(self._counted[0]):
            return {}
        (stage,) = self._counted
        return {
            f"{stage.name}.{name}": distribution
            for name, distribution in stage.space.items()
            if name in stage.templates
        }

    def _is_alternative(self, stage: Stage) -> bool:
        return bool(self._pipeline.layout.chosen_by[self._pipeline.stages.index(stage)])

    def __call__(self, config: Mapping[str, Any], step: int) -> Path:
        """The path of a configuration up to a step; see `eeipu.algorithms.study_run.PathOf`."""
        return self._made(config, step)[0]

    def training(self, config: Mapping[str, Any], step: int) -> Path | None:
        """The same up to the checkpoint at this step; `None` where nothing is trained in steps."""
        return self._made(config, step)[1]

    def _made(self, config: Mapping[str, Any], step: int) -> tuple[Path, Path | None]:
        """The path of a configuration up to a step, and the path of its training up to there."""
        parts = self._parts(config)
        counted = next((p.place for p in reversed(parts) if p.is_iterative), None)
        paths: dict[int, Path] = {}
        training = None
        for part in parts:
            if len(part.given) > 1:
                sources = [None if k is None else paths[k] for k in part.given]
                path = Path.joining(sources, self._upstream)
            else:
                path = Path(self._upstream) if part.given[0] is None else paths[part.given[0]]
            stage, code = part.stage, part.stage.code_fingerprint
            if isinstance(stage, IterativeStage):
                steps = self._own_steps(stage, step) if part.place == counted else stage.steps
                path = path.train(stage.name, code, part.params, steps)
                training = path if part.place == counted else training
                paths[part.place] = path.evaluate(stage.name, code)
            else:
                paths[part.place] = path.call(stage.name, code, part.params)
        return paths[parts[-1].place], training

    def _own_steps(self, stage: IterativeStage, step: int) -> int:
        """How many steps of a stage are as large a share of its training as `step` of the whole."""
        return max(1, round(step * stage.steps / self.steps))

    def _parts(self, config: Config) -> list["_Part"]:
        """The stages of a configuration, with what they get and their hyper-parameters."""
        known = self._known.get(id(config))
        if known is None or known[0] is not config:
            known = self._known[id(config)] = config, list(self._made_parts(config))
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known[1]

    def _made_parts(self, config: Config) -> Iterator["_Part"]:
        layout = self._pipeline.layout
        last = layout.resolved(layout.last, config)
        assert last is not None, "a stage gives the objective"
        wanted, given = {last}, {}
        for k in range(last, -1, -1):
            if k in wanted:
                given[k] = tuple(layout.resolved(slot, config) for slot in layout.slots[k])
                wanted.update(j for j in given[k] if j is not None)
        for k in sorted(wanted):
            stage, prefix = self._pipeline.stages[k], f"{self._pipeline.stages[k].name}."
            own = {name[len(prefix) :]: v for name, v in config.items() if name.startswith(prefix)}
            if isinstance(stage, IterativeStage):
                yield _Part(k, stage, given[k], stage.schedules(own))
            else:
                values = {n: v(0) if isinstance(v, Schedule) else v for n, v in own.items()}
                yield _Part(k, stage, given[k], values)

    def counted_in(self, config: Config) -> str | None:
        """The name of the stage of a configuration whose steps count, if it has one."""
        names = [p.stage.name for p in self._parts(config) if p.is_iterative]
        return names[-1] if names else None

    def are_same(self, config: Config, other: Config, step: int) -> bool:
        """Whether two configurations have the same path up to a step."""
        if config is other:
            return True
        ends = [path.key(len(path)) for path in (self(config, step), self(other, step))]
        return ends[0] == ends[1]

    def calls_of(self, trial: FrozenTrial) -> tuple[StageCall, ...]:
        """The stage calls of a trial that was trained to the end.

        Raises:
            ConfigurationError: Its hyper-parameters have changed while it was trained.
        """
        if "schedules" in trial.user_attrs:
            raise ConfigurationError(
                f"the hyper-parameters of trial {trial.number} have changed while it was trained, "
                f"so that its parameters do not say how to make its outputs again; train with "
                f"space=tuner.best_schedule()."
            )
        return self.calls(trial.params)

    def calls(self, params: Params, path: Path | None = None) -> tuple[StageCall, ...]:
        """The stage calls of a configuration, with the content keys of its path.

        Args:
            params: The configuration.
            path: Its path; by default the one to the end of the training.
        """
        path = self(params, self.steps) if path is None else path
        ends: dict[str, str] = {}
        for part in path.parts():
            ends |= {s.call.stage: part.key(s.stop) for s in part.stretches}
        calls: list[StageCall] = []
        keys: dict[str | None, str] = {}  # the key of a whole training -> that of the path
        for call in self._pipeline.calls(params, self._upstream):
            key = keys[call.key] = ends[call.stage.name]
            sources = tuple(None if s is None else keys[s] for s in call.sources)
            upstream = joined([self._upstream if s is None else s for s in sources])
            calls.append(replace(call, key=key, upstream=upstream, sources=sources))
        return tuple(calls)


class _Part:
    """A stage of a configuration.

    Args:
        place: Its index in the pipeline.
        stage: The stage.
        given: The indices of the stages whose outputs it gets; `None` for the run's inputs.
        params: Its hyper-parameters: schedules, if it trains in steps.
    """

    __slots__ = ("given", "is_iterative", "params", "place", "stage")

    def __init__(
        self, place: int, stage: Stage, given: tuple[int | None, ...], params: Mapping[str, Any]
    ) -> None:
        self.place, self.stage, self.given, self.params = place, stage, given, params
        self.is_iterative = isinstance(stage, IterativeStage)
