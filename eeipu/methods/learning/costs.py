"""The models of what trials cost."""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from eeipu.cost_models import Inputs, StageCostModel
from eeipu.methods.learning.fits import Fits
from eeipu.methods.learning.training_points import TrainingPoints

__all__ = ["CostModels"]


@dataclass(frozen=True)
class CostModels:
    """The models of the log costs that a history of trials supports.

    Attributes:
        points: The configurations to learn from.
        fits: Where the fits start.
        device: Where to fit; `None`: whichever device is faster.
    """

    points: TrainingPoints
    fits: Fits
    device: torch.device | None

    @cached_property
    def by_stage(self) -> StageCostModel:
        """The model of the stages' log costs."""
        return self.fits.get("costs", partial(self._of_stages, "chosen"))

    def depending_on(self, inputs: Inputs) -> StageCostModel:
        """A model of the stages' log costs that depends on these inputs, fitted from the prior.

        Args:
            inputs: See `StageCostModel`.
        """
        return self._of_stages(inputs, None, None)

    def _of_stages(
        self, inputs: Inputs, start: Tensor | None, grown_from: StageCostModel | None
    ) -> StageCostModel:
        history, earlier = self.points.history, self.points.earlier
        pipeline, costs = history.pipeline, history.stages.costs
        if earlier is not None:
            costs = np.concatenate([earlier.stage_costs, costs])
        return StageCostModel(
            torch.from_numpy(self.points.X),
            torch.from_numpy(costs),
            pipeline.columns.own,
            categorical=pipeline.cube.categorical_columns,
            inputs=inputs,
            upstream=pipeline.graph.ancestors,
            declared=self._declared,
            start=start,
            grown_from=grown_from,
            device=self.device,
            **self.points.row_options,
        )

    @property
    def _declared(self) -> list[int]:
        """The indices of the stages whose costs are declared."""
        stages = self.points.history.pipeline.stages
        return [k for k, stage in enumerate(stages) if stage.cost is not None]

    @cached_property
    def total(self) -> StageCostModel:
        """The model of a whole trial's log cost, as if the trial were one stage."""
        history = self.points.history
        return self.fits.get(
            "total_cost",
            lambda start, grown_from: StageCostModel(
                torch.from_numpy(history.X),
                torch.from_numpy(history.stages.total_costs[:, None]),
                [range(history.X.shape[1])],
                categorical=history.pipeline.cube.categorical_columns,
                declared=range(bool(self._declared)),
                start=start,
                grown_from=grown_from,
                focus=self.points.focus,
                device=self.device,
            ),
        )
