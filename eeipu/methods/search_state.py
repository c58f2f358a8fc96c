"""The state of a search, which a method sees when it chooses: trials, budget, costs and models."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest

import numpy as np
import torch
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from eeipu.methods.budget import Budget
from eeipu.methods.history import History
from eeipu.methods.learning.fits import Fits
from eeipu.methods.search_models import SearchModels
from eeipu.methods.transfer.earlier_trials import EarlierTrials

__all__ = ["Search"]

# A reused stage is taken to cost at least this share of a stage's mean cost: the factor 1 / C of a
# candidate that is nearly free must not outweigh everything else.
LEAST_LOAD_SHARE = 1e-2

# Choosing the next configuration is expected to cost what it has cost in the mean over this many
# of the last trials: the time grows with the number of trials, and differs from one to the next.
RECENT_CHOICES = 10


@dataclass(frozen=True)
class Search:
    """The state of a search when a trial is to begin.

    Attributes:
        history: The trials so far.
        budget: What all trials together may cost.
        n_initial: The number of trials in the warm-up.
        number: The number of the trial that is to begin.
        seed: Fixes everything random.
        fits: Where the fits of the models start.
        device: Where to fit them; `None`: whichever device is faster.
        earlier: What earlier studies know; `None`: there are none to learn from.
    """

    history: History
    budget: Budget
    n_initial: int
    number: int
    seed: int
    fits: Fits = field(default_factory=Fits)
    device: torch.device | None = None
    earlier: EarlierTrials | None = None

    @cached_property
    def models(self) -> SearchModels:
        """The models of the objective and the costs. Each is fitted when it is first used."""
        return SearchModels(self.history, self.fits, self.device, self.earlier)

    @property
    def trial_seed(self) -> int:
        """A seed for this trial alone, the same in a study that is resumed."""
        return int(np.random.SeedSequence([self.seed, self.number]).generate_state(1)[0])

    def random(self, number: int, purpose: int) -> np.random.Generator:
        """Random numbers of this trial or an earlier one, independent for each purpose."""
        return np.random.default_rng([self.seed, number, purpose])

    # --- The budget

    @property
    def remaining(self) -> float:
        """What is left of the budget; never negative."""
        return self.budget.remaining(self.history.spent)

    @cached_property
    def uncommitted(self) -> float:
        """The unspent part of the budget minus what running trials are still expected to cost.

        Stages that a running trial has reused or executed cost nothing more. If it does not say
        which those are, what it has paid counts towards all of them.
        """
        if self.X_pending is None:
            return self.remaining
        mean, _ = self.models.costs.by_stage.log_cost_posterior(self.X_pending)
        due = [
            _due(trial, costs)
            for trial, costs in zip(self.history.running, mean.exp().tolist(), strict=True)
        ]
        return max(0.0, self.remaining - math.fsum(due))

    @cached_property
    def cooling(self) -> float:
        """eta: the unspent share of the budget after the warm-up, in `[0, 1]`.

        Without a budget it is the share of the run that is left; see `Budget.share_left`.
        """
        return self.share_left(self.history.spent_by(self.n_initial))

    def share_left(self, spent_at_first: float) -> float:
        """The unspent share of the budget, not counting what was spent at first, in `[0, 1]`."""
        return self.budget.share_left(self.history.spent, spent_at_first)

    # --- The trials

    @cached_property
    def X_pending(self) -> Tensor | None:  # noqa: N802
        """The configurations that are running, `m x d`; `None` if there are none."""
        running = self.history.running_X
        return torch.from_numpy(running) if len(running) else None

    @property
    def mean_cost(self) -> float:
        """The mean cost of a trial that reuses nothing; 1 if it is not known or not positive."""
        known = self.history.stages.total_costs
        mean = float(np.nanmean(known)) if np.isfinite(known).any() else 0.0
        return mean if mean > 0 else 1.0

    @cached_property
    def load_cost(self) -> float:
        """The mean charge for a reused stage.

        Loading an output serves all stages that lead to it, so they share its time.
        """
        loads, reused = 0.0, 0
        for trial in self.history.ended:
            attrs = trial.user_attrs
            if trial.state is TrialState.COMPLETE and any(attrs.get("memoized", ())):
                loads += _charged_for_loading(trial)
                left_out = (attrs.get("stage_keys") or ()).count(None)
                reused += sum(attrs["memoized"]) - left_out
        return loads / max(reused, 1)

    @cached_property
    def memoized_cost(self) -> float:
        """The cost that scores assume for a reused stage: the load cost, but never nothing."""
        known = self.history.stages.costs[~np.isnan(self.history.stages.costs)]
        typical = float(known.mean()) if len(known) and known.any() else 1.0
        return max(self.load_cost, LEAST_LOAD_SHARE * typical)

    @cached_property
    def overhead(self) -> float:
        """What one more trial is expected to be charged beside its stages and loading.

        It is what the user says, or else the mean charge for choosing a configuration and keeping
        its outputs, over the last trials that models chose.
        """
        if self.budget.overhead is not None:
            return self.budget.overhead
        # Those that were added to the study had been chosen elsewhere.
        own = [t for t in self.history.ended[self.n_initial :] if "overhead" in t.user_attrs]
        chosen = own[-RECENT_CHOICES:]
        charges = [_charged_for_choosing(t) + t.user_attrs.get("keep_s", 0.0) for t in chosen]
        return math.fsum(charges) / max(len(charges), 1)


def _due(trial: FrozenTrial, expected: list[float]) -> float:
    """What a running trial is still expected to be charged for its stages.

    Args:
        trial: The trial.
        expected: The expected cost of each stage.
    """
    attrs = trial.user_attrs
    memoized, costs = attrs.get("memoized") or (), attrs.get("stage_costs") or ()
    if not memoized and not costs:
        return max(0.0, math.fsum(expected) - _charged_for_stages(trial))
    notes = zip_longest(expected, memoized, costs)
    return math.fsum(
        cost
        for cost, is_reused, paid in notes
        if cost is not None and not is_reused and paid is None
    )


def _charged_for_choosing(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get("overhead") or 0.0)


def _charged_for_stages(trial: FrozenTrial) -> float:
    """What a trial was charged for its stages, loading included."""
    return float(trial.user_attrs.get("charged") or 0.0) - _charged_for_choosing(trial)


def _charged_for_loading(trial: FrozenTrial) -> float:
    """What a trial was charged for loading reused outputs.

    Trials that no tuner ran do not say so: it is what they were charged beyond executed stages.
    """
    attrs = trial.user_attrs
    if "load_s" in attrs:
        return float(attrs["load_s"])
    executed = sum(cost or 0.0 for cost in attrs.get("stage_costs") or ())
    return max(0.0, _charged_for_stages(trial) - executed)
