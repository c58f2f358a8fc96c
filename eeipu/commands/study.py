"""`eeipu study`: look at the studies of a storage, also at one that is running."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eeipu.report.reading import load_study, studies_in
from eeipu.stages.runs import error_line
from eeipu.studies.records import tables
from eeipu.studies.records.amounts import amount, value_text
from eeipu.studies.records.study_record import StudyRecord, TrialRecord
from eeipu.studies.storages import read_storage, using_storage

__all__ = ["app"]

app = typer.Typer(
    help="Look at the studies of a storage, also while they run. Nothing is written.",
    epilog="For example: eeipu study show tune.db, or eeipu study best tune.db --json. "
    "A page with pictures: eeipu report tune.db",
    no_args_is_help=True,
)

Storage = Annotated[
    str,
    typer.Argument(
        metavar="STORAGE",
        help="The storage as the tuner was given it, such as sqlite:///tune.db; or the path of a "
        "file of SQLite or of a journal.",
    ),
]
Study = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="The study; not needed where there is only one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object on each line.")]


class Order(StrEnum):
    """The orders of the list of trials."""

    NUMBER = "number"
    BEST = "best"
    CHARGED = "charged"


class State(StrEnum):
    """The states of trials."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    WAITING = "waiting"


@app.command("list")
@using_storage()
def list_studies(storage: Storage, to_json: AsJson = False) -> None:
    """List the studies of a storage: trials, best value, and what was spent."""
    opened = read_storage(storage)
    records = [StudyRecord.of(load_study(opened, name)) for name in studies_in(opened)]
    if to_json:
        _print_json(map(_summary, records))
        return
    table = _table("study", "trials", "best", "spent", "saved", right=(1, 2, 3, 4))
    for record in records:
        table.add_row(
            escape(record.name),
            str(tables.counts(record).get("complete", 0)),
            _best(record),
            _amount(record.spent, record),
            _amount(record.saved, record),
        )
    Console().print(table)


@app.command()
@using_storage()
def show(storage: Storage, study: Study = None, to_json: AsJson = False) -> None:
    """Show how a study stands: its account, its stages, and its best trial."""
    record = StudyRecord.of(load_study(storage, study))
    if to_json:
        _print_json([_summary(record)])
        return
    console = Console()
    of = "" if record.budget is None else f" of {_amount(record.budget, record)}"
    facts = {
        "study": f"{record.name} ({tables.aim(record)})",
        "trials": tables.states(record),
        "spent": f"{_amount(record.spent, record)}{of}; the cache saved "
        f"{_amount(record.saved, record)}",
        "for": ", ".join(
            f"{name} {_amount(cost, record)}"
            for name, cost in tables.account(record).items()
            if cost > 0
        ),
    }
    best = record.best
    if best is not None:
        facts["best"] = f"{_number(best.value)} (trial {best.number})"
    elif record.ranked:
        facts["best"] = _best(record)
    console.print(_facts(facts))
    console.print(_stage_table(record))
    if record.has_several_objectives:
        console.print(_front_table(record))
    if best is not None:
        console.print(_facts({name: _shown(value) for name, value in best.trial.params.items()}))
    for failed in tables.failures(record)[:1]:
        console.print(f"last failure, trial {failed.number}: {escape(_why(failed))}")


@app.command()
@using_storage()
def best(
    storage: Storage,
    study: Study = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Show so many trials.")] = 1,
    to_json: AsJson = False,
) -> None:
    """Show the best trial: its value and its hyper-parameters. The exit code is 1 without one.

    With several objectives, these are the trials that no other one is better than.
    """
    record = StudyRecord.of(load_study(storage, study))
    found = record.front if record.has_several_objectives else record.ranked[:count]
    if to_json:
        _print_json(map(_described, found))
    for each in () if to_json else found:
        pairs = zip(record.objectives, each.values, strict=True)
        head = {"trial": str(each.number), **{name: _number(value) for name, value in pairs}}
        params = {name: _shown(value) for name, value in each.trial.params.items()}
        Console().print(_facts(head | params))
    if not found:
        lacks = "is within all limits" if any(t.beyond for t in record.trials) else "has a value"
        typer.echo(f"no trial of {record.name!r} {lacks} yet", err=True)
        raise typer.Exit(1)


