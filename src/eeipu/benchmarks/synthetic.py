"""Synthetic pipelines: standard test functions cut into stages with declared costs.

In the paper's (Essofi et al. 2024, section 5.1) each stage adds the value of a function of its
own to what it gets from upstream. In coupled ones the last stage evaluates a single function of
the inputs of all stages, so that what is best in one depends on the others.

A stage declares a cost that is a sum of scaled and shifted logistic, sine and cosine terms of its
own inputs, all positive. Costs are declared, so results are the same on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import botorch.test_functions as tf
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from eeipu.pipeline import Pipeline
from eeipu.space import Float
from eeipu.stages import Stage

__all__ = ["FUNCTIONS", "PIPELINES", "CoupledPipeline", "SyntheticPipeline", "TestFunction"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TestFunction:
    """A standard test function on the paper's domain, minimised.

    Attributes:
        make: Its implementation in BoTorch.
        d: Its number of inputs.
        low: The lower bound of all of them.
        high: The upper bound.
    """

    __test__ = False  # its name begins like a test's

    make: Callable[[], tf.SyntheticTestFunction]
    d: int
    low: float
    high: float

    def __call__(self, X: Array) -> Array:
        """Values at `n x d`."""
        values: Array = self._function.evaluate_true(torch.from_numpy(X)).numpy()
        return values

    @cached_property
    def _function(self) -> tf.SyntheticTestFunction:
        function = self.make().double()
        # BoTorch refuses bounds without a global optimum inside, which the paper's may be.
        function.bounds = torch.tensor([[self.low], [self.high]]).expand(2, self.d).double()
        return function

    @cached_property
    def minimum(self) -> float:
        """The least value on the domain, by local searches from the best of many points."""
        sobol = torch.quasirandom.SobolEngine(self.d, scramble=True, seed=0)
        X = self.low + (self.high - self.low) * sobol.draw(2**16, dtype=torch.double).numpy()
        starts = X[np.argsort(self(X))[:20]]
        bounds = [(self.low, self.high)] * self.d
        ends = [minimize(lambda x: self(x[None])[0], x, bounds=bounds).fun for x in starts]
        return float(min(ends))


# The paper's names and domains, and the usual ones of the functions that are cut.
FUNCTIONS = {
    "branin2": TestFunction(tf.Branin, 2, 0.0, 10.0),
    "michalewicz2": TestFunction(partial(tf.Michalewicz, dim=2), 2, 0.0, 5.0),
    "styblinski-tang2": TestFunction(partial(tf.StyblinskiTang, dim=2), 2, -5.0, 0.0),
    "beale2": TestFunction(tf.Beale, 2, -2.0, 2.0),
    "rosenbrock2": TestFunction(partial(tf.Rosenbrock, dim=2), 2, 0.0, 5.0),
    "levy2": TestFunction(partial(tf.Levy, dim=2), 2, 0.0, 5.0),
    "holder-table2": TestFunction(tf.HolderTable, 2, 5.0, 10.0),
    "ackley3": TestFunction(partial(tf.Ackley, dim=3), 3, -3.0, 3.0),
    "hartmann3": TestFunction(partial(tf.Hartmann, dim=3), 3, -2.0, 2.0),
    "styblinski-tang3": TestFunction(partial(tf.StyblinskiTang, dim=3), 3, -5.0, 0.0),
    "hartmann6": TestFunction(tf.Hartmann, 6, 0.0, 1.0),
    "rosenbrock4": TestFunction(partial(tf.Rosenbrock, dim=4), 4, -2.0, 2.0),
    "shekel4": TestFunction(tf.Shekel, 4, 0.0, 10.0),
    "ackley6": TestFunction(partial(tf.Ackley, dim=6), 6, -2.0, 4.0),
}


@dataclass(frozen=True)
class SyntheticPipeline:
    """A pipeline whose objective is the negated sum of its stages' functions.

    Attributes:
        functions: The name of each stage's function.
        cost_scales: The size of each stage's costs.
    """

    functions: tuple[str, ...]
    cost_scales: tuple[float, ...]

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, to be maximised, run with the input `0.0`."""
        return Pipeline(
            [self._stage(k) for k in range(len(self.functions))], name="-".join(self.functions)
        )

    @property
    def optimum(self) -> float:
        """The largest value of the objective."""
        return -sum(FUNCTIONS[name].minimum for name in self.functions)

    def _stage(self, k: int) -> Stage:
        function = FUNCTIONS[self.functions[k]]
        names = [f"x{i}" for i in range(function.d)]

        def add(total: float, **inputs: float) -> float:
            x = np.array([[inputs[name] for name in names]])
            return total - float(function(x)[0])

        return _stage(f"{self.functions[k]}-{k}", names, function, add, k, self.cost_scales[k])


