"""What a model learns from trials that were trained to different steps.

Few trials are trained to the end, and a model of these alone would have nothing to learn from for
long. As in BOHB (Falkner et al. 2018, arXiv 1807.01774), it learns the values at the largest step
that enough trials have reached, and what it costs to come there. Trials that were stopped before
that step are pruned ones to it.
"""

import copy
from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

__all__ = ["COSTS_BY_STEP", "KEYS_BY_STEP", "at_common_step"]

# The user attribute with the costs of all stages up to each step.
COSTS_BY_STEP = "costs_by_step"

# The same for their content keys, by which pictures know what trials share.
KEYS_BY_STEP = "keys_by_step"

_TOLD = (TrialState.COMPLETE, TrialState.PRUNED)


def at_common_step(trials: Sequence[FrozenTrial], least: int) -> list[FrozenTrial]:
    """Trials as they were at the largest step that enough of them have reached.

    Args:
        trials: All trials of a study.
        least: How many trials are enough. (BOHB: one more than there are hyper-parameters.)

    Returns:
        All trials in their order. Those that have a value at that step are complete, with this
        value and the costs of coming there. If no step is common enough, they are as they were.
    """
    told = [trial for trial in trials if _has_told(trial)]
    counts = Counter(step for trial in told for step in trial.intermediate_values)
    step = max((step for step, count in counts.items() if count >= least), default=None)
    return list(trials) if step is None else [_at(trial, step) for trial in trials]


def _has_told(trial: FrozenTrial) -> bool:
    """Whether a trial has told something: also one that pauses, or goes on, in another process."""
    return trial.state in _TOLD or (
        trial.state is TrialState.RUNNING and bool(trial.intermediate_values)
    )


def _at(trial: FrozenTrial, step: int) -> FrozenTrial:
    if not _has_told(trial) or step not in trial.intermediate_values:
        return trial
    seen = copy.copy(trial)
    seen.state = TrialState.COMPLETE
    seen.value = trial.intermediate_values[step]
    attrs = {n: v for n, v in trial.user_attrs.items() if n not in ("pruned_stage", "error")}
    costs = trial.user_attrs.get(COSTS_BY_STEP, {}).get(str(step))
    seen.user_attrs = attrs if costs is None else attrs | {"stage_costs": costs}
    return seen
