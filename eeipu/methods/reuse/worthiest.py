"""The trials whose kept outputs promise most, by the model instead of by rank."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from eeipu.methods.reuse.candidates import Reuse
from eeipu.methods.reuse.kept_parts import KeptParts
from eeipu.methods.reuse.value_codes import FREE

__all__ = ["worthiest"]

Array = NDArray[np.float64]


def worthiest(
    trials: Sequence[FrozenTrial],
    parts: KeptParts,
    worth: Callable[[list[Reuse]], Array],
    q: int,
) -> tuple[FrozenTrial, ...]:
    """The best trial, and those that have the parts of which most is expected.

    A part is worth the highest score of candidates that reuse it; in a graph also of those that
    reuse the best trial's other parts with it. Parts come one after another, the worthiest first,
    and each that no chosen trial has adds the best trial that has it.

    Args:
        trials: Trials that have ended, best first.
        parts: Their kept outputs.
        worth: What is expected of candidates that reuse something.
        q: The number of trials; fewer come if there are no more.
    """
    if len(trials) <= q or len(parts.codes) == 0:
        return tuple(trials[:q])
    rows = parts.codes
    if not parts.is_linear:
        own = rows[parts.by_trial[0]]
        company = [own[parts.agree(own, part)].max(axis=0, initial=FREE) for part in rows]
        rows = np.concatenate([rows, np.where(rows == FREE, np.stack(company), rows)])
    values = worth(parts.reuses(rows)).reshape(-1, len(parts.codes)).max(axis=0)
    chosen, covered = [0], set(parts.by_trial[0])
    for part in np.argsort(-values, kind="stable"):
        if len(chosen) == q:
            break
        if part not in covered:
            i = next(i for i, own in enumerate(parts.by_trial) if part in own)
            chosen.append(i)
            covered.update(parts.by_trial[i])
    chosen += [i for i in range(len(trials)) if i not in chosen][: q - len(chosen)]
    return tuple(trials[i] for i in sorted(chosen))
