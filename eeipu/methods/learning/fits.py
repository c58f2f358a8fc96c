"""When the models of a search are fitted, and where their fits start."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from eeipu.methods.history import History

__all__ = ["Fits", "Refits"]

Model = TypeVar("Model")

# Models are fitted again when there are this many times as many trials as at the last fit: a few
# more change the hyper-parameters little. Until then the trials count with these as they are.
REFIT_GROWTH = 1.05

# A fit starts where the last one ended; but from the priors if there are this many times as many
# trials as when one last did, so that it cannot stay at a local optimum that early data led to.
AFRESH_GROWTH = 1.25


class Fits:
    """The models of one search by their names, each fitted when it is first asked for.

    Args:
        starts: The hyper-parameters of earlier models, where the fits start; those without one
            start at the priors.
        grown_from: The same models of fewer of the trials, if their hyper-parameters are still
            good enough: models that are here are not fitted again. `None`: they are not.

    Attributes:
        made: The models that have been asked for.
    """

    def __init__(
        self,
        starts: Mapping[str, Tensor] | None = None,
        grown_from: Mapping[str, Any] | None = None,
    ) -> None:
        self.starts: Mapping[str, Tensor] = {} if starts is None else starts
        self.grown_from = grown_from
        self.made: dict[str, Any] = {}

    def get(self, name: str, fit: Callable[[Tensor | None, Any], Model]) -> Model:
        """The model of this name.

        Args:
            name: The name.
            fit: Makes the model, from the hyper-parameters to start from and the model of fewer
                trials, each `None` if there is none.
        """
        if name not in self.made:
            earlier = None if self.grown_from is None else self.grown_from.get(name)
            self.made[name] = fit(self.starts.get(name), earlier)
        model: Model = self.made[name]
        return model

    @property
    def hyperparameters(self) -> dict[str, Tensor]:
        """The hyper-parameters of the models that have been asked for, by their names."""
        found = {name: model.hyperparameters for name, model in self.made.items()}
        return {name: values for name, values in found.items() if values is not None}


class Refits:
    """When the models of a search are fitted again, and from where.

    It depends on how many trials have ended, not on which of several drivers asks.
    """

    def __init__(self) -> None:
        self._last: History | None = None
        self._starts: dict[str, Tensor] = {}
        self._models: dict[str, Any] = {}
        self._trials = self._trials_afresh = 0

    def start(self, history: History) -> Fits:
        """The fits of the models of a history, none of which is made yet."""
        last = self._last
        if last is None or not _is_same_study(history, last):
            return Fits()
        if _has_grown(history, self._trials_afresh, AFRESH_GROWTH):
            return Fits()
        is_due = _has_grown(history, self._trials, REFIT_GROWTH)
        return Fits(self._starts, None if is_due else self._models)

    def note(self, history: History, fits: Fits) -> None:
        """Go on from these fits at the next start.

        Args:
            history: The trials that the models were fitted to.
            fits: The models that were used.
        """
        if fits.grown_from is None:
            self._trials = len(history)
        if not fits.starts:
            self._trials_afresh = len(history)
        self._last, self._starts = history, fits.hyperparameters
        self._models = {name: fits.made[name] for name in self._starts}


def _is_same_study(history: History, earlier: History) -> bool:
    return bool(history.ended) and history.ended[:1] == earlier.ended[:1]


def _has_grown(history: History, trials: int, growth: float) -> bool:
    return not trials <= len(history) < growth * trials
