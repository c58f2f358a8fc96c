"""The paths of a pipeline's configurations through its stages, trained up to a step."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from eeipu.algorithms.configurations import Config
from eeipu.errors import ConfigurationError
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution, Params
from eeipu.stages.iterative import IterativeStage, stage_path
from eeipu.stages.paths import Path
from eeipu.stages.running.calls import StageCall

__all__ = ["TrialPaths", "iterative_stages"]


def iterative_stages(pipeline: Pipeline) -> list[IterativeStage]:
    """The stages of a pipeline that train in steps, first to last."""
    return [stage for stage in pipeline.stages if isinstance(stage, IterativeStage)]


class TrialPaths:
    """The paths of a pipeline's configurations.

    The last stage that trains in steps is the one whose steps count: it is trained up to a step,
    and the stages after it run on what it has become by then. Other stages that train in steps are
    trained to their ends.

    Args:
        pipeline: The pipeline, with at least one iterative stage.
        upstream: The key of the run's inputs.

    Attributes:
        stage: The stage whose steps count.
        steps: The number of steps of its whole training.
    """

    def __init__(self, pipeline: Pipeline, upstream: str) -> None:
        trained = iterative_stages(pipeline)
        self.stage = trained[-1]
        self.steps = self.stage.steps
        self._pipeline = pipeline
        self._upstream = upstream
        self._all_steps = {stage.name: stage.steps for stage in trained}

    @property
    def space(self) -> dict[str, Distribution]:
        """The hyper-parameters that may change while the stage is trained."""
        stage = self.stage
        return {
            f"{stage.name}.{name}": distribution
            for name, distribution in stage.space.items()
            if name in stage.templates
        }

    def __call__(self, config: Mapping[str, Any], step: int) -> Path:
        """The path of a configuration up to a step; see `eeipu.algorithms.study_run.PathOf`."""
        steps = self._all_steps | {self.stage.name: step}
        return stage_path(self._pipeline.stages, config, self._upstream, steps)

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
        ends = {s.call.stage: s.stop for s in path.stretches}
        calls: list[StageCall] = []
        upstream = self._upstream
        for call in self._pipeline.calls(params, self._upstream):
            key = path.key(ends[call.stage.name])
            sources = (upstream,) if calls else (None,)
            calls.append(replace(call, key=key, upstream=upstream, sources=sources))
            upstream = key
        return tuple(calls)
