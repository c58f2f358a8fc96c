"""The options of a run, which together with the code decide what it gives."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from eeipu.benchmarks.problem import CostKind, Preset

__all__ = ["LARGEST_SEED", "Options"]

# NumPy's generators take no larger ones.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Options:
    """What a run is asked for.

    Attributes:
        problem: The problem's name.
        preset: Its size.
        cost: Whether costs are measured or declared.
        contender: Who runs, as `Contender.parse` reads it.
        seed: Of the problem, the warm-up and the search.
        n_initial: Warm-up trials; `None`: the problem's.
        budget: In units of cost; `None`: as `budget_factor` says, or the problem.
        budget_factor: The budget in multiples of what the warm-up costs without a cache.
        own_warm_up: Whether contenders choose their warm-up; otherwise all get the same points.
        data: Where the user's own data are; `None`: the problem's.
    """

    problem: str
    preset: Preset
    cost: CostKind
    contender: str
    seed: int
    n_initial: int | None = None
    budget: float | None = None
    budget_factor: float | None = None
    own_warm_up: bool = False
    data: str | None = None

    @property
    def setting(self) -> tuple[tuple[str, object], ...]:
        """All but who runs and the seed: what runs that are compared must have in common."""
        return tuple((k, v) for k, v in asdict(self).items() if k not in ("contender", "seed"))

    @property
    def title(self) -> str:
        """The setting in a few words, those options left out that are as the problem has them."""
        plain = {"problem", "preset", "cost"}
        rest = [f"{k}={v}" for k, v in self.setting if k not in plain and v not in (None, False)]
        return ", ".join([self.problem, self.preset, f"{self.cost} cost", *rest])

    def path(self, out: Path) -> Path:
        """The file of the run: options that a name does not show are in its digest."""
        name = f"{self.contender}-seed{self.seed}-{_digest(asdict(self))}.json"
        return self._folder(out) / name

    def warm_up_path(self, out: Path) -> Path:
        """The file for what the warm-up cost, which all contenders share."""
        name = f"warm-up-{self.seed}-{_digest({'n': self.n_initial, 'data': self.data})}.json"
        return self._folder(out) / name

    def _folder(self, out: Path) -> Path:
        return out / self.problem / f"{self.preset}-{self.cost}"


def _digest(options: Mapping[str, object]) -> str:
    text = json.dumps(options, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
