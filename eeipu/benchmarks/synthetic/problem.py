"""The synthetic problems by name."""

from dataclasses import replace

from eeipu.benchmarks.problem import CostKind, Preset, Problem
from eeipu.benchmarks.synthetic.composites import CompositePipeline
from eeipu.benchmarks.synthetic.held_out import HELD_OUT
from eeipu.benchmarks.synthetic.sums import SumPipeline
from eeipu.errors import ConfigurationError

__all__ = ["GRAPHS", "NOISE", "PIPELINES", "VARIANTS", "problem"]

# The number of warm-up trials; the paper has about ten.
N_INITIAL: dict[Preset, int] = {"smoke": 4, "cpu": 11, "paper": 11}

_SUMS = (
    # The scales of costs are equal, falling or rising.
    SumPipeline(("beale2", "hartmann3", "beale2"), (1, 1, 1)),
    SumPipeline(("branin2", "ackley3", "levy2"), (1, 1, 1)),
    SumPipeline(("michalewicz2", "styblinski-tang2", "rosenbrock2"), (3, 2, 1)),
    SumPipeline(("holder-table2", "hartmann3", "styblinski-tang3"), (1, 2, 3)),
    SumPipeline(("levy2", "branin2", "michalewicz2", "ackley3", "beale2"), (3, 1, 2, 1, 1)),
)
_COMPOSITES = (
    CompositePipeline("hartmann6", (2, 2, 2), (1, 1, 1)),
    CompositePipeline("shekel4", (1, 2, 1), (3, 2, 1)),
    CompositePipeline("rosenbrock4", (2, 1, 1), (1, 2, 3)),
    CompositePipeline("ackley6", (2, 2, 2), (2, 1, 1)),
)
PIPELINES: dict[str, SumPipeline | CompositePipeline] = {
    each.pipeline.name: each for each in (*_SUMS, *_COMPOSITES)
}

_THREE = ("levy2", "branin2", "ackley3")
_FOUR = ("michalewicz2", "styblinski-tang2", "holder-table2", "hartmann3")
_TEN = (
    "branin2",
    "michalewicz2",
    "styblinski-tang2",
    "beale2",
    "rosenbrock2",
    "levy2",
    "holder-table2",
    "ackley3",
    "hartmann3",
    "styblinski-tang3",
)
_VARIANTS = (
    SumPipeline(_TEN[3:], (1,) * 7, label="sum-of-7"),
    SumPipeline(_TEN, (1,) * 10, label="sum-of-10"),
    # A tenth of the spread: the luckiest of ten observations of one configuration is then expected
    # to be 0.15 of the spread too high.
    SumPipeline(_THREE, (3, 2, 1), noise=0.1, label="noisy"),
    SumPipeline(_THREE, (1, 1, 1), upstream_costs=True, label="upstream-costs"),
    SumPipeline(_FOUR, (1, 2, 4, 8), label="cheap-early"),
    SumPipeline(_FOUR, (8, 4, 2, 1), label="costly-early"),
    SumPipeline(_THREE, (3, 2, 1), kinds=("int", "choice", "float"), label="mixed-inputs"),
)
VARIANTS: dict[str, SumPipeline | CompositePipeline] = {
    each.pipeline.name: each for each in _VARIANTS
}

# The functions of `noisy`, but a cheap last stage draws the noise anew in each run.
_DRAWN_ANEW = SumPipeline(_THREE, (3, 2, 0.5), noise=0.1, is_drawn_anew=True, label="noisy-last")
NOISE: dict[str, SumPipeline | CompositePipeline] = {_DRAWN_ANEW.pipeline.name: _DRAWN_ANEW}

_GRAPHS = (
    CompositePipeline(
        "hartmann6",
        (1, 1, 1, 1, 2),
        (2, 2, 2, 2, 1),
        ((), (), (), (), (0, 1, 2, 3)),
        label="join-of-four",
    ),
    CompositePipeline(
        "hartmann6", (2, 1, 1, 2), (2, 2, 2, 1), ((), (0,), (0,), (1, 2)), label="diamond"
    ),
    # The joins of the first level have no hyper-parameters.
    CompositePipeline(
        "ackley6",
        (1, 1, 0, 1, 1, 0, 2),
        (2, 2, 1, 2, 2, 1, 1),
        ((), (), (0, 1), (), (), (3, 4), (2, 5)),
        label="two-levels-of-joins",
    ),
)
# Each of them also with the same stages in a chain, and with alternatives.
GRAPHS: dict[str, CompositePipeline] = {
    form.pipeline.name: form
    for each in _GRAPHS
    for form in (
        each,
        replace(each, graph=(), label=f"{each.label}-chain"),
        replace(
            each,
            coarse=tuple(k for k, size in enumerate(each.stage_sizes[:-1]) if size),
            label=f"{each.label}-alternatives",
        ),
    )
}


def problem(preset: Preset, *, name: str, cost: CostKind, seed: int) -> Problem:
    """Make a synthetic problem.

    Args:
        preset: Determines the number of warm-up trials.
        name: A name in `PIPELINES`, `VARIANTS`, `NOISE`, `GRAPHS` or `HELD_OUT`.
        cost: `"declared"`, the only kind of cost of these problems.
        seed: The seed of the noise, for noisy problems.

    Raises:
        ConfigurationError: `cost` is `"measured"`.
    """
    if cost != "declared":
        raise ConfigurationError(
            f"the stages of {name!r} take no time, so that cost={cost!r} would measure nothing; "
            f"leave it at 'declared'."
        )
    chosen = (PIPELINES | VARIANTS | NOISE | GRAPHS | HELD_OUT)[name]
    if isinstance(chosen, SumPipeline) and chosen.noise:
        chosen = replace(chosen, seed=seed)
    return Problem(
        name, chosen.pipeline, (0.0,), "maximize", N_INITIAL[preset], optimum=chosen.optimum
    )
