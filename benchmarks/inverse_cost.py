"""The error of E[1 / sum_k c_k] with the default samples, against two million independent ones.

Run `python benchmarks/inverse_cost.py [--json]`; it takes about two minutes.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from botorch.utils.sampling import draw_sobol_normal_samples
from figures import Figure, at_most, show

from eeipu.acquisition import DEFAULT_NUM_SAMPLES, log_expected_inverse_cost

CASES = 200
PLAIN_SAMPLES = 2_000_000


def case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Moments of the log costs of one to ten stages, deviations up to 1."""
    k = rng.integers(1, 11)
    return rng.uniform(-3.0, 3.0, k), rng.uniform(0.0, 1.0, k)


def plain(mean: np.ndarray, std: np.ndarray, rng: np.random.Generator) -> float:
    """`E[1 / C]` by plain Monte Carlo."""
    total, block = 0.0, 100_000
    for _ in range(PLAIN_SAMPLES // block):
        costs = np.exp(mean + std * rng.standard_normal((block, len(mean)), dtype=np.float32))
        total += (1.0 / costs.sum(-1)).sum()
    return total / PLAIN_SAMPLES


def quasi(mean: np.ndarray, std: np.ndarray, seed: int, count: int) -> float:
    """`E[1 / C]` as the acquisition computes it."""
    normal = draw_sobol_normal_samples(len(mean), count, seed=seed, dtype=torch.double)
    log_costs = torch.from_numpy(mean) + torch.from_numpy(std) * normal
    return math.exp(log_expected_inverse_cost(log_costs).item())


def figures() -> Iterator[Figure]:
    """The error's median, 95th percentile and maximum, for the default and for half as many."""
    rng = np.random.default_rng(0)
    cases = [case(rng) for _ in range(CASES)]
    truths = [plain(*each, rng) for each in cases]
    for count in (DEFAULT_NUM_SAMPLES // 2, DEFAULT_NUM_SAMPLES):
        values = [quasi(*each, seed, count) for seed, each in enumerate(cases)]
        errors = 100 * np.abs(np.array(values) / truths - 1.0)
        name = f"error of E[1/C] with {count} samples, {CASES} cases"
        yield Figure(f"{name}, median", float(np.median(errors)), "%")
        if count == DEFAULT_NUM_SAMPLES:
            yield at_most(f"{name}, 95th percentile", float(np.quantile(errors, 0.95)), "%", 1.0)
        yield Figure(f"{name}, worst", float(errors.max()), "%")


if __name__ == "__main__":
    show(figures())
