"""The models of a search: the objective and the costs, each fitted when it is first used."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from eeipu.methods.history import History
from eeipu.methods.learning.chances import SuccessChances
from eeipu.methods.learning.costs import CostModels
from eeipu.methods.learning.fits import Fits
from eeipu.methods.learning.standard_values import StandardValues
from eeipu.methods.learning.training_points import TrainingPoints
from eeipu.methods.transfer.earlier_trials import EarlierTrials
from eeipu.models.improvement import WeighedChain
from eeipu.models.objective import ObjectiveModel
from eeipu.models.observed_stages.chain import StageChain
from eeipu.models.observed_stages.increments import most_telling
from eeipu.models.observed_stages.shares import share_of_first

__all__ = ["SearchModels"]

# A chain of stages that counts for less is not asked, and beside one that counts for more than the
# rest of 1 the objective's model is not: what little it would change is not worth the time.
LEAST_SHARE = 0.05

# Standard values above this are the same to all models, whether they compress worse ones or not:
# it is as far below the middle as the best value is above.
COMPRESSED_BELOW = -1.0


@dataclass(frozen=True)
class SearchModels:
    """The models that a history of trials supports.

    Attributes:
        history: The trials so far.
        fits: Where the fits start, and the models that have been used so far.
        device: Where to fit; `None`: whichever device is faster.
        earlier: What earlier studies know; `None`: there are none to learn from.
    """

    history: History
    fits: Fits = field(default_factory=Fits)
    device: torch.device | None = None
    earlier: EarlierTrials | None = None

    @cached_property
    def points(self) -> TrainingPoints:
        """The configurations that models learn from, those of earlier studies first."""
        return TrainingPoints(self.history, self.earlier)

    @cached_property
    def chances(self) -> SuccessChances:
        """The models of success."""
        return SuccessChances(self.history, self.fits)

    @cached_property
    def costs(self) -> CostModels:
        """The models of costs."""
        return CostModels(self.points, self.fits, self.device)

    @cached_property
    def standard(self) -> StandardValues:
        """The objective values as the models of the objective learn them."""
        return StandardValues(self.history)

    @cached_property
    def by_objective(self) -> "tuple[SearchModels, ...]":
        """The models of each objective: these, and those of the others, where there are several."""
        others = range(1, len(self.history.are_minimized))
        return (self, *(replace(self, history=replace(self.history, objective=k)) for k in others))

    # --- The objective

    @cached_property
    def objective(self) -> ObjectiveModel:
        """The model of the standard values."""
        pipeline, k, values = self.history.pipeline, self.history.objective, self.standard.values
        if self.earlier is not None:
            values = np.concatenate([self.earlier.values[:, k], values])
        return self.fits.get(
            f"objective {k}" if k else "objective",
            lambda start, grown_from: ObjectiveModel(
                self.points.X,
                values,
                pipeline.columns.own,
                categorical=pipeline.cube.categorical_columns,
                start=start,
                grown_from=grown_from,
                device=self.device,
                **self.points.row_options,
            ),
        )

    @cached_property
    def chain(self) -> StageChain | None:
        """The model of the values by way of what stages show; `None` where they show nothing.

        Nor is there one for pipelines with alternatives, in which what a stage shows depends on
        which one was run; nor where outcomes have limits, as its best value does not know them; nor
        where the objective's model learns from earlier studies, which it would have to beat.
        """
        history, pipeline = self.history, self.history.pipeline
        is_plain = not (pipeline.layout.places or pipeline.outcome_constraints or self.earlier)
        if not (is_plain and history.stages.observations):
            return None
        leading = set(pipeline.graph.ancestors[-1])
        shown = [each for each in history.stages.observations.values() if each.stage in leading]
        numbers = [(each.stage, history.sign * each.values) for each in shown]
        observed = most_telling(numbers, self.standard.values, self.standard.unit)
        if not observed:
            return None
        return self.fits.get(
            "chain",
            lambda start, grown_from: StageChain(
                history.X,
                self.standard.values,
                observed,
                pipeline.columns.own,
                pipeline.graph.upstream,
                categorical=pipeline.cube.categorical_columns,
                start=start,
                grown_from=grown_from,
                focus=self.points.focus,
                device=self.device,
            ),
        )

    @cached_property
    def weighed_chain(self) -> WeighedChain | None:
        """`chain`, if it counts beside `objective`: by how well both predict left-out values."""
        if self.chain is None:
            return None
        share = share_of_first(
            torch.from_numpy(self.standard.values),
            self.chain.left_out(),
            self.objective.left_out(),
            COMPRESSED_BELOW,
        )
        if share < LEAST_SHARE:
            return None
        return WeighedChain(self.chain, 1.0 if share > 1.0 - LEAST_SHARE else share)

    @property
    def leading(self) -> ObjectiveModel | StageChain:
        """Of `objective` and `chain`, the one that counts more."""
        weighed = self.weighed_chain
        return self.objective if weighed is None or weighed.share <= 0.5 else weighed.chain

    def best_of(self, model: ObjectiveModel | StageChain) -> float:
        """The best value as one of the models of it knows it; that of `objective` is `best_f`."""
        return self.best_f if model is self.objective else model.best_f

    @cached_property
    def best_f(self) -> float:
        """The best standard value within all limits, corrected for luck; see `ObjectiveModel`.

        While no trial is within all limits, everything above the worst value is an improvement.
        """
        history = self.history
        if history.feasible.sum() == history.objectives.succeeded.sum():
            return self.objective.best_f
        counts = history.feasible if history.feasible.any() else history.objectives.succeeded
        mean, _ = self.objective.gp.posterior(torch.from_numpy(history.X[counts]))
        return float(mean.max() if history.feasible.any() else mean.min())

    @cached_property
    def believer(self) -> ObjectiveModel:
        """`objective`, which assumes that running trials will give its means.

        It is for scores that have no way of their own to account for running trials.
        """
        running = self.history.running_X
        if len(running) == 0:
            return self.objective
        return self.objective.believing(torch.from_numpy(running))
