"""Whether a training draws from random generators of its process, which no checkpoint of it has.

A training in steps says with `uses_process_state` that it sets the generators behind `np.random`,
`random` and `torch.rand` itself. One that does not say so, and draws from them, would draw other
numbers after a checkpoint than without one: its values would depend on which trials share it.
"""

import pickle
import random
import sys
import warnings
from typing import Any

__all__ = ["generators_now", "warn_of_draws"]


def generators_now() -> dict[str, Any]:
    """The states of the generators of this process, by the names under which they are known."""
    states: dict[str, Any] = {"random": random.getstate()}
    numpy, torch = (sys.modules.get(name) for name in ("numpy", "torch"))
    if numpy is not None:
        states["np.random"] = pickle.dumps(numpy.random.get_state())
    if torch is not None and hasattr(torch, "get_rng_state"):
        states["torch.rand"] = torch.get_rng_state().numpy().tobytes()
    return states


def warn_of_draws(stage: str, before: dict[str, Any]) -> None:
    """Warn if one of the generators has another state than before.

    Args:
        stage: The name of the stage that has trained since.
        before: What `generators_now` gave.
    """
    now = generators_now()
    moved = [name for name, state in before.items() if now[name] != state]
    if moved:
        warnings.warn(
            f"the training of stage {stage!r} draws from {moved[0]}, a random generator of the "
            f"whole process: after a checkpoint it would draw other numbers, so that values depend "
            f"on what trials share. Draw from a generator in the state, such as "
            f"np.random.default_rng(seed); or save and load the generator's state, and say "
            f"Training(..., uses_process_state=True).",
            RuntimeWarning,
            stacklevel=2,
        )
