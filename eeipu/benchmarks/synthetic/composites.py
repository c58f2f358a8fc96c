"""Pipelines whose last stage evaluates one function of the inputs of all stages.

The best inputs of a stage depend on those of the other stages. In a pipeline that only adds up
values of its stages, each stage could be tuned by itself.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from eeipu.benchmarks.synthetic.costs import stage_cost, workload
from eeipu.benchmarks.synthetic.functions import FUNCTIONS
from eeipu.benchmarks.synthetic.inputs import Kind, Value, distribution, levels, position
from eeipu.pipeline import Pipeline
from eeipu.space import Int
from eeipu.stages.declaration import INPUTS, Stage
from eeipu.stages.joining.alternatives import Item, OneOf

__all__ = ["CompositePipeline"]

# The number of values that an alternative can give to the inputs of its stage.
LEVELS = 5


@dataclass(frozen=True)
class CompositePipeline:
    """A pipeline whose objective is a negated function of the inputs of all stages together.

    Attributes:
        function: The name of the function.
        stage_sizes: The number of inputs of each stage.
        cost_scales: The mean cost of each stage.
        graph: For each stage, the stages whose outputs it gets, by their numbers; none for the
            run's input. Empty: a chain.
        coarse: The stages, by their numbers, that have an alternative: one with a single
            hyper-parameter, a level, which gives all inputs of the stage one of a few values, at
            half the mean cost.
        kinds: The kind of the inputs of each stage; by default all are floats.
        upstream_costs: Whether the first input of the first stage scales the costs of all stages
            behind it.
        cost_shapes: Where the costs of the stages have their scales and shifts from; another number
            gives other ones.
        label: The name of the pipeline; by default that of the function and the number of stages.
    """

    function: str
    stage_sizes: tuple[int, ...]
    cost_scales: tuple[float, ...]
    graph: tuple[tuple[int, ...], ...] = ()
    coarse: tuple[int, ...] = ()
    kinds: tuple[Kind, ...] = ()
    upstream_costs: bool = False
    cost_shapes: int = 0
    label: str | None = None

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, to be maximised, run with the input `0.0`."""
        stages = [self._place(k) for k in range(len(self.stage_sizes))]
        return Pipeline(stages, name=self.label or f"{self.function}-in-{len(stages)}")

    @property
    def about(self) -> str:
        """A description in one line."""
        costs = ":".join(map(str, self.cost_scales))
        shape = "of a graph" if self.graph else "in a chain"
        text = f"one function in {len(self.stage_sizes)} stages {shape}, whose costs are as {costs}"
        if self.coarse:
            text += f"; {len(self.coarse)} have alternatives"
        if self.kinds:
            text += f"; inputs: {', '.join(self.kinds)}"
        return text + ("; the first input scales later costs" if self.upstream_costs else "")

    @property
    def optimum(self) -> float:
        """The largest value of the objective."""
        function = FUNCTIONS[self.function]
        if not self.kinds:
            return -function.minimum
        kinds = [self._kind(k) for k, size in enumerate(self.stage_sizes) for _ in range(size)]
        return -function.minimum_among([levels(kind, function) for kind in kinds])

    def _place(self, k: int) -> Item:
        """What stands in the list of the pipeline: a stage, or one of two."""
        if k not in self.coarse:
            return self._stage(k)
        return OneOf(
            self._name(k),
            [replace(self._stage(k), name=f"{self._name(k)}-fine"), self._coarse_stage(k)],
        )

    def _kind(self, k: int) -> Kind:
        return self.kinds[k] if self.kinds else "float"

    def _inputs(self, k: int) -> list[str]:
        """The names of the function's inputs that a stage sets."""
        first = sum(self.stage_sizes[:k])
        return [f"x{i}" for i in range(first, first + self.stage_sizes[k])]

    def _coarse_stage(self, k: int) -> Stage:
        """The alternative of a stage, which gives all of its inputs one value."""
        fine, function, names = self._stage(k), FUNCTIONS[self.function], self._inputs(k)
        assert fine.function is not None
        collect = fine.function

        def value(level: int) -> float:
            return function.low + (level + 0.5) / LEVELS * (function.high - function.low)

        def collect_level(*upstream: object, level: int) -> object:
            return collect(*upstream, **dict.fromkeys(names, value(level)))

        def cost(level: int) -> float:
            unit = np.array([(level + 0.5) / LEVELS])
            return 0.5 * self.cost_scales[k] * stage_cost(unit, stage=k + self.cost_shapes)

        return replace(
            fine,
            name=f"{self._name(k)}-coarse",
            space={"level": Int(0, LEVELS - 1)},
            function=collect_level,
            cost=cost,
        )

    def _stage(self, k: int) -> Stage:
        function, kind = FUNCTIONS[self.function], self._kind(k)
        names = self._inputs(k)
        is_last = k == len(self.stage_sizes) - 1

        def collect(*upstream: object, **inputs: Value) -> object:
            x = {name: position(kind, function, inputs[name]) for name in names}
            for output in upstream:
                x.update(output if isinstance(output, dict) else {})
            if not is_last:
                return x
            return -float(function(np.array([[x[f"x{i}"] for i in range(function.d)]]))[0])

        def cost(**values: Value) -> float:
            x = np.array([position(kind, function, values[name]) for name in names])
            unit = (x - function.low) / (function.high - function.low)
            shape = stage_cost(unit, stage=k + self.cost_shapes) if names else 1.0
            return self.cost_scales[k] * shape

        def cost_of_workload(first: object, *others: object, **values: Value) -> float:
            known = [
                output for output in (first, *others) if isinstance(output, dict) and "x0" in output
            ]
            if not known:
                return cost(**values)
            unit = (known[0]["x0"] - function.low) / (function.high - function.low)
            return workload(unit) * cost(**values)

        return Stage(
            name=self._name(k),
            space={name: distribution(kind, function) for name in names},
            function=collect,
            version="2",
            cost=cost_of_workload if self.upstream_costs and k > 0 else cost,
            inputs=(tuple(map(self._name, self.graph[k])) or (INPUTS,)) if self.graph else None,
        )

    def _name(self, k: int) -> str:
        return f"{self.function}-{k}"
