"""Standard test functions on the paper's domains (Essofi et al. 2024, section 5.1), minimised.

Notation:
    n: points; d: inputs of a function.
    X: `n x d`, points of a function's domain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import botorch.test_functions as tf
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["FUNCTIONS", "TestFunction"]

Array = NDArray[np.float64]

# Points from which the best local searches start, and how the spread of a function is measured.
SEARCH_POINTS = 2**16
SPREAD_POINTS = 2**12
STARTS = 20


@dataclass(frozen=True)
class TestFunction:
    """A standard test function on a cube.

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

    def _sample(self, count: int) -> Array:
        sobol = torch.quasirandom.SobolEngine(self.d, scramble=True, seed=0)
        points: Array = sobol.draw(count, dtype=torch.double).numpy()
        return self.low + (self.high - self.low) * points

    @cached_property
    def minimum(self) -> float:
        """The least value on the domain, by local searches from the best of many points."""
        X = self._sample(SEARCH_POINTS)
        starts = X[np.argsort(self(X))[:STARTS]]
        bounds = [(self.low, self.high)] * self.d
        ends = [minimize(lambda x: self(x[None])[0], x, bounds=bounds).fun for x in starts]
        return float(min(ends))

    def minimum_on(self, levels: tuple[float, ...]) -> float:
        """The least value where every input is one of these."""
        return float(self(np.array(list(product(levels, repeat=self.d)))).min())

    @cached_property
    def spread(self) -> float:
        """The standard deviation of its values over the domain."""
        return float(self(self._sample(SPREAD_POINTS)).std())


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
