"""Pipelines whose last stage evaluates one function of the inputs of all stages.

The best inputs of a stage depend on those of the other stages. In a pipeline that only adds up
values of its stages, each stage could be tuned by itself.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eeipu.benchmarks.synthetic.costs import stage_cost
from eeipu.benchmarks.synthetic.functions import FUNCTIONS
from eeipu.pipeline import Pipeline
from eeipu.space import Float
from eeipu.stages.declaration import INPUTS, Stage

__all__ = ["CompositePipeline"]


@dataclass(frozen=True)
class CompositePipeline:
    """A pipeline whose objective is a negated function of the inputs of all stages together.

    Attributes:
        function: The name of the function.
        stage_sizes: The number of inputs of each stage.
        cost_scales: The mean cost of each stage.
        graph: For each stage, the stages whose outputs it gets, by their numbers; none for the
            run's input. Empty: a chain.
        label: The name of the pipeline; by default that of the function and the number of stages.
    """

    function: str
    stage_sizes: tuple[int, ...]
    cost_scales: tuple[float, ...]
    graph: tuple[tuple[int, ...], ...] = ()
    label: str | None = None

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, to be maximised, run with the input `0.0`."""
        stages = [self._stage(k) for k in range(len(self.stage_sizes))]
        return Pipeline(stages, name=self.label or f"{self.function}-in-{len(stages)}")

    @property
    def about(self) -> str:
        """A description in one line."""
        costs = ":".join(map(str, self.cost_scales))
        shape = "of a graph" if self.graph else "in a chain"
        return f"one function in {len(self.stage_sizes)} stages {shape}, whose costs are as {costs}"

    @property
    def optimum(self) -> float:
        """The largest value of the objective."""
        return -FUNCTIONS[self.function].minimum

    def _stage(self, k: int) -> Stage:
        function = FUNCTIONS[self.function]
        first = sum(self.stage_sizes[:k])
        names = [f"x{i}" for i in range(first, first + self.stage_sizes[k])]
        is_last = k == len(self.stage_sizes) - 1

        def collect(*upstream: object, **inputs: float) -> object:
            x = {name: inputs[name] for name in names}
            for output in upstream:
                x.update(output if isinstance(output, dict) else {})
            if not is_last:
                return x
            return -float(function(np.array([[x[f"x{i}"] for i in range(function.d)]]))[0])

        def cost(**values: float) -> float:
            x = np.array([values[name] for name in names])
            unit = (x - function.low) / (function.high - function.low)
            return self.cost_scales[k] * (stage_cost(unit, stage=k) if names else 1.0)

        return Stage(
            name=self._name(k),
            space={name: Float(function.low, function.high) for name in names},
            function=collect,
            version="2",
            cost=cost,
            inputs=(tuple(map(self._name, self.graph[k])) or (INPUTS,)) if self.graph else None,
        )

    def _name(self, k: int) -> str:
        return f"{self.function}-{k}"
