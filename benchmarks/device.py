"""The number of trials from which on a GPU fits the models faster than one core of the processor.

The search has four stages and eight parameters. The two GPs of the objective and the seven of the
stages are fitted from their priors in two batches, and their covariances are factorised. Times are
medians of three, on one thread. Without a GPU, only the times of the processor are printed.
Run `python benchmarks/device.py [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from figures import Figure, show

from eeipu.cost_models import StageCostModel
from eeipu.models.objective import ObjectiveModel

TRIALS = (50, 100, 200, 400, 800)
REPEATS = 3
STAGE_COLUMNS = ((0, 1), (2, 3), (4, 5), (6, 7))


def fit_s(n: int, device: torch.device) -> float:
    """The median time of the fits for `n` trials."""
    rng = np.random.default_rng(n)
    X = rng.random((n, 8))
    values = np.sin(3.0 * X).sum(axis=1)
    costs = np.exp(np.stack([np.sin(4.0 * X[:, c].sum(axis=1)) for c in STAGE_COLUMNS], axis=1))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        ObjectiveModel(X, values, STAGE_COLUMNS, device=device)
        StageCostModel(torch.from_numpy(X), torch.from_numpy(costs), STAGE_COLUMNS, device=device)
        times.append(time.perf_counter() - start)
    return median(times)


def figures() -> Iterator[Figure]:
    """The times on each device, and the least number of trials at which a GPU wins."""
    has_gpu = torch.cuda.is_available()
    faster = []
    if has_gpu:
        fit_s(TRIALS[0], torch.device("cuda"))  # its context, and its libraries
    for n in TRIALS:
        on_cpu = fit_s(n, torch.device("cpu"))
        yield Figure(f"fits of {n} trials, CPU", on_cpu, "s")
        if has_gpu:
            on_gpu = fit_s(n, torch.device("cuda"))
            yield Figure(f"fits of {n} trials, {torch.cuda.get_device_name()}", on_gpu, "s")
            faster += [n] if on_gpu < on_cpu else []
    if faster:
        yield Figure("trials from which the GPU is faster", min(faster), "trials")


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(figures())
