"""What a choice is made from: the trials, how far each is, and what it has cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eeipu.space import Params

__all__ = ["Choice", "TrialCurve"]


@dataclass
class TrialCurve:
    """A trial, as far as it has been trained.

    Attributes:
        params: Its configuration.
        values: Step -> value there; larger is better.
        costs: What each stage has cost, the trained one for a step; `None` where it is not known.
        running_to: The step to which it is being trained; `None` while it rests.
        failed_at: The step at which it has failed.
        is_elsewhere: Whether another process trains it, so that it cannot be chosen here.
    """

    params: Params
    values: dict[int, float] = field(default_factory=dict)
    costs: Sequence[float | None] = ()
    running_to: int | None = None
    failed_at: int | None = None
    is_elsewhere: bool = False

    @property
    def reached(self) -> int:
        """The last step at which it has a value; 0 if it has none."""
        return max(self.values, default=0)


@dataclass(frozen=True)
class Choice:
    """What to train next.

    Attributes:
        trial: The number of the trial to go on with; `None`: a new one.
        params: The configuration of a new trial; `None`: whoever chooses configurations says.
        step: The step to train to.
    """

    trial: int | None
    params: Mapping[str, object] | None
    step: int
