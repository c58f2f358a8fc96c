"""Standard test functions on the paper's domains (Essofi et al. 2024, section 5.1), minimised.

Notation:
    n: number of points.
    d: number of inputs of a function.
    X: `n x d`, points in the domain of a function.

torch, BoTorch and SciPy's optimisers are imported when a function is first evaluated, so that
programs that only list problems or print tables start quickly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FUNCTIONS", "TestFunction"]

Array = NDArray[np.float64]

# The number of points among which starts of local searches are chosen, the number of points for the
# spread of a function, and the number of local searches.
SEARCH_POINTS = 2**16
SPREAD_POINTS = 2**12
STARTS = 20


@dataclass(frozen=True)
class TestFunction:
    """A standard test function on a cube.

    Attributes:
        make: Makes the implementation, given the module `botorch.test_functions`.
        d: The number of inputs.
        low: The lower bound of every input.
        high: The upper bound of every input.
    """

    __test__ = False  # pytest would take it for a test

    make: Callable[[Any], Any]
    d: int
    low: float
    high: float

    def __call__(self, X: Array) -> Array:
        """The values at the points `X`, `n x d -> n`."""
        return self._values(X)

    @cached_property
    def _values(self) -> Callable[[Array], Array]:
        import torch
        from botorch import test_functions

        function = self.make(test_functions).double()
        # Set afterwards: BoTorch refuses bounds without a global optimum, as the paper has them.
        function.bounds = torch.tensor([[self.low], [self.high]]).expand(2, self.d).double()
        return lambda X: function.evaluate_true(torch.from_numpy(X)).numpy()

    def _sample(self, count: int) -> Array:
        import torch

        sobol = torch.quasirandom.SobolEngine(self.d, scramble=True, seed=0)
        points: Array = sobol.draw(count, dtype=torch.double).numpy()
        return self.low + (self.high - self.low) * points

    @cached_property
    def minimum(self) -> float:
        """The minimum on the domain, by local searches from the best of many points."""
        from scipy.optimize import minimize

        X = self._sample(SEARCH_POINTS)
        starts = X[np.argsort(self(X))[:STARTS]]
        bounds = [(self.low, self.high)] * self.d
        ends = [minimize(lambda x: self(x[None])[0], x, bounds=bounds).fun for x in starts]
        return float(min(ends))

    def minimum_on(self, levels: tuple[float, ...]) -> float:
        """The minimum over the grid on which every input takes one of these values."""
        return float(self(np.array(list(product(levels, repeat=self.d)))).min())

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the values over the domain."""
        return float(self(self._sample(SPREAD_POINTS)).std())


# Names and domains of the paper; the last four are the composites, with their usual domains.
FUNCTIONS = {
    "branin2": TestFunction(lambda tf: tf.Branin(), 2, 0.0, 10.0),
    "michalewicz2": TestFunction(lambda tf: tf.Michalewicz(dim=2), 2, 0.0, 5.0),
    "styblinski-tang2": TestFunction(lambda tf: tf.StyblinskiTang(dim=2), 2, -5.0, 0.0),
    "beale2": TestFunction(lambda tf: tf.Beale(), 2, -2.0, 2.0),
    "rosenbrock2": TestFunction(lambda tf: tf.Rosenbrock(dim=2), 2, 0.0, 5.0),
    "levy2": TestFunction(lambda tf: tf.Levy(dim=2), 2, 0.0, 5.0),
    "holder-table2": TestFunction(lambda tf: tf.HolderTable(), 2, 5.0, 10.0),
    "ackley3": TestFunction(lambda tf: tf.Ackley(dim=3), 3, -3.0, 3.0),
    "hartmann3": TestFunction(lambda tf: tf.Hartmann(dim=3), 3, -2.0, 2.0),
    "styblinski-tang3": TestFunction(lambda tf: tf.StyblinskiTang(dim=3), 3, -5.0, 0.0),
    "hartmann6": TestFunction(lambda tf: tf.Hartmann(), 6, 0.0, 1.0),
    "rosenbrock4": TestFunction(lambda tf: tf.Rosenbrock(dim=4), 4, -2.0, 2.0),
    "shekel4": TestFunction(lambda tf: tf.Shekel(), 4, 0.0, 10.0),
    "ackley6": TestFunction(lambda tf: tf.Ackley(dim=6), 6, -2.0, 4.0),
}
