"""`eeipu study`: look at a study in a database, also while other processes run it."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from eeipu.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(help="Look at a study.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look at a study."""


@app.command()
def show(
    storage: Annotated[str, typer.Argument(help="The URL of the storage, or a SQLite file.")],
    name: Annotated[
        str | None, typer.Option(help="The study's name, where the storage has several.")
    ] = None,
    last: Annotated[
        int, typer.Option(help="Show no more than this many trials, the last ones.")
    ] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, a line for each trial.")
    ] = False,
) -> None:
    """Show the trials of a study as they are now: state, values by step, cost, configuration.

    The storage is only read, and who runs the study is not kept waiting.
    """
    study = _opened(storage, name)
    trials = [_described(trial) for trial in study.get_trials(deepcopy=False)]
    if as_json:
        for each in trials:
            typer.echo(json.dumps(each))
        return
    table = Table("trial", "state", "value", "step", "best", "charged", "parameters")
    for each in trials[-last:]:
        table.add_row(*map(_shown, list(each.values())[:6]), _in_words(each["params"]))
    states = Counter(each["state"] for each in trials)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    charged = math.fsum(each["charged"] or 0.0 for each in trials)
    table.caption = f"{study.study_name}: {counts or 'no trials'}; charged {charged:.4g}"
    Console().print(table)


def _opened(storage: str, name: str | None) -> Any:
    """A study, without a change to its storage.

    Raises:
        ConfigurationError: There is no such study.
    """
    # Imported here because the other commands need none of it.
    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    url = storage if "://" in storage else f"sqlite:///{storage}"
    file = url.removeprefix("sqlite:///")
    if file != url and not Path(file).is_file():
        raise ConfigurationError(f"there is no database {file!r}; name the file of a study.")
    try:
        found = RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
        names = [study.study_name for study in found.get_all_studies()]
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
        raise ConfigurationError(
            f"the storage {url!r} cannot be read ({error}); name the storage of a study."
        ) from error
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        raise ConfigurationError(f"choose a study with --name: {url!r} has {sorted(names)}.")
    return optuna.load_study(study_name=name, storage=found)


def _described(trial: Any) -> dict[str, Any]:
    attrs, curve = trial.user_attrs, trial.intermediate_values
    value = trial.values[0] if trial.values else None
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "value": value if value is not None or not curve else curve[max(curve)],
        "step": max(curve, default=None),
        "best": attrs.get("best_value", value),
        "charged": attrs.get("charged"),
        "params": trial.params,
        "intermediate_values": curve,
        "error": attrs.get("error"),
    }


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _in_words(params: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in params.items())
