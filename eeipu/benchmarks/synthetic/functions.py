"""Standard test functions on the paper's domains (Essofi et al. 2024, section 5.1), minimised.

Notation:
    n: number of points.
    d: number of inputs of a function.
    X: `n x d`, points in the domain of a function.

torch, BoTorch and SciPy's optimisers are imported when a function is first evaluated, so that
programs that only list problems or print tables start quickly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "FUNCTIONS", "TestFunction"]

Array = NDArray[np.float64]
Levels = tuple[float, ...]

# The number of points among which starts of searches for a minimum are chosen, the number of points
# for the spread of a function, the number of starts, and of those that are followed to the end.
SEARCH_POINTS = 2**16
SPREAD_POINTS = 2**12
STARTS = 20
POLISHED = 5

# The number of values that are tried of one input while the others stay, enough to find the best of
# the valleys that a function has in that direction, and how often this is done with every input.
LINE_POINTS = 101
SWEEPS = 3


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
        return self.minimum_among([None] * self.d)

    def minimum_on(self, levels: Levels) -> float:
        """The minimum over the grid on which every input takes one of these values."""
        return float(self(np.array(list(product(levels, repeat=self.d)))).min())

    def minimum_among(self, levels: Sequence[Levels | None]) -> float:
        """The minimum where some inputs take certain values only.

        From the best of many points, one input after the other gets its best value, and then all
        that are free move together.

        Args:
            levels: For each input, the values that it can take; `None` means the whole domain.
        """
        X = self._sample(SEARCH_POINTS)
        lines = [np.linspace(self.low, self.high, LINE_POINTS) if v is None else v for v in levels]
        for i, values in enumerate(levels):
            if values is not None:
                X[:, i] = _nearest(X[:, i], np.sort(values))
        starts = X[np.argsort(self(X))[:STARTS]]
        X = np.array([self._exchanged(x, [np.array(line) for line in lines]) for x in starts])
        best = X[np.argsort(self(X))[:POLISHED]]
        free = [i for i, values in enumerate(levels) if values is None]
        return min(self._polished(x, free) for x in best)

    def _exchanged(self, x: Array, lines: Sequence[Array]) -> Array:
        """The point after each of its inputs has got its best value on a line, in turn."""
        for _ in range(SWEEPS):
            for i, line in enumerate(lines):
                X = np.tile(x, (len(line) + 1, 1))
                X[1:, i] = line
                x = X[self(X).argmin()]
        return x

    def _polished(self, x: Array, free: Sequence[int]) -> float:
        """The local minimum from a point, of which only some inputs move."""
        from scipy.optimize import minimize

        value = float(self(x[None])[0])
        if not free:
            return value

        def at(inputs: Array) -> float:
            moved = x.copy()
            moved[free] = inputs
            return float(self(moved[None])[0])

        bounds = [(self.low, self.high)] * len(free)
        return min(value, float(minimize(at, x[free], bounds=bounds).fun))

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the values over the domain."""
        return float(self(self._sample(SPREAD_POINTS)).std())


def _nearest(x: Array, levels: Array) -> Array:
    """Each number moved to the nearest one of some levels, which ascend."""
    nearest: Array = levels[np.abs(x[:, None] - levels).argmin(axis=1)]
    return nearest


def _made(name: str, d: int, test_functions: Any) -> Any:
    return getattr(test_functions, name)(dim=d)


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

# Functions for many numbers of inputs, of which held-out problems draw: the class in BoTorch, the
# least and the largest number, and the domain, whose middle is not the optimum. With more inputs, a
# search does not find the minimum of Griewank's function among its many valleys.
_FAMILIES = {
    "ackley": ("Ackley", 1, 9, -3.0, 5.0),
    "dixon-price": ("DixonPrice", 2, 9, -2.0, 3.0),
    "griewank": ("Griewank", 1, 3, -8.0, 12.0),
    "levy": ("Levy", 1, 9, -4.0, 6.0),
    "michalewicz": ("Michalewicz", 1, 9, 0.0, 3.0),
    "rastrigin": ("Rastrigin", 1, 9, -1.2, 2.0),
    "rosenbrock": ("Rosenbrock", 2, 9, -1.5, 2.5),
    "styblinski-tang": ("StyblinskiTang", 1, 9, -5.0, 4.0),
}
FAMILIES = {
    f"{name}-{d}": TestFunction(partial(_made, made, d), d, low, high)
    for name, (made, least, most, low, high) in _FAMILIES.items()
    for d in range(least, most + 1)
}
FUNCTIONS |= FAMILIES
