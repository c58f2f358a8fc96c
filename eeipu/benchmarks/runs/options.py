"""The options of a run. Together with the code they determine its result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from eeipu.benchmarks.problem import CostKind, Preset

__all__ = ["LARGEST_SEED", "Options"]

# The largest seed that NumPy's generators accept.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        problem: The name of the problem.
        preset: The size of the problem.
        cost: Whether costs are measured or declared.
        contender: The method with its changes, in the form that `Contender.parse` reads.
        seed: The seed of the problem, the warm-up and the search.
        n_initial: The number of warm-up trials; `None` takes that of the problem.
        budget: The budget in units of cost; `None` takes `budget_factor` or that of the problem.
        budget_factor: The budget as a multiple of the cost of the warm-up without a cache.
        own_warm_up: Whether each contender chooses its warm-up; otherwise all begin with the same
            points.
        data: The path of the user's own data; `None` takes those of the problem.
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
        """All options but the contender and the seed. Only runs of one setting can be compared."""
        return tuple((k, v) for k, v in asdict(self).items() if k not in ("contender", "seed"))

    @property
    def title(self) -> str:
        """The setting in a few words; options that were left to the problem are omitted."""
        plain = {"problem", "preset", "cost"}
        rest = [f"{k}={v}" for k, v in self.setting if k not in plain and v not in (None, False)]
        return ", ".join([self.problem, self.preset, f"{self.cost} cost", *rest])

    def path(self, out: Path) -> Path:
        """The result file of the run. A digest in its name covers all options.

        Args:
            out: The directory of all results.
        """
        name = f"{self.contender}-seed{self.seed}-{_digest(asdict(self))}.json"
        return self._folder(out) / name

    def warm_up_path(self, out: Path) -> Path:
        """The file with the cost of the warm-up, which all contenders share.

        Args:
            out: The directory of all results.
        """
        name = f"warm-up-{self.seed}-{_digest({'n': self.n_initial, 'data': self.data})}.json"
        return self._folder(out) / name

    def _folder(self, out: Path) -> Path:
        return out / self.problem / f"{self.preset}-{self.cost}"


def _digest(options: Mapping[str, object]) -> str:
    text = json.dumps(options, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
