"""Pipelines in which each stage adds the value of its own function to its input.

These are the pipelines of the paper (Essofi et al. 2024, section 5.1), and variants of them: with
noise, with discrete inputs, and with costs that depend on earlier stages.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.synthetic.costs import stage_cost, workload
from eeipu.benchmarks.synthetic.functions import FUNCTIONS, TestFunction
from eeipu.benchmarks.synthetic.inputs import Kind, distribution, levels, position
from eeipu.pipeline import Pipeline
from eeipu.stages.declaration import Stage

__all__ = ["Handed", "SumPipeline"]

Value = float | int | str


class Handed(NamedTuple):
    """The output of a stage where costs depend on earlier stages.

    Attributes:
        total: The sum so far.
        workload: The factor of all later costs.
    """

    total: float
    workload: float


@dataclass(frozen=True)
class SumPipeline:
    """A pipeline whose objective is the negated sum of its stages' functions.

    Attributes:
        functions: The name of the function of each stage.
        cost_scales: The mean cost of each stage.
        kinds: The kind of the inputs of each stage; by default all are floats.
        noise: The standard deviation of the noise, as a share of the standard deviation of the
            objective over the whole space. By default it depends on the configuration and the seed
            alone, so that a configuration has the same noise each time it runs. The metric
            `"noise_free"` has the objective without noise.
        is_drawn_anew: Whether the noise is another one each time that a configuration runs. The
            last stage is not memoized then. The noise depends on how often the configuration has
            run in this process besides, so that a run of a benchmark can be repeated.
        seed: The seed of the noise.
        upstream_costs: Whether the first input of the first stage scales the costs of all later
            stages.
        label: The name of the pipeline; by default the names of its functions.
    """

    functions: tuple[str, ...]
    cost_scales: tuple[float, ...]
    kinds: tuple[Kind, ...] = ()
    noise: float = 0.0
    is_drawn_anew: bool = False
    seed: int = 0
    upstream_costs: bool = False
    label: str | None = None

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, to be maximised, run with the input `0.0`."""
        return Pipeline(
            [self._stage(k) for k in range(len(self.functions))],
            objective="value" if self.noise else None,
            name=self.label or "-".join(self.functions),
        )

    @property
    def about(self) -> str:
        """A description in one line."""
        costs = ":".join(map(str, self.cost_scales))
        text = f"a sum of {len(self.functions)} functions, one a stage, whose costs are as {costs}"
        if self.kinds:
            text += f"; inputs: {', '.join(self.kinds)}"
        if self.noise:
            text += "; noisy, anew in each run" if self.is_drawn_anew else "; noisy"
        return text + ("; the first input scales later costs" if self.upstream_costs else "")

    @property
    def optimum(self) -> float:
        """The largest value of the objective, without noise."""
        return -sum(
            function.minimum
            if (grid := levels(kind, function)) is None
            # A grid is small enough to evaluate all of it.
            else function.minimum_on(grid)
            for function, kind in (self._part(k) for k in range(len(self.functions)))
        )

    def _part(self, k: int) -> tuple[TestFunction, Kind]:
        return FUNCTIONS[self.functions[k]], self.kinds[k] if self.kinds else "float"

    @property
    def _noise_std(self) -> float:
        return self.noise * float(np.linalg.norm([FUNCTIONS[f].spread for f in self.functions]))

    def _stage(self, k: int) -> Stage:
        function, kind = self._part(k)
        names = [f"x{i}" for i in range(function.d)]
        return Stage(
            name=f"{self.functions[k]}-{k}",
            space={name: distribution(kind, function) for name in names},
            function=self._adding(k, names),
            version=f"1, noise {self.noise}, seed {self.seed}" if self.noise else "1",
            cost=self._costing(k, names),
            memoize=not (self.is_drawn_anew and k == len(self.functions) - 1),
        )

    def _adding(self, k: int, names: list[str]) -> Callable[..., object]:
        """The function of the stage."""
        function, kind = self._part(k)
        is_last = k == len(self.functions) - 1
        runs: Counter[str] = Counter()  # how often each configuration has run

        def add(upstream: float | Handed, **values: Value) -> object:
            x = np.array([position(kind, function, values[name]) for name in names])
            before = upstream.total if isinstance(upstream, Handed) else upstream
            total = before - float(function(x[None])[0])
            if is_last:
                return self._observed(total, before, values, runs)
            if not self.upstream_costs:
                return total
            if isinstance(upstream, Handed):
                return Handed(total, upstream.workload)
            return Handed(total, workload(float(_unit(x, function)[0])))

        return add

    def _costing(self, k: int, names: list[str]) -> Callable[..., float]:
        """The declared cost of the stage."""
        function, kind = self._part(k)

        def cost(**values: Value) -> float:
            x = np.array([position(kind, function, values[name]) for name in names])
            return self.cost_scales[k] * stage_cost(_unit(x, function), stage=k)

        def cost_of_workload(upstream: Handed, **values: Value) -> float:
            return upstream.workload * cost(**values)

        return cost_of_workload if self.upstream_costs and k > 0 else cost

    def _observed(
        self, total: float, before: float, values: dict[str, Value], runs: Counter[str]
    ) -> object:
        """The output of the last stage: a number, or two metrics if there is noise."""
        if not self.noise:
            return total
        # The sum so far, to the last bit, stands for the configuration of the earlier stages.
        text = repr((self.seed, before, sorted(values.items())))
        runs[text] += 1
        if self.is_drawn_anew:
            text += f" run {runs[text]}"
        digest = hashlib.sha256(text.encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return {"value": total + self._noise_std * rng.standard_normal(), "noise_free": total}


def _unit(x: NDArray[np.float64], function: TestFunction) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = (x - function.low) / (function.high - function.low)
    return unit
