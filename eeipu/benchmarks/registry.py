"""The benchmark problems by name. The module of a problem is imported only when it is loaded."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from eeipu.benchmarks.problem import CostKind, Preset, Problem, check_size
from eeipu.benchmarks.synthetic.composites import CompositePipeline
from eeipu.benchmarks.synthetic.held_out import HELD_OUT
from eeipu.benchmarks.synthetic.problem import GRAPHS, NOISE, PIPELINES, VARIANTS
from eeipu.benchmarks.synthetic.sums import SumPipeline
from eeipu.errors import ConfigurationError, MissingExtraError

__all__ = ["GROUPS", "REGISTRY", "Entry", "load", "named"]

EXTRA = 'pip install "eeipu[benchmarks]"'


@dataclass(frozen=True)
class Entry:
    """The registration of a problem.

    Attributes:
        group: The name under which several problems can be asked for together.
        path: `"module:function"`; the function takes `(preset, *, cost, seed)`, and also `data`
            if users may bring their own.
        about: A description in one line.
        costs: The kinds of costs that the problem offers, the default first.
        arguments: Further keyword arguments of the function.
    """

    group: str
    path: str
    about: str
    costs: tuple[CostKind, ...] = ("measured", "declared")
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_long(self) -> bool:
        """Whether a run takes long enough that it should be resumed after it was killed."""
        return "measured" in self.costs

    def builder(self) -> Callable[..., Problem]:
        """The function that makes the problem.

        Raises:
            MissingExtraError: A library that the problem needs is not installed.
        """
        module, _, function = self.path.partition(":")
        try:
            found: Callable[..., Problem] = getattr(import_module(module), function)
        except MissingExtraError:
            raise
        except ImportError as error:
            raise MissingExtraError(
                f"the problem in {module} needs more than eeipu itself ({error}); {EXTRA}"
            ) from error
        return partial(found, **self.arguments)


def _synthetic(
    group: str, pipelines: Mapping[str, SumPipeline | CompositePipeline]
) -> dict[str, Entry]:
    path = "eeipu.benchmarks.synthetic.problem:problem"
    return {
        name: Entry(group, path, each.about, ("declared",), {"name": name})
        for name, each in pipelines.items()
    }


REGISTRY: dict[str, Entry] = {
    **_synthetic("synthetic", PIPELINES),
    **_synthetic("variants", VARIANTS),
    **_synthetic("noise", NOISE),
    **_synthetic("graphs", GRAPHS),
    **_synthetic("held-out", HELD_OUT),
    "stacking": Entry(
        "real",
        "eeipu.benchmarks.stacking.problem:problem",
        "four tree ensembles, then a logistic meta-model, on a table",
    ),
    "stacking-by-model": Entry(
        "real",
        "eeipu.benchmarks.stacking.problem:problem_by_model",
        "the same with one stage for each ensemble",
    ),
    "stacking-graph": Entry(
        "real",
        "eeipu.benchmarks.stacking.problem:problem_as_graph",
        "the same with one stage for each ensemble, side by side",
    ),
    "segmentation": Entry(
        "real",
        "eeipu.benchmarks.segmentation.problem:problem",
        "preprocessing, a U-Net, and smoothing of its masks",
    ),
    "distillation": Entry(
        "real",
        "eeipu.benchmarks.distillation.problem:problem",
        "a T5 teacher, and a student that learns from it in three stages",
    ),
}
GROUPS = tuple(dict.fromkeys(entry.group for entry in REGISTRY.values()))


def named(names: Sequence[str]) -> list[str]:
    """The names of all problems that these names of problems and groups stand for.

    Raises:
        ConfigurationError: One of the names is neither a problem nor a group.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in REGISTRY and name not in GROUPS:
            raise _unknown(name)
        found |= {each: None for each, e in REGISTRY.items() if name in (each, e.group)}
    return list(found)


def _unknown(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name!r} is no problem and no group of problems; see `python -m eeipu.benchmarks list`."
    )


def load(
    name: str, preset: Preset, *, cost: CostKind, seed: int, data: str | None = None
) -> Problem:
    """Make a problem of one size.

    Args:
        name: A name in `REGISTRY`.
        preset: The size of the problem.
        cost: Whether costs are measured or declared.
        seed: Seeds whatever is random in the problem itself.
        data: The path of the user's own data; `None` takes those of the problem.

    Raises:
        ConfigurationError: There is no problem of this name, no such preset, or no such kind of
            cost; or the problem takes no data.
        MissingExtraError: A library that the problem needs is not installed.
    """
    if name not in REGISTRY:
        raise _unknown(name)
    check_size(preset, cost)
    builder = REGISTRY[name].builder()
    if data is None:
        return builder(preset, cost=cost, seed=seed)
    if "data" not in inspect.signature(builder).parameters:
        raise ConfigurationError(
            f"the problem {name!r} takes no data of yours, but got {data!r}; stacking and "
            f"segmentation do."
        )
    return builder(preset, cost=cost, seed=seed, data=data)
