"""What `eeipu study` prints. It imports Optuna, so that commands import it when they run."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eeipu.counts import counted
from eeipu.report.reading import load_study, studies_in
from eeipu.stages.runs import error_line
from eeipu.studies.records import tables
from eeipu.studies.records.amounts import amount, value_text
from eeipu.studies.records.recommended import recommendation_facts, recommended_by
from eeipu.studies.records.study_record import StudyLike, StudyRecord, TrialRecord
from eeipu.studies.storages import read_storage, using_storage

__all__ = ["print_best", "print_export", "print_list", "print_study", "print_trials"]


@using_storage()
def print_list(storage: str, *, as_json: bool) -> None:
    """The studies of a storage."""
    opened = read_storage(storage)
    records = [StudyRecord.of(load_study(opened, name)) for name in studies_in(opened)]
    if as_json:
        _print_json(map(_summary, records))
        return
    if not records:
        typer.echo("no studies yet")
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


@using_storage()
def print_study(study: StudyLike, *, recommends: bool = False, as_json: bool) -> None:
    """How a study stands.

    Args:
        study: The study.
        recommends: Whether to fit models, and show what they recommend.
        as_json: Whether to print one JSON object.

    Raises:
        ConfigurationError: Models can recommend nothing.
    """
    record = StudyRecord.of(study)
    recommended = recommended_by(record) if recommends else None
    if as_json:
        more = {} if recommended is None else {"recommended": asdict(recommended)}
        _print_json([_summary(record) | more])
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
    if recommended is not None:
        console.print(_facts(recommendation_facts(record, recommended)))
        console.print(_facts({name: _shown(each) for name, each in recommended.params.items()}))
    for failed in tables.failures(record)[:1]:
        console.print(f"last failure, trial {failed.number}: {escape(_why(failed))}")


@using_storage()
def print_best(storage: str, study: str | None, count: int, *, as_json: bool) -> None:
    """The best trials; raises `typer.Exit` with code 1 if there is none."""
    record = StudyRecord.of(load_study(storage, study))
    found = record.front if record.has_several_objectives else record.ranked[:count]
    if as_json:
        _print_json(map(_described, found))
    for each in () if as_json else found:
        pairs = zip(record.objectives, each.values, strict=True)
        head = {"trial": str(each.number), **{name: _number(value) for name, value in pairs}}
        params = {name: _shown(value) for name, value in each.trial.params.items()}
        Console().print(_facts(head | params))
    if not found:
        lacks = "is within all limits" if any(t.beyond for t in record.trials) else "has a value"
        typer.echo(f"no trial of {record.name!r} {lacks} yet", err=True)
        raise typer.Exit(1)


@using_storage()
def print_trials(
    storage: str,
    study: str | None,
    *,
    sort: str,
    state: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """A list of trials."""
    record = StudyRecord.of(load_study(storage, study))
    chosen = _in_order(record, sort)
    if state is not None:
        chosen = [each for each in chosen if each.state == state]
    if count is not None:
        chosen = chosen[-count:] if sort == "number" else chosen[:count]
    if as_json:
        _print_json(map(_described, chosen))
        return
    # Without the unit at each number, of which the line's end would cut it off.
    stages = f"stages ({record.unit.strip()})" if record.unit else "stages"
    table = _table("trial", "state", "value", "charged", stages, right=(0, 2, 3))
    for each in chosen:
        table.add_row(
            str(each.number),
            each.state,
            value_text(each.values) + (" beyond" if each.beyond else ""),
            _amount(each.charged, record),
            escape(_stages(each)),
        )
    beyond = "; beyond: a limit is not kept" if any(each.beyond for each in chosen) else ""
    table.caption = f"= reused{beyond}"
    Console().print(table)


@using_storage()
def print_export(storage: str, study: str | None, out: Path | None, *, as_json: bool) -> None:
    """A table of all trials, as CSV or JSON."""
    rows = tables.export_rows(load_study(storage, study))
    text = "".join(f"{tables.as_json(row)}\n" for row in rows) if as_json else _csv(rows)
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


def _in_order(record: StudyRecord, sort: str) -> list[TrialRecord]:
    match sort:
        case "best":
            return record.ranked
        case "charged":
            return sorted(record.trials, key=lambda each: -each.charged)
        case _:
            return list(record.trials)


def _summary(record: StudyRecord) -> dict[str, Any]:
    best, several = record.best, record.has_several_objectives
    return {
        "study": record.name,
        "direction": "minimize" if record.is_minimized else "maximize",
        "directions": [direction.name.lower() for direction in record.study.directions],
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


def _stages(each: TrialRecord) -> str:
    """What happened to the stages of a trial, in short: `embed =, train 3.1, score failed`."""
    said = []
    for name in each.stage_names:
        if name in each.reused:
            said.append(f"{name} =")
        elif each.attr("failed_stage") == name:
            said.append(f"{name} failed: {_why(each)}")
        elif name in each.costs:
            said.append(f"{name} {amount(each.costs[name], '')}")
    return ", ".join(said)


def _why(each: TrialRecord) -> str:
    return error_line(each.error or "unknown")


def _best(record: StudyRecord) -> str:
    """The best value, or how many trials are on the front."""
    if record.has_several_objectives:
        count = len(record.front)
        return f"front of {counted(count, 'trial')}"
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
