"""A problem with a stage that trains in steps, and what its steps cost."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from eeipu.algorithms.node_tasks import NodeTask
from eeipu.benchmarks.problem import Problem
from eeipu.errors import ConfigurationError
from eeipu.stages.paths import Kind
from eeipu.stages.running.tasks import StageTask

__all__ = ["CURVE_PROBLEMS", "CurveProblem", "load"]

CURVE_PROBLEMS = (
    "power-laws",
    "quadratics",
    "late-bloomers",
    "digits-network",
    "segmentation",
    "distillation",
)
"""The names of the problems."""

# What an evaluation costs, in steps of an average training.
EVALUATION = 0.2


@dataclass(frozen=True)
class CurveProblem(Problem):
    """A benchmark problem with a stage that trains in steps; its costs are declared.

    A stage that trains in steps has no declared cost of its own: the problem says what each call
    costs, and a `SimulatedPool(seconds=problem.cost_of)` charges it. Costs may depend on the
    hyper-parameters of the call, and on those of the plain stages that come before it.

    Attributes:
        steps: The number of steps of a whole training.
        stage_costs: Plain stage -> what a call costs, by hyper-parameters.
        step_cost: What a step of training costs, by the hyper-parameters at that step.
    """

    steps: int = 1
    stage_costs: Mapping[str, Callable[..., float]] | None = None
    step_cost: Callable[..., float] = lambda **_: 1.0

    def cost_of(self, task: StageTask) -> float:
        """What a call costs, in steps of an average training."""
        call, above = task.call, _params_above(task)
        if call.kind is Kind.EVALUATION:
            return EVALUATION
        if call.kind is Kind.TRAINING:
            schedules = call.params.items()
            return math.fsum(
                self.step_cost(**{**above, **{name: each(step) for name, each in schedules}})
                for step in range(call.start, call.stop)
            )
        return (self.stage_costs or {})[call.stage.name](**{**above, **call.params})


def _params_above(task: StageTask) -> dict[str, Any]:
    """The hyper-parameters of the plain stages that come before a call of a plan."""
    if not isinstance(task, NodeTask) or task.node is None:
        return {}
    before = (s for s in task.node.path.stretches if s.stop <= task.node.start)
    plain = [dict(s.call.params) for s in before if s.call.kind is Kind.PLAIN]
    return {name: value for params in plain for name, value in params.items()}


def load(name: str) -> CurveProblem:
    """A problem by its name.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name not in CURVE_PROBLEMS:
        raise ConfigurationError(
            f"there is no problem {name!r}; choose among {list(CURVE_PROBLEMS)}."
        )
    module = import_module(f"eeipu.benchmarks.learning_curves.{name.replace('-', '_')}")
    made: Any = module.problem()
    assert isinstance(made, CurveProblem)
    return made
