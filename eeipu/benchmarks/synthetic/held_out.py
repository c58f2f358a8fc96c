"""Held-out problems: pipelines whose structure is drawn at random, for one report at the end.

Who builds a search looks at the other problems again and again, and what is good there may be good
there alone. Methods are never run on these while they are built. `drawn` makes as many others of
the same kinds as one likes, for tests and for estimates of time.
"""

from collections.abc import Sequence

import numpy as np

from eeipu.benchmarks.synthetic.composites import CompositePipeline
from eeipu.benchmarks.synthetic.functions import FAMILIES, FUNCTIONS
from eeipu.benchmarks.synthetic.inputs import Kind
from eeipu.benchmarks.synthetic.sums import SumPipeline

__all__ = ["HELD_OUT", "drawn"]

COUNT = 50
FEWEST_STAGES, MOST_STAGES = 2, 7

# The ratio of the largest mean cost to the least, where they differ. Within a stage, costs differ
# by up to nine times more.
COST_RATIOS = (3.0, 30.0)

KINDS: tuple[Kind, ...] = ("float", "int", "choice")

Graph = tuple[tuple[int, ...], ...]


def drawn(index: int) -> SumPipeline | CompositePipeline:
    """The pipeline of a number, always the same one.

    Args:
        index: The number; those from 0 to 49 are the held-out problems.
    """
    # The first number tells these draws from all others that begin with a small seed.
    rng = np.random.default_rng((23, index))
    count = int(rng.integers(FEWEST_STAGES, MOST_STAGES, endpoint=True))
    scales, upstream_costs = _costs(rng, count)
    kinds = _kinds(rng, count)
    tree = _tree(rng, count) if count > 2 and rng.random() < 0.4 else ()
    label, shapes = f"held-out-{index:02d}", 1000 * (index + 1)
    if rng.random() < 0.6:
        names = [_function(rng, int(rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2]))) for _ in scales]
        return SumPipeline(
            tuple(names),
            scales,
            kinds,
            noise=float(rng.choice([0.05, 0.1])) if rng.random() < 0.2 else 0.0,
            upstream_costs=upstream_costs,
            weights=tuple(float(round(w, 2)) for w in np.exp(rng.uniform(-1, 1, count))),
            graph=tree,
            twist=float(round(rng.uniform(0.3, 1), 2)) if not kinds and rng.random() < 0.5 else 0.0,
            is_shown=bool(rng.random() < 0.7),
            cost_shapes=shapes,
            label=label,
        )
    inputs = int(rng.integers(max(count, 4), count + 2, endpoint=True))
    can_be_coarse = not (kinds or upstream_costs)
    return CompositePipeline(
        _function(rng, inputs),
        _divided(rng, inputs, count),
        scales,
        _with_more_edges(rng, tree),
        coarse=tuple(range(count - 1)) if can_be_coarse and rng.random() < 0.25 else (),
        kinds=kinds,
        upstream_costs=upstream_costs,
        cost_shapes=shapes,
        label=label,
    )


def _costs(rng: np.random.Generator, count: int) -> tuple[tuple[float, ...], bool]:
    """The mean costs of stages, and whether they also depend on the first stage."""
    order = rng.choice(["equal", "rising", "falling", "mixed", "upstream"])
    low, high = COST_RATIOS
    scales = np.geomspace(1.0, low * (high / low) ** rng.random(), count)
    match order:
        case "equal" | "upstream":
            scales = np.ones(count)
        case "falling":
            scales = scales[::-1]
        case "mixed":
            scales = rng.permutation(scales)
    return tuple(float(round(scale, 2)) for scale in scales), bool(order == "upstream")


def _kinds(rng: np.random.Generator, count: int) -> tuple[Kind, ...]:
    """The kind of each stage's inputs: mostly none are drawn, and all are floats."""
    if rng.random() < 0.7:
        return ()
    return tuple(KINDS[i] for i in rng.integers(len(KINDS), size=count))


def _tree(rng: np.random.Generator, count: int) -> Graph:
    """For each stage, those that hand their output to it: each to one of the next three."""
    chain = followers = list(range(1, count))
    while followers == chain:
        followers = [int(rng.integers(k + 1, min(k + 3, count - 1) + 1)) for k in range(count - 1)]
    return tuple(tuple(k for k, to in enumerate(followers) if to == each) for each in range(count))


def _with_more_edges(rng: np.random.Generator, tree: Graph) -> Graph:
    """The tree with some more edges, so that the output of a stage may go to several others."""
    return tuple(
        tuple(j for j in range(k) if j in parents or (k < len(tree) - 1 and rng.random() < 0.15))
        for k, parents in enumerate(tree)
    )


def _function(rng: np.random.Generator, inputs: int) -> str:
    """The name of a function with so many inputs; some that the paper has are among them."""
    names = [name for name, function in FAMILIES.items() if function.d == inputs]
    known = ["branin2", "beale2", "holder-table2", "hartmann3", "hartmann6", "shekel4"]
    names += [name for name in known if FUNCTIONS[name].d == inputs]
    return str(rng.choice(names))


def _divided(rng: np.random.Generator, inputs: int, count: int) -> tuple[int, ...]:
    """The number of inputs of each stage, one at least."""
    more: Sequence[int] = rng.multinomial(inputs - count, np.full(count, 1 / count)).tolist()
    return tuple(1 + each for each in more)


HELD_OUT = {f"held-out-{index:02d}": drawn(index) for index in range(COUNT)}
