"""Ablations: EEIPU with some of its parts changed, to measure what these parts contribute.

All other parts are those of `eeipu.methods.catalogue.eeipu`, in the same sampler.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from torch import Tensor

from eeipu.acquisition import LogCostFactor, LogEEIPU
from eeipu.cost_models import Inputs, StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.methods.catalogue import Method
from eeipu.methods.climbing.scores import Score
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import Design, cost_effective, independent, no_design, prefix_sharing

__all__ = ["CHANGES", "Ablation", "CommonSamples"]

DESIGNS: dict[str, Design] = {
    "independent": independent,
    "prefix-sharing": prefix_sharing,
    "cost-effective": cost_effective,
    "none": no_design,
}

# More than the number of trials of any study.
ALL = 10**9


class CommonSamples(LogCostFactor):
    """The factor of cost with one base sample that all stages share, as in the published code.

    The samples of stage costs are then fully correlated, which inflates `E[1/C]`.
    """

    def _samples(self, like: Tensor) -> Tensor:
        return super()._samples(like[..., :1]).expand(-1, like.shape[-1])


@dataclass(frozen=True)
class Ablation:
    """The changed parts of a method. `None` leaves a part as the method has it.

    Attributes:
        cooling: A constant exponent eta, instead of one that falls from 1 to 0 with the budget.
        epsilon: The assumed cost of a reused stage, instead of its mean load time.
        cost_inputs: The hyper-parameters that the cost models of the stages see.
        common_samples: Whether all stages share one base sample.
        top_q: The number of best trials whose outputs are kept and that are offered.
        design: The warm-up.
        n_initial: The number of trials in a warm-up of its own; `"usual"`: as without a benchmark.
        polishes: Whether it also runs candidates whose trials tell nothing new.
        sees_stages: Whether what stages show counts. It does not either where a part of the
            acquisition is changed.
        texts: Names and values of the changes as the user wrote them, in the order of `CHANGES`.
    """

    cooling: float | None = None
    epsilon: float | None = None
    cost_inputs: Inputs = "chosen"
    common_samples: bool = False
    top_q: int | None = None
    design: Design | None = None
    n_initial: int | Literal["usual"] | None = None
    polishes: bool = False
    sees_stages: bool = True
    texts: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, changes: Mapping[str, str]) -> "Ablation":
        """Read changes.

        Args:
            changes: Name of a change, a key of `CHANGES` -> its value as text.

        Raises:
            ConfigurationError: There is no such change, or it does not take this value.
        """
        ablation = cls()
        for name, text in changes.items():
            if name not in CHANGES:
                raise ConfigurationError(
                    f"there is no change {name!r}; choose among {sorted(CHANGES)}."
                )
            try:
                ablation = CHANGES[name](ablation, text)
            except (KeyError, ValueError) as error:
                raise ConfigurationError(
                    f"the change {name!r} does not take {text!r}: {MEANINGS[name]}."
                ) from error
        # In a fixed order, so that equal contenders have equal names.
        texts = tuple((name, changes[name]) for name in CHANGES if name in changes)
        return replace(ablation, texts=texts)

    def __str__(self) -> str:
        return "".join(f"+{name}={text}" for name, text in self.texts)

    @property
    def changes_warm_up(self) -> bool:
        """Whether the warm-up is another than the common one of a comparison."""
        return self.design is not None or self.n_initial is not None

    @property
    def changes_acquisition(self) -> bool:
        """Whether the acquisition function differs from that of the method."""
        return bool(
            {"cooling", "epsilon", "cost-inputs", "samples"} & {name for name, _ in self.texts}
        )

    def applied_to(self, method: Method) -> Method:
        """The method with these changes.

        Raises:
            ConfigurationError: A change applies to EEIPU only, and the method is another one.
        """
        if self.design is not None:
            method = replace(method, design=self.design)
        if self.polishes:
            method = replace(method, seeks_news=False)
        if not self.sees_stages:
            method = method.without_stages()
        if not self.changes_acquisition:
            return method
        if method.name != "eeipu":
            raise ConfigurationError(
                f"{str(self)!r} after {method.name!r}: cooling, epsilon, cost inputs and samples "
                f"can be changed in 'eeipu' only."
            )
        return replace(method, score=self._score, blind=None)

    def _score(self, search: Search) -> Score:
        costs = self._costs(search)
        epsilon = search.memoized_cost if self.epsilon is None else self.epsilon
        cooling = search.cooling if self.cooling is None else self.cooling
        acquisition = LogEEIPU(
            search.models.objective,
            costs,
            search.models.best_f,
            memoized_cost=epsilon,
            overhead=search.overhead,
            cooling=cooling,
            X_pending=search.X_pending,
            seed=search.trial_seed,
        )
        if self.common_samples:
            acquisition.cost = CommonSamples(
                costs,
                memoized_cost=epsilon,
                overhead=search.overhead,
                cooling=cooling,
                seed=search.trial_seed,
            )
        return acquisition.score

    def _costs(self, search: Search) -> StageCostModel:
        if self.cost_inputs == "chosen":
            return search.models.costs.by_stage
        return search.models.costs.depending_on(self.cost_inputs)


def _cooling(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, cooling=1.0 if text == "off" else _at_least(0.0, float(text)))


def _epsilon(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, epsilon=None if text == "load" else _at_least(1e-12, float(text)))


def _cost_inputs(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, cost_inputs=cast(Inputs, _one_of(("chosen", "own", "upstream"), text)))


def _samples(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, common_samples=_one_of(("independent", "common"), text) == "common")


def _top_q(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, top_q=ALL if text == "all" else int(_at_least(1, int(text))))


def _design(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, design=DESIGNS[text])


def _n_initial(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, n_initial="usual" if text == "usual" else int(_at_least(1, int(text))))


def _polishing(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, polishes=_one_of(("off", "on"), text) == "on")


def _stages(ablation: Ablation, text: str) -> Ablation:
    return replace(ablation, sees_stages=_one_of(("on", "off"), text) == "on")


def _at_least(least: float, value: float) -> float:
    if not least <= value < math.inf:
        raise ValueError
    return value


def _one_of(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise ValueError
    return text


CHANGES: dict[str, Callable[[Ablation, str], Ablation]] = {
    "cooling": _cooling,
    "epsilon": _epsilon,
    "cost-inputs": _cost_inputs,
    "samples": _samples,
    "top-q": _top_q,
    "design": _design,
    "n-initial": _n_initial,
    "polishing": _polishing,
    "stages": _stages,
}
MEANINGS = {
    "cooling": "'off' for an exponent of 1 to the end, or a constant exponent >= 0",
    "epsilon": "'load' for load times, or a positive cost",
    "cost-inputs": "'chosen', 'own' or 'upstream'",
    "samples": "'independent' or 'common'",
    "top-q": "a whole number >= 1, or 'all'",
    "design": f"one of {sorted(DESIGNS)}",
    "n-initial": "a whole number >= 1, or 'usual'",
    "polishing": "'on' or 'off'",
    "stages": "'on' or 'off'",
}
