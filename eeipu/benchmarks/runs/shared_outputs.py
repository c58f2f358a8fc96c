"""Stage outputs that the runs of a comparison share.

Where costs are declared, what a stage is charged does not depend on who ran it. All contenders of
a seed begin with one warm-up, and those that look at neither costs nor caches choose alike with a
cache and without, so that many of a comparison's stage calls have been made before.
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
from eeipu.stages.calls import stage_calls
from eeipu.stages.declaration import Stage
from eeipu.stages.worker import run_path

__all__ = ["sharing"]

Path = tuple[Mapping[str, Any], ...]
"""The hyper-parameters of the first stages, one mapping a stage."""


@dataclass(frozen=True)
class Reached:
    """What one stage hands to the next.

    Attributes:
        path: How it came about.
        output: What the stage itself hands on.
    """

    path: Path
    output: Any


def sharing(problem: Problem, outputs: StageCache) -> Problem:
    """The same problem, whose stages compute only what is not among some outputs.

    Args:
        problem: One whose stages all declare their costs.
        outputs: What other runs have computed, and where this one's outputs go.

    Note:
        What stages pass on is wrapped, so that multi-stage BO would not see their numbers; no
        problem whose stages take time passes on any.
    """
    pipeline, key = problem.pipeline, inputs_key(problem.inputs)

    def reach(path: Path) -> Any:
        calls = stage_calls(pipeline.stages[: len(path)], path, key)
        *_, last = run_path(calls, problem.inputs, outputs)
        if last.error is not None:
            raise PipelineError(last.error)
        return last.output if len(path) == len(pipeline.stages) else Reached(path, last.output)

    stages = [_shared(each, reach) for each in pipeline.stages]
    return replace(
        problem, pipeline=Pipeline(stages, objective=pipeline.objective, name=pipeline.name)
    )


def _shared(stage: Stage, reach: Callable[[Path], Any]) -> Stage:
    """The stage, with the same signatures of its function and its cost."""
    function, cost = stage.function, stage.cost
    assert function is not None
    assert cost is not None

    @wraps(function)
    def run(*inputs: Any, **params: Any) -> Any:
        return reach((*_path(inputs), params))

    @wraps(cost)
    def declared(*inputs: Any, **params: Any) -> float:
        return cost(*map(_output, inputs), **params)

    return replace(stage, function=run, cost=declared, version=stage.fingerprint)


def _path(inputs: tuple[Any, ...]) -> Path:
    """How a stage's inputs came about; the first stage's are the run's."""
    return inputs[0].path if inputs and isinstance(inputs[0], Reached) else ()


def _output(given: Any) -> Any:
    return given.output if isinstance(given, Reached) else given
