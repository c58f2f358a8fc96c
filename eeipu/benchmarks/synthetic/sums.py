"""Pipelines in which each stage adds the value of its own function to its input.

These are the pipelines of the paper (Essofi et al. 2024, section 5.1), and variants of them: with
noise, with discrete inputs, with costs or functions that depend on earlier stages, and in graphs.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.synthetic.costs import stage_cost, workload
from eeipu.benchmarks.synthetic.functions import FUNCTIONS, TestFunction
from eeipu.benchmarks.synthetic.inputs import Kind, Value, distribution, levels, position
from eeipu.pipeline import Pipeline
from eeipu.stages.declaration import INPUTS, Stage

__all__ = ["Handed", "SumPipeline"]


# At most, a twist moves the middle of the next stage's domain to a tenth of it or to nine tenths.
MAX_TWIST = 9.0


class Handed(NamedTuple):
    """The output of a stage where later stages depend on more than the sum so far.

    Attributes:
        total: The sum so far.
        workload: The factor of all later costs.
        twist: The first input, scaled to values between 0 and 1; at a half, the next stage's
            function is as it stands.
    """

    total: float
    workload: float = 1.0
    twist: float = 0.5


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
        weights: The standard deviation of each stage's part in the objective, over its domain; by
            default functions are as they stand.
        graph: For each stage, the stages whose outputs it gets, by their numbers; none for the
            run's input. Each stage hands its output to one other. Empty: a chain.
        twist: How much the first input of a stage moves where the next stage's function has its
            valleys, from 0 to 1. Whatever that input is, every value of the function is within
            reach, so that the optimum stays that of the sum. Inputs must be floats.
        is_shown: Whether stages show the sum so far also where they hand on more than that.
        cost_shapes: Where the costs of the stages have their scales and shifts from; another number
            gives other ones.
        label: The name of the pipeline; by default the names of its functions.
    """

    functions: tuple[str, ...]
    cost_scales: tuple[float, ...]
    kinds: tuple[Kind, ...] = ()
    noise: float = 0.0
    is_drawn_anew: bool = False
    seed: int = 0
    upstream_costs: bool = False
    weights: tuple[float, ...] = ()
    graph: tuple[tuple[int, ...], ...] = ()
    twist: float = 0.0
    is_shown: bool = False
    cost_shapes: int = 0
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
        shape = " of a graph" if self.graph else ""
        text = f"a sum of {len(self.functions)} functions, one a stage{shape}, whose costs are as "
        text += costs
        if self.kinds:
            text += f"; inputs: {', '.join(self.kinds)}"
        if self.noise:
            text += "; noisy, anew in each run" if self.is_drawn_anew else "; noisy"
        if self.twist:
            text += "; stages depend on those before them"
        return text + ("; the first input scales later costs" if self.upstream_costs else "")

    @property
    def optimum(self) -> float:
        """The largest value of the objective, without noise."""
        return -sum(
            self._scale(k)
            * (
                function.minimum
                if (grid := levels(kind, function)) is None
                # A grid is small enough to evaluate all of it.
                else function.minimum_on(grid)
            )
            for k in range(len(self.functions))
            for function, kind in (self._part(k),)
        )

    @property
    def _hands_more(self) -> bool:
        """Whether stages hand on more than the sum so far."""
        return self.upstream_costs or self.twist > 0.0

    def _scale(self, k: int) -> float:
        """The factor of the stage's function."""
        return self.weights[k] / FUNCTIONS[self.functions[k]].spread if self.weights else 1.0

    def _part(self, k: int) -> tuple[TestFunction, Kind]:
        return FUNCTIONS[self.functions[k]], self.kinds[k] if self.kinds else "float"

    @property
    def _noise_std(self) -> float:
        spreads = self.weights or [FUNCTIONS[f].spread for f in self.functions]
        return self.noise * float(np.linalg.norm(spreads))

    def _stage(self, k: int) -> Stage:
        function, kind = self._part(k)
        names = [f"x{i}" for i in range(function.d)]
        is_last = k == len(self.functions) - 1
        return Stage(
            name=self._name(k),
            space={name: distribution(kind, function) for name in names},
            function=self._adding(k, names),
            version=f"1, noise {self.noise}, seed {self.seed}" if self.noise else "1",
            cost=self._costing(k, names),
            memoize=not (self.is_drawn_anew and k == len(self.functions) - 1),
            inputs=(tuple(map(self._name, self.graph[k])) or (INPUTS,)) if self.graph else None,
            observe=_total if self.is_shown and self._hands_more and not is_last else None,
        )

    def _name(self, k: int) -> str:
        return f"{self.functions[k]}-{k}"

    def _adding(self, k: int, names: list[str]) -> Callable[..., object]:
        """The function of the stage."""
        function, kind = self._part(k)
        is_last = k == len(self.functions) - 1
        runs: Counter[str] = Counter()  # how often each configuration has run

        def add(*upstream: float | Handed, **values: Value) -> object:
            got = _joined(upstream)
            x = np.array([position(kind, function, values[name]) for name in names])
            unit = _unit(x, function)
            if self.twist:
                moved = _twisted(unit, self.twist * (2.0 * got.twist - 1.0))
                x = function.low + (function.high - function.low) * moved
                x = np.clip(x, function.low, function.high)  # rounding may leave the domain
            total = got.total - self._scale(k) * float(function(x[None])[0])
            if is_last:
                return self._observed(total, got.total, values, runs)
            if not self._hands_more:
                return total
            is_scaling = self.upstream_costs and k == 0
            return Handed(
                total, workload(float(unit[0])) if is_scaling else got.workload, float(unit[0])
            )

        return add

    def _costing(self, k: int, names: list[str]) -> Callable[..., float]:
        """The declared cost of the stage."""
        function, kind = self._part(k)

        def cost(**values: Value) -> float:
            x = np.array([position(kind, function, values[name]) for name in names])
            unit = _unit(x, function)
            return self.cost_scales[k] * stage_cost(unit, stage=k + self.cost_shapes)

        def cost_of_workload(
            first: float | Handed, *others: float | Handed, **values: Value
        ) -> float:
            return _joined((first, *others)).workload * cost(**values)

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


def _total(output: Handed) -> dict[str, float]:
    """What a stage shows of its output."""
    return {"total": output.total}


def _joined(upstream: Sequence[float | Handed]) -> Handed:
    """What a stage gets from one stage or several."""
    parts = [each if isinstance(each, Handed) else Handed(each) for each in upstream]
    if len(parts) == 1:
        return parts[0]
    return Handed(
        sum(part.total for part in parts),
        # At most one of them comes from the stage that scales costs.
        math.prod(part.workload for part in parts),
        sum(part.twist for part in parts) / len(parts),
    )


def _twisted(unit: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Points of the unit cube after a smooth map of the cube onto itself.

    The map is `u g / (1 + (g - 1) u)`; one over `g` gives its inverse.

    Args:
        unit: The points.
        exponent: That of `g = MAX_TWIST ** exponent`; zero leaves all points where they are.
    """
    g = MAX_TWIST**exponent
    moved: NDArray[np.float64] = unit * g / (1.0 + (g - 1.0) * unit)
    return moved


def _unit(x: NDArray[np.float64], function: TestFunction) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = (x - function.low) / (function.high - function.low)
    return unit
