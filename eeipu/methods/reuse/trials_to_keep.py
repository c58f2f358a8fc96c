"""The trials whose outputs are kept and offered: the best ones that have outputs of their own.

Many of the best trials differ in their last stages alone, or, in a graph, combine outputs of
others. Such a trial adds nothing that could be reused, so it does not count.
"""

from collections.abc import Iterable

from optuna.trial import FrozenTrial

from eeipu.pipeline import Pipeline

__all__ = ["with_outputs_of_their_own"]


def with_outputs_of_their_own(
    pipeline: Pipeline, best_first: Iterable[FrozenTrial], q: int
) -> tuple[FrozenTrial, ...]:
    """The best `q` trials, and the next ones until `q` have an output that no better trial has.

    Args:
        pipeline: The pipeline that is tuned.
        best_first: Trials that succeeded, the best one first.
        q: The number of trials, at least 1.

    Returns:
        The trials, best first; fewer if there are no more.
    """
    chosen: list[FrozenTrial] = []
    known: set[str] = set()
    adding = 0
    for place, trial in enumerate(best_first):
        if place >= q and adding >= q:
            break
        # The last stage's output is that of a whole trial.
        keys = zip(trial.user_attrs.get("stage_keys") or (), pipeline.memoizes[:-1], strict=False)
        own = {key for key, memoize in keys if memoize and key is not None} - known
        known |= own
        adding += bool(own)
        if own or place < q:
            chosen.append(trial)
    return tuple(chosen)