@dataclass(frozen=True)
class CoupledPipeline:
    """A pipeline whose objective is a negated function of the inputs of all stages together.

    Attributes:
        function: The function's name.
        stage_sizes: How many of its inputs each stage has.
        cost_scales: The size of each stage's costs.
    """

    function: str
    stage_sizes: tuple[int, ...]
    cost_scales: tuple[float, ...]

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline, to be maximised, run with the input `0.0`."""
        stages = [self._stage(k) for k in range(len(self.stage_sizes))]
        return Pipeline(stages, name=f"{self.function}-in-{len(stages)}")

    @property
    def optimum(self) -> float:
        """The largest value of the objective."""
        return -FUNCTIONS[self.function].minimum

    def _stage(self, k: int) -> Stage:
        function = FUNCTIONS[self.function]
        first = sum(self.stage_sizes[:k])
        names = [f"x{i}" for i in range(first, first + self.stage_sizes[k])]
        is_last = k == len(self.stage_sizes) - 1

        def collect(upstream: object, **inputs: float) -> object:
            before = upstream if isinstance(upstream, tuple) else ()
            x = (*before, *(inputs[name] for name in names))
            return -float(function(np.array([x]))[0]) if is_last else x

        return _stage(f"{self.function}-{k}", names, function, collect, k, self.cost_scales[k])


def _stage(
    name: str,
    inputs: list[str],
    function: TestFunction,
    run: Callable[..., object],
    k: int,
    cost_scale: float,
) -> Stage:
    """A stage of some of a function's inputs."""

    def cost(**values: float) -> float:
        x = np.array([values[each] for each in inputs])
        unit = (x - function.low) / (function.high - function.low)
        return cost_scale * _cost(unit, stage=k)

    return Stage(
        name=name,
        space={each: Float(function.low, function.high) for each in inputs},
        function=run,
        version="1",
        cost=cost,
    )


def _cost(unit: Array, stage: int) -> float:
    """The cost at a point of the unit cube: between about 0.2 and 3, 1 on average."""
    rng = np.random.default_rng(stage)
    terms = 0.0
    for u in unit:
        steepness, centre, phase = rng.uniform(5, 15), rng.uniform(0.3, 0.7), rng.uniform(0, 2, 2)
        weights = rng.dirichlet(np.ones(3))
        terms += (
            weights[0] * 2.0 / (1.0 + np.exp(-steepness * (u - centre)))
            + weights[1] * (1.0 + np.sin(np.pi * (2 * u + phase[0])))
            + weights[2] * (1.0 + np.cos(np.pi * (u + phase[1])))
        )
    return float(0.2 + 0.8 * terms / len(unit))


# Three to ten stages; costly early stages, costly late ones, and even ones.
_ALL: tuple[SyntheticPipeline | CoupledPipeline, ...] = (
    SyntheticPipeline(("beale2", "hartmann3", "beale2"), (1, 1, 1)),
    SyntheticPipeline(("branin2", "ackley3", "levy2"), (1, 1, 1)),
    SyntheticPipeline(("michalewicz2", "styblinski-tang2", "rosenbrock2"), (3, 2, 1)),
    SyntheticPipeline(("holder-table2", "hartmann3", "styblinski-tang3"), (1, 2, 3)),
    SyntheticPipeline(("levy2", "branin2", "michalewicz2", "ackley3", "beale2"), (3, 1, 2, 1, 1)),
    CoupledPipeline("hartmann6", (2, 2, 2), (1, 1, 1)),
    CoupledPipeline("shekel4", (1, 2, 1), (3, 2, 1)),
    CoupledPipeline("rosenbrock4", (2, 1, 1), (1, 2, 3)),
    CoupledPipeline("ackley6", (2, 2, 2), (2, 1, 1)),
)
PIPELINES = {problem.pipeline.name: problem for problem in _ALL}
