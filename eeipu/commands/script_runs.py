"""What `eeipu run` does: it loads the pipeline of a script, and tunes it.

It imports Optuna, so that the command imports it when it runs.
"""

import importlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import optuna
import typer
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import eeipu
from eeipu.cache import IN_MEMORY, InMemory, StageCache
from eeipu.commands.studies_shown import print_study
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.pipeline import OneOf, Pipeline, Stage
from eeipu.space import in_words
from eeipu.studies.records import tables
from eeipu.studies.records.amounts import amount
from eeipu.studies.records.study_record import StudyRecord

if TYPE_CHECKING:
    from eeipu.tuner import Tuner

__all__ = ["Search", "loaded_inputs", "loaded_pipeline", "print_pipeline"]

# The shell's exit code of what Ctrl-C has ended.
INTERRUPTED = 130

MEMORY = "memory"

_RULES = {
    "asha": eeipu.ASHA,
    "halving": eeipu.SuccessiveHalving,
    "hyperband": eeipu.Hyperband,
    "median": eeipu.MedianStopping,
    "population": eeipu.PopulationBased,
}

# What looks like the name of a file is not taken for a text if there is no such file.
_LIKE_A_FILE = re.compile(r"/|^\.|^~|\.\w{1,8}$")


def loaded_pipeline(target: str) -> tuple[ModuleType, Pipeline]:
    """Import a script, and find its pipeline.

    Args:
        target: The script or module, and perhaps a name in it, such as `"train.py:pipeline"`.

    Raises:
        ConfigurationError: There is no such script, or it has no such pipeline.
        typer.Exit: The script has failed. Its traceback has been printed.
    """
    place, _, name = target.rpartition(":")
    if not place:
        place, name = target, ""
    module = _imported(place)
    found = _pipeline_named(module, name, place) if name else _only_pipeline(module, place)
    if callable(found) and not isinstance(found, Stage):
        found = _called(found, target)
    if isinstance(found, list | tuple) and all(isinstance(s, Stage | OneOf) for s in found):
        found = Pipeline(found)
    if not isinstance(found, Pipeline):
        raise ConfigurationError(
            f"{target!r} is {found!r:.80}, and no pipeline; name a Pipeline([...]), a list of "
            f"stages, or a function that returns either."
        )
    return module, found


