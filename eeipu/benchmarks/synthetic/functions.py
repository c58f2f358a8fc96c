"""Standard test functions on the paper's domains (Essofi et al. 2024, section 5.1), minimised.

Notation:
    n: points; d: inputs of a function.
    X: `n x d`, points of a function's domain.

torch, BoTorch and SciPy's optimisers are imported where a function is first evaluated: whoever only
names problems, as tables of results do, need not wait for them.
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

# Points from which the best local searches start, and how the spread of a function is measured.
SEARCH_POINTS = 2**16
SPREAD_POINTS = 2**12
STARTS = 20


@dataclass(frozen=True)
class TestFunction:
    """A standard test function on a cube.

    Attributes:
        make: Its implementation, from the module `botorch.test_functions`.
        d: Its number of inputs.
        low: The lower bound of all of them.
        high: The upper bound.
    """

    __test__ = False  # its name begins like a test's

    make: Callable[[Any], Any]
    d: int
    low: float
    high: float

    def __call__(self, X: Array) -> Array:
        """Values at `n x d`."""
        return self._values(X)

    @cached_property
    def _values(self) -> Callable[[Array], Array]:
        import torch
        from botorch import test_functions

        function = self.make(test_functions).double()
        # BoTorch refuses bounds without a global optimum inside, which the paper's may be.
        function.bounds = torch.tensor([[self.low], [self.high]]).expand(2, self.d).double()
        return lambda X: function.evaluate_true(torch.from_numpy(X)).numpy()

    def _sample(self, count: int) -> Array:
        import torch

        sobol = torch.quasirandom.SobolEngine(self.d, scramble=True, seed=0)
        points: Array = sobol.draw(count, dtype=torch.double).numpy()
        return self.low + (self.high - self.low) * points

    @cached_property
    def minimum(self) -> float:
        """The least value on the domain, by local searches from the best of many points."""
        from scipy.optimize import minimize

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
