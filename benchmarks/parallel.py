"""Many workers: the throughput of a second one, and the overhead of engines for a stage call.

`python benchmarks/parallel.py [--engine loky --engine dask --engine ray] [--json]`
"""

import argparse
import warnings
from collections.abc import Callable, Iterator

import engines
import optuna
from figures import Figure, arguments_of, show

# Each part by its name; more of them stand in modules of their own.
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Figure]]] = {
    "engines": lambda chosen: engines.figures(chosen.engine or list(engines.ENGINES)),
}


def figures(chosen: argparse.Namespace) -> Iterator[Figure]:
    """The figures of all parts that are wanted, in turn."""
    for part in chosen.part or list(PARTS):
        yield from PARTS[part](chosen)


if __name__ == "__main__":
    parser = arguments_of(__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="all by default")
    parser.add_argument(
        "--engine", action="append", choices=list(engines.ENGINES), help="all by default"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    show(figures(arguments))