def _imported(place: str) -> ModuleType:
    path = Path(place).expanduser()
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigurationError(f"there is no script {place!r}; check the path.")
    # As with `python train.py` and `python -m train`: what lies beside it can be imported.
    folder = str(path.resolve().parent if is_file else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem if is_file else place
    known = sys.modules.get(name)
    if known is not None and is_file and not _is_file_of(known, path):
        raise ConfigurationError(
            f"{place!r} has the name of a library that is in use, {name!r}; rename the script."
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _failed(f"{place} cannot be imported") from None
        raise ConfigurationError(
            f"there is no module {name!r}; give the path of a script, such as train.py, or a "
            f"module that can be imported from here."
        ) from error
    except Exception:
        raise _failed(f"{place} cannot be imported") from None
    if is_file and not _is_file_of(module, path):
        raise ConfigurationError(
            f"{place!r} is hidden by {module.__file__}, which has the same name; rename the script."
        )
    return module


def _called(function: Callable[[], Any], what: str) -> Any:
    try:
        return function()
    except Exception:
        raise _failed(f"{what} cannot be called without arguments, or has failed") from None


def _failed(why: str) -> typer.Exit:
    """Print the traceback of the script, from its own first line on, and say what failed."""
    kind, error, trace = sys.exc_info()
    while trace is not None and _is_import(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)
    typer.echo(f"eeipu: error: {why}", err=True)
    return typer.Exit(1)


def _is_import(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")


def _is_file_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path.resolve()


def _pipeline_named(module: ModuleType, name: str, place: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, _MISSING)
        if found is _MISSING:
            own = _pipelines_of(module)
            has = f"it has the pipelines {own}" if own else "it has no pipeline"
            raise ConfigurationError(f"{place} has nothing named {name!r}; {has}.")
    return found


_MISSING = object()


def _only_pipeline(module: ModuleType, place: str) -> Any:
    own = _pipelines_of(module)
    if len(own) == 1 or "pipeline" in own:
        return vars(module)["pipeline" if "pipeline" in own else own[0]]
    has = f"has the pipelines {own}" if own else "has no pipeline"
    raise ConfigurationError(f"{place} {has}; say which one, as in {place}:NAME.")


def _pipelines_of(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Pipeline)]


def loaded_inputs(texts: Sequence[str], module: ModuleType, script: Path) -> tuple[Any, ...]:
    """The inputs of a run.

    Args:
        texts: How the user has given them.
        module: The script, as a module.
        script: The script, for messages.

    Raises:
        ConfigurationError: There is no such file, or nothing of this name in the script.
    """
    return tuple(_loaded_input(text, module, script) for text in texts)


def _loaded_input(text: str, module: ModuleType, script: Path) -> Any:
    if text.startswith(":"):
        found = getattr(module, text[1:], _MISSING)
        if found is _MISSING:
            raise ConfigurationError(f"--input {text}: {script} has nothing named {text[1:]!r}.")
        return _called(found, f"--input {text}") if callable(found) else found
    path = Path(text).expanduser()
    if path.exists():
        return path
    with suppress(ValueError):
        return json.loads(text)
    if _LIKE_A_FILE.search(text):
        raise ConfigurationError(
            f"--input {text}: there is no such file, and it is no JSON; for a text write "
            f"'\"{text}\"'."
        )
    return text


def print_pipeline(pipeline: Pipeline, *, as_json: bool) -> None:
    """Show the stages of a pipeline, what each gets, and its hyper-parameters."""
    names = pipeline.stage_names
    rows: list[dict[str, Any]] = [
        {
            "stage": each.name,
            "gets": ["inputs" if j is None else names[j] for j in pipeline.graph.sources[k]],
            "hyper_parameters": in_words(each.space),
            "memoized": pipeline.memoizes[k],
            "cost": "declared" if each.cost else "measured",
        }
        for k, each in enumerate(pipeline.stages)
    ]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    table = Table("stage", "gets", "hyper-parameters", box=None, pad_edge=False)
    for row in rows:
        gets = ", ".join(dict.fromkeys(row["gets"])) or "nothing"
        table.add_row(escape(row["stage"]), escape(gets), escape(row["hyper_parameters"] or "-"))
    console = Console()
    console.print(table)
    places = pipeline.layout.places.items()
    for place, choices in places:
        console.print(escape(f"{place} is one of {', '.join(choices)}"))
    taken = [each.positional for each in pipeline.stages if each.function is not None][:1]
    first = ", ".join(parameter.name for parameter in taken[0]) if taken else ""
    typer.echo(f"inputs, one --input each: {first}" if first else "it takes no inputs")


@dataclass(frozen=True)
class Search:
    """How a pipeline is tuned; see `Tuner` and the options of `eeipu run`."""

    storage: str
    budget: float | None
    timeout: float | None
    study: str | None
    cache: str | None
    direction: Any
    method: str
    early_stopping: str | None
    seed: int | None
    executor: Literal["processes", "threads"] | None
    max_parallel: int

    def run(
        self,
        pipeline: Pipeline,
        inputs: tuple[Any, ...],
        max_trials: int | None,
        *,
        progress: bool,
        as_json: bool,
    ) -> None:
        """Tune, and print what has come out.

        Raises:
            typer.Exit: No trial has a value, or Ctrl-C has ended it.
        """
        # Imported here because it loads torch, which a dry run and a wrong name need not wait for.
        from eeipu.tuner import Tuner

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            pipeline.layout.check_inputs(inputs)
        except PipelineError as error:
            raise ConfigurationError(f"{error} Here, give each with --input.") from error
        rule = None if self.early_stopping is None else _RULES[self.early_stopping]()
        tuner = Tuner(
            pipeline,
            budget=self.budget,
            timeout=self.timeout,
            study_name=self.study,
            storage=_opened_storage(self.storage),
            cache=self._opened_cache(),
            direction=self.direction,
            method=self.method,
            early_stopping=rule,
            seed=self.seed,
            executor=self.executor,
            max_parallel=self.max_parallel,
        )
        _say_what_there_is(tuner, self.storage)
        code = 0
        try:
            tuner.run(*inputs, max_trials=max_trials, progress=progress)
        except KeyboardInterrupt:
            code = INTERRUPTED
        print_study(tuner.study, as_json=as_json)
        if not as_json:
            self._say_what_next(tuner)
        if code == 0 and not StudyRecord.of(tuner.study).ranked:
            typer.echo("eeipu: no trial has a value", err=True)
            code = 1
        if code:
            raise typer.Exit(code)

    def _opened_cache(self) -> StageCache | InMemory | None:
        if self.cache == MEMORY:
            return IN_MEMORY
        return None if self.cache is None else StageCache(self.cache)

    def _say_what_next(self, tuner: "Tuner") -> None:
        where = self.storage
        if len(optuna.get_all_study_names(tuner.study._storage)) > 1:
            where += f" --study {json.dumps(tuner.study.study_name)}"
        typer.echo(f"\nmore: eeipu study trials {where}; pictures: eeipu report {where}", err=True)


def _opened_storage(storage: str) -> str | BaseStorage:
    if "://" in storage:
        return storage
    if Path(storage).suffix in (".log", ".journal", ".jsonl"):
        return JournalStorage(JournalFileBackend(storage))
    return f"sqlite:///{Path(storage).expanduser()}"


def _say_what_there_is(tuner: "Tuner", storage: str) -> None:
    record = StudyRecord.of(tuner.study)
    if record.trials:
        spent = amount(record.spent, record.unit)
        typer.echo(
            f"the study {record.name!r} of {storage} goes on: {tables.states(record)}, spent "
            f"{spent}",
            err=True,
        )
