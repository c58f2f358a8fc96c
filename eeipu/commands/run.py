"""`eeipu run`: tune the pipeline of a script."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from eeipu.commands.options import AsJson

__all__ = ["EPILOG", "run"]

EPILOG = (
    "For example: eeipu run train.py:pipeline --input data.csv --budget 600. "
    "The exit code is 0 if the study has a best trial, 1 after an error or if nothing succeeded, "
    "2 if the command was not understood, and 130 after Ctrl-C, which loses nothing."
)


class Direction(StrEnum):
    """Whether larger or smaller values of an objective are better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


Target = Annotated[
    str,
    typer.Argument(
        metavar="SCRIPT:NAME",
        help="A Python file or a module, and the name in it of a Pipeline, of a list of "
        "stages, or of a function that returns either. Without :NAME, the one pipeline in it.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="VALUE",
        help="An input of the first stage, once for each in their order: the path of a file "
        "or folder (the stage gets a Path; its content counts), a value in JSON, or :NAME for "
        "what has this name in the script, which is called if it is a function.",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        help="What all trials may cost together, those of earlier runs included: seconds, or "
        "the unit of the declared costs."
    ),
]
Timeout = Annotated[float | None, typer.Option(help="End this run after so many seconds.")]
MaxTrials = Annotated[
    int | None, typer.Option("--max-trials", "-n", min=0, help="Begin at most so many trials.")
]
StorageToUse = Annotated[
    str,
    typer.Option(help="Where the study is kept: a file of SQLite, or the URL of a database."),
]
Study = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The study; by default it has the pipeline's name."),
]
Cache = Annotated[
    str,
    typer.Option(
        metavar="PLACE",
        help='Where stage outputs are kept for reuse: a directory, a URL, or "memory".',
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Reuse no outputs.")]
Directions = Annotated[
    list[Direction] | None,
    typer.Option(
        metavar="maximize|minimize",
        help="What to do with the objective; the default is to maximize it. Give it once for "
        "each where the pipeline has several.",
    ),
]
Method = Annotated[str, typer.Option(help="The search method, such as eeipu, ei or random.")]
Rule = Annotated[
    Literal["asha", "halving", "hyperband", "median", "population"] | None,
    typer.Option(
        metavar="RULE",
        help="Stop trainings early, of a stage that trains in steps: asha, halving, hyperband, "
        "median or population.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Makes the search repeatable.")]
Executor = Annotated[
    Literal["processes", "threads"] | None,
    typer.Option(help="Where stages run; by default here, or in processes if several do."),
]
MaxParallel = Annotated[
    int, typer.Option("--max-parallel", "-j", min=1, help="How many stage calls run at once.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the pipeline, and run nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def run(
    target: Target,
    inputs: Inputs = None,
    budget: Budget = None,
    timeout: Timeout = None,
    max_trials: MaxTrials = None,
    storage: StorageToUse = "tune.db",
    study: Study = None,
    cache: Cache = "eeipu-cache",
    no_cache: NoCache = False,
    direction: Directions = None,
    method: Method = "eeipu",
    early_stopping: Rule = None,
    seed: Seed = None,
    executor: Executor = None,
    max_parallel: MaxParallel = 1,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Tune the pipeline of a script until the budget, the time or the trials are used up.

    The study and the stage outputs are kept: the same command goes on where it ended, and after a
    change of a stage, those before it need not run again. What comes out is on standard output,
    progress on standard error.
    """
    from eeipu.commands.script_runs import Search, loaded_inputs, loaded_pipeline, print_pipeline

    module, pipeline = loaded_pipeline(target)
    if dry_run:
        print_pipeline(pipeline, as_json=as_json)
        return
    if budget is None and timeout is None and max_trials is None:
        raise typer.BadParameter("nothing ends the run; give --budget, --timeout or --max-trials.")
    directions = [each.value for each in direction or [Direction.MAXIMIZE]]
    search = Search(
        storage=storage,
        budget=budget,
        timeout=timeout,
        study=study,
        cache=None if no_cache else cache,
        direction=directions if len(directions) > 1 else directions[0],
        method=method,
        early_stopping=early_stopping,
        seed=seed,
        executor=executor,
        max_parallel=max_parallel,
    )
    given = loaded_inputs(inputs or [], module, Path(target.rpartition(":")[0] or target))
    search.run(pipeline, given, max_trials, progress=not quiet, as_json=as_json)