@app.command()
@using_storage()
def trials(
    storage: Storage,
    study: Study = None,
    sort: Annotated[Order, typer.Option(help="The order of the trials.")] = Order.NUMBER,
    state: Annotated[State | None, typer.Option(help="Only trials in this state.")] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="The last so many, or the first of an order."),
    ] = None,
    to_json: AsJson = False,
) -> None:
    """List trials: value, what was charged, what each stage cost, and what was free."""
    record = StudyRecord.of(load_study(storage, study))
    chosen = _in_order(record, sort)
    if state is not None:
        chosen = [each for each in chosen if each.state == state]
    if count is not None:
        chosen = chosen[-count:] if sort is Order.NUMBER else chosen[:count]
    if to_json:
        _print_json(map(_described, chosen))
        return
    table = _table("trial", "state", "value", "charged", "stages", right=(0, 2, 3))
    for each in chosen:
        table.add_row(
            str(each.number),
            each.state,
            value_text(each.values) + (" beyond" if each.beyond else ""),
            _amount(each.charged, record),
            escape(_stages(each, record)),
        )
    beyond = "; beyond: a limit is not kept" if any(each.beyond for each in chosen) else ""
    table.caption = f"= reused{beyond}"
    Console().print(table)


@app.command()
@using_storage()
def export(
    storage: Storage,
    study: Study = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", dir_okay=False, help="The file; otherwise standard output."),
    ] = None,
    to_json: AsJson = False,
) -> None:
    """Write a table of all trials as CSV: parameters, metrics, cost:STAGE, reused:STAGE, times."""
    rows = tables.export_rows(load_study(storage, study))
    text = "".join(f"{tables.as_json(row)}\n" for row in rows) if to_json else _csv(rows)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _in_order(record: StudyRecord, sort: Order) -> list[TrialRecord]:
    match sort:
        case Order.BEST:
            return record.ranked
        case Order.CHARGED:
            return sorted(record.trials, key=lambda each: -each.charged)
        case Order.NUMBER:
            return list(record.trials)


def _summary(record: StudyRecord) -> dict[str, Any]:
    best, several = record.best, record.has_several_objectives
    return {
        "study": record.name,
        "direction": "minimize" if record.is_minimized else "maximize",
        "objective": record.objective,
        "aims": record.aims,
        "unit": "seconds" if record.is_measured else "declared",
        "trials": tables.counts(record),
        "budget": record.budget,
        "spent": record.spent,
        "saved": record.saved,
        "account": tables.account(record),
        "stages": [tables.stage_facts(record, name) for name in record.stage_names],
        "best": None if best is None else _described(best),
        **({"front": [_described(each) for each in record.front]} if several else {}),
    }


def _described(each: TrialRecord) -> dict[str, Any]:
    return {
        "number": each.number,
        "state": each.state,
        "value": each.value,
        "values": list(each.values),
        "beyond": each.beyond,
        "params": each.trial.params,
        "metrics": each.attr("metrics") or {},
        "costs": each.costs,
        "reused": list(each.reused),
        "charged": each.charged,
        "saved": each.attr("saved") or 0.0,
        "error": each.error,
    }


def _stages(each: TrialRecord, record: StudyRecord) -> str:
    """What happened to the stages of a trial, in short: `embed =, train 3.1 s, score failed`."""
    said = []
    for name in each.stage_names:
        if name in each.reused:
            said.append(f"{name} =")
        elif each.attr("failed_stage") == name:
            said.append(f"{name} failed: {_why(each)}")
        elif name in each.costs:
            said.append(f"{name} {_amount(each.costs[name], record)}")
    return ", ".join(said)


def _why(each: TrialRecord) -> str:
    return error_line(each.error or "unknown")


def _best(record: StudyRecord) -> str:
    """The best value, or how many trials are on the front."""
    if record.has_several_objectives:
        count = len(record.front)
        return f"front of {count} trial{'' if count == 1 else 's'}"
    return "-" if record.best is None else _number(record.best.value)


def _front_table(record: StudyRecord) -> Table:
    """The trials on the front, in the order of the first objective."""
    names = record.objectives
    table = _table("trial", *map(escape, names), right=range(1 + len(names)))
    for each in sorted(record.front, key=lambda each: each.values):
        table.add_row(str(each.number), *map(_number, each.values))
    return table


def _stage_table(record: StudyRecord) -> Table:
    table = _table(
        "stage", "executed", "reused", "failed", "mean cost", "in all", right=range(1, 6)
    )
    for name in record.stage_names:
        found = tables.stage_facts(record, name)
        mean = found["mean_cost"]
        table.add_row(
            escape(name),
            *(str(found[column]) for column in ("executed", "reused", "failed")),
            "-" if mean is None else _amount(mean, record),
            _amount(found["total_cost"], record),
        )
    return table


def _table(*heads: str, right: Iterable[int] = ()) -> Table:
    table = Table(*heads, box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for column in right:
        table.columns[column].justify = "right"
        table.columns[column].no_wrap = True
    return table


def _facts(facts: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name), escape(value))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _amount(cost: float, record: StudyRecord) -> str:
    return amount(cost, record.unit)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print_json(objects: Iterable[dict[str, Any]]) -> None:
    for each in objects:
        typer.echo(tables.as_json(each))
