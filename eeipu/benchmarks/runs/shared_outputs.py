"""Stage outputs that the runs of a comparison share.

Where costs are declared, the charge for a stage does not depend on the run that executed it. All
contenders of a seed begin with the same warm-up, and methods that consider neither costs nor
caches choose the same configurations with a cache and without. So, many stage calls of a
comparison occur in several runs, and need to be computed only once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from eeipu.benchmarks.problem import Problem
from eeipu.cache import StageCache
from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import inputs_key
from eeipu.pipeline import Pipeline
from eeipu.stages.declaration import Stage
from eeipu.stages.running.calls import stage_calls
from eeipu.stages.running.walks import run_path
from eeipu.stages.runs import number_of

__all__ = ["sharing"]

Settings = dict[str, Mapping[str, Any]]
"""The name of a stage -> its hyper-parameters, for a stage and all stages that lead to it."""


@dataclass(frozen=True)
class SharedOutput:
    """The output that a stage of a shared pipeline passes to the next ones.

    Attributes:
        settings: The hyper-parameters of the stage and of all stages that lead to it.
        output: The output of the original stage.
    """

    settings: Settings
    output: Any


def sharing(problem: Problem, outputs: StageCache) -> Problem:
    """The same problem, with stages that look up their outputs in a shared cache first.

    Args:
        problem: A problem whose stages all declare their costs.
        outputs: The cache that all runs share.

    Note:
        The outputs of stages are wrapped, so that multi-stage BO cannot see numbers among them.
        No problem whose stages take time has such numbers. What stages show is seen.
    """
    pipeline, key = problem.pipeline, inputs_key(problem.inputs)

    def output_of(settings: Settings) -> Any:
        stages = [each for each in pipeline.stages if each.name in settings]
        calls = stage_calls(stages, [settings[each.name] for each in stages], key)
        *_, last = run_path(calls, problem.inputs, outputs)
        if last.error is not None:
            raise PipelineError(last.error)
        is_last = last.name == pipeline.stage_names[-1]
        return last.output if is_last else SharedOutput(settings, last.output)

    stages = [_shared(each, output_of) for each in pipeline.stages]
    return replace(
        problem, pipeline=Pipeline(stages, objective=pipeline.objective, name=pipeline.name)
    )


def _shared(stage: Stage, output_of: Callable[[Settings], Any]) -> Stage:
    """The stage with wrapped inputs and output; its function and cost keep their signatures."""
    function, cost = stage.function, stage.cost
    assert function is not None
    assert cost is not None

    @wraps(function)
    def run(*inputs: Any, **params: Any) -> Any:
        return output_of({**_settings(inputs), stage.name: params})

    @wraps(cost)
    def declared(*inputs: Any, **params: Any) -> float:
        return cost(*map(_output, inputs), **params)

    def shown(given: Any) -> Any:
        output = _output(given)
        found = number_of(output) if stage.observe is None else stage.observe(output)
        return {} if found is None else found

    return replace(stage, function=run, cost=declared, observe=shown, version=stage.fingerprint)


def _settings(inputs: tuple[Any, ...]) -> Settings:
    """The settings that made the inputs of a stage; empty for one that gets the run's inputs."""
    shared = (each.settings for each in inputs if isinstance(each, SharedOutput))
    return {name: params for settings in shared for name, params in settings.items()}


def _output(given: Any) -> Any:
    return given.output if isinstance(given, SharedOutput) else given
