"""The benchmarks' command line."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eeipu.benchmarks.__main__ import app, main
from eeipu.benchmarks.analysis.printing import REACHING, STAGE, SUMMARY
from eeipu.benchmarks.registry import REGISTRY

SMALL = "michalewicz2-styblinski-tang2-rosenbrock2"


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Results of two methods on two problems."""
    folder = tmp_path_factory.mktemp("results")
    invoke("run", SMALL, "noisy", "--methods", "random,random+cache", *RUN, "--out", str(folder))
    return folder


RUN = ("--seeds", "1", "--preset", "smoke", "--n-initial", "2")


def rows_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_all_problems_are_listed():
    listed = invoke("list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(REGISTRY)
    for name, about in [
        ("noisy", "a sum of 3 functions, one a stage, whose costs are as 3:2:1; noisy"),
        ("upstream-costs", "the first input scales later costs"),
        ("mixed-inputs", "inputs: int, choice, float"),
        ("rosenbrock4-in-3", "one function in 3 stages in a chain, whose costs are as 1:2:3"),
    ]:
        assert next(line for line in listed.splitlines() if line.startswith(name)).endswith(about)


def test_a_table_can_tell_what_a_model_believes_best(out):
    arguments = ("table", "noisy", "--out", str(out), "--json")

    plain, told = (rows_of(invoke(*arguments, *more)) for more in ((), ("--recommended",)))

    assert [row["method"] for row in told] == [row["method"] for row in plain]


def test_a_run_prints_a_row_for_each_method_and_one_for_all(out):
    arguments = (SMALL, "noisy", "--methods", "random,random+cache", *RUN, "--out", str(out))

    rows = rows_of(invoke("run", *arguments, "--json"))

    assert [(row["problem"], row["method"]) for row in rows] == [
        (SMALL, "random"),
        (SMALL, "random+cache"),
        ("noisy", "random"),
        ("noisy", "random+cache"),
        ("all problems", "random"),
        ("all problems", "random+cache"),
    ]
    assert rows[0]["runs"] == 1
    assert "share" in invoke("run", *arguments).stdout


def test_tables_need_nothing_but_the_files(out):
    rows = rows_of(invoke("table", "--out", str(out), "--json", "--against", "random"))
    assert len(rows) == 6
    assert rows[1]["more_candidates"] == 0.0
    assert "+0%" in invoke("table", "--out", str(out), "--against", "random").stdout


def test_means_over_what_is_not_alike_are_told(tmp_path):
    arguments = ("noisy", "--methods", "random", *RUN, "--out", str(tmp_path))
    invoke("run", *arguments, "--seeds", "2")
    assert not invoke("table", "--out", str(tmp_path), "--json").stderr

    path = next(tmp_path.rglob("*-seed1-*.json"))
    content = json.loads(path.read_text())
    content["code"] = "other"
    path.write_text(json.dumps(content))
    told = invoke("table", "--out", str(tmp_path), "--json")
    assert (
        told.stderr
        == "note: several versions of eeipu made these results; see `code` in their files\n"
    )
    assert len(rows_of(told)) == 1
    assert "\n\nSeveral versions" in invoke("table", "--out", str(tmp_path), "--markdown").stdout
    # Where the table is that of a comparison that goes on, too.
    assert invoke("run", *arguments, "--seeds", "2").stderr.endswith(told.stderr)

    for name, threads in (("*-seed0-*", 1), ("*-seed1-*", 2)):
        path = next(tmp_path.rglob(name))
        content = json.loads(path.read_text())
        content["code"], content["options"]["cost"] = "", "measured"
        content["hardware"]["threads"] = threads
        path.write_text(json.dumps(content))
    told = invoke("table", "--out", str(tmp_path), "--json").stderr
    assert "of several machines or numbers of threads; see `hardware`" in told


def test_a_mean_in_json_is_two_keys(out):
    row = rows_of(invoke("table", SMALL, "--out", str(out), "--json"))[0]
    means = [name for name in row if f"{name}_half_width" in row]
    assert means == ["candidates", "improvement", "lead", "share"]
    assert all(not isinstance(value, dict) for value in row.values())


def test_suggestions_can_be_charged(tmp_path):
    invoke("run", SMALL, "--methods", "random", *RUN, "--out", str(tmp_path))
    (path,) = tmp_path.rglob("*-seed0-*.json")
    content = json.loads(path.read_text())
    content["trials"][0]["suggest_s"] = 1e9
    path.write_text(json.dumps(content))

    (row,) = rows_of(invoke("table", "--out", str(tmp_path), "--charge-suggestions", "--json"))
    assert row["candidates"] == 1.0


def test_tables_of_some_problems(out):
    rows = rows_of(invoke("table", "noisy", "--out", str(out), "--json"))
    assert {row["problem"] for row in rows} == {"noisy"}


def test_tables_of_some_contenders_in_their_order(out):
    methods = ("--methods", "random+cache,random")
    rows = rows_of(invoke("table", "noisy", *methods, "--out", str(out), "--json"))
    assert [row["method"] for row in rows] == ["random+cache", "random"]
    rows = rows_of(invoke("table", "noisy", "--methods", "random", "--out", str(out), "--json"))
    assert [row["method"] for row in rows] == ["random"]


def test_a_contender_that_is_not_shown_is_still_compared_with(out):
    arguments = ("--methods", "random+cache", "--out", str(out), "--json")
    rows = rows_of(invoke("table", *arguments, "--against", "random"))
    assert [row["method"] for row in rows] == ["random+cache"] * 3
    assert [row["more_candidates"] for row in rows] == [0.0] * 3


def test_whom_others_are_compared_with_has_one_name(tmp_path):
    written = "random+top-q=1+cache"
    arguments = ("noisy", "--methods", f"random,{written}", *RUN, "--out", str(tmp_path), "--json")
    rows = rows_of(invoke("run", *arguments, "--against", written))
    assert rows[1]["method"] == "random+cache+top-q=1"
    assert [row["pairs"] for row in rows] == [1, 1]
    rows = rows_of(invoke("table", "--out", str(tmp_path), "--json", "--against", written))
    assert [row["pairs"] for row in rows] == [1, 1]


def test_without_the_default_reference_nothing_is_compared(out):
    # Nobody asked for it, and it did not run.
    told = invoke("table", "noisy", "--out", str(out), "--markdown").stdout.splitlines()
    assert told[0] == "Means over seeds with 95 % intervals."
    assert told[2].startswith("| problem | method | runs | candidates | improvement | share of")
    arguments = ("noisy", "--out", str(out), "--markdown", "--against", "random")
    told = invoke("table", *arguments).stdout.splitlines()
    assert told[0].endswith("intervals; more, larger, lead, won against random on the same seeds.")
    assert "| candidates | more | improvement | larger | lead | won |" in told[2]


def test_tables_in_markdown_name_a_problem_once(out):
    arguments = ("--methods", "random,random+cache", "--out", str(out), "--markdown")
    lines = invoke("table", SMALL, *arguments).stdout.splitlines()
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert [line.split("|")[1:3] for line in lines[4:]] == [
        [f" {SMALL}, smoke, declared cost, n_initial=2 ", " random "],
        ["  ", " random+cache "],
    ]


def test_every_column_is_explained():
    explained = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert [column for column in SUMMARY if explained.count(f"| `{column}` |") != 1] == []
    _, of_reaching = explained.split("`table --reaching` has a row for each contender")
    assert [column for column in REACHING if f"`{column}`" not in of_reaching] == []
    _, of_stages = explained.split("`table --stages` has a row for each stage")
    assert [column for column in STAGE if f"`{column}`" not in of_stages] == []


def test_tables_of_means_over_the_budget(out):
    at_end, anytime = (
        rows_of(invoke("table", SMALL, "--out", str(out), "--json", *more))
        for more in ((), ("--anytime",))
    )
    pairs = zip(anytime, at_end, strict=True)
    assert all(mean["improvement"] < end["improvement"] for mean, end in pairs)
    told = invoke("table", SMALL, "--out", str(out), "--markdown", "--anytime").stdout
    assert "improvements in the mean over the budget" in told.splitlines()[0]


def test_tables_of_stage_costs(out):
    rows = rows_of(invoke("table", SMALL, "--out", str(out), "--stages", "--json"))
    assert len(rows) == 6
    assert sum(row["share"] for row in rows[:3]) == pytest.approx(1.0)
    assert "executed" in invoke("table", "--out", str(out), "--stages").stdout


def test_tables_of_what_reaches_the_end_of_another(out):
    arguments = ("table", SMALL, "--out", str(out), "--reaching", "--against", "random")
    rows = rows_of(invoke(*arguments, "--json"))
    assert {row["method"] for row in rows} == {"random", "random+cache"}
    assert all(0.0 < row["budget"] <= 1.0 for row in rows)
    assert "of the rest" in invoke(*arguments, "--markdown").stdout


def test_stage_costs_of_some_contenders_in_their_order(out):
    for methods in ("random+cache,random", "random"):
        arguments = ("noisy", "--stages", "--methods", methods, "--out", str(out), "--json")
        rows = rows_of(invoke("table", *arguments))
        assert list(dict.fromkeys(row["method"] for row in rows)) == methods.split(",")


def test_pictures_go_where_they_are_wanted(out, tmp_path):
    told = invoke("plot", "noisy", "--out", str(out), "--figures", str(tmp_path)).stdout
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert str(tmp_path) in told


def said(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["eeipu.benchmarks", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "rastrigin"), "'rastrigin' is no problem"),
        (("run", SMALL, "--methods", "ei+x"), "ei+x"),
        (("run", SMALL, "--methods", "ei+cache+cooling=off"), "'+cooling=off' after 'ei'"),
        (
            ("run", SMALL, "--first-seed", str(2**32 - 9)),
            "a seed must be 0 to 4294967295",
        ),
        (("table", "--stages", "--anytime"), "--stages and --anytime exclude each other"),
        (("table", "--reaching", "--stages"), "--stages and --reaching exclude each other"),
        (("table", "--reaching"), "--reaching needs a contender to compare with; add --against"),
        (("table", "stacking"), "no results of ['stacking'] with these seeds"),
        (("table", "--seeds", "3", "--first-seed", "1"), "there are no results with these seeds"),
        (("table", "--methods", "random,ei"), "no results of 'ei'"),
        (("table", "--against", "ei"), "name one of ['random', 'random+cache']"),
        (("table", "--against", "best"), "there is no method 'best'"),
        (("run", SMALL, "--methods", "random", "--against", "ei"), "name one of ['random']"),
        (("table", "--json", "--markdown"), "--json and --markdown exclude each other"),
        (("run", SMALL, "--json", "--markdown"), "--json and --markdown exclude each other"),
        (("run", SMALL, "--budget", "1", "--budget-factor", "2"), "exclude each other"),
        (("run", SMALL, "--budget", "-1"), "the budget must be positive and finite, but got -1.0"),
        (("run", SMALL, "--budget-factor", "nan"), "the budget factor must be positive"),
        (("run", SMALL, "--cost", "measured"), "measured"),
        (("run", "stacking", "--data", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_expected_errors_are_a_line(out, monkeypatch, capsys, arguments, message):
    code, error = said(monkeypatch, capsys, *arguments, "--out", str(out))
    assert code == 1
    assert message in error
    assert len(error.splitlines()) == 1


def test_where_no_result_can_be_written_nothing_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eeipu.benchmarks.runs.campaign.run_to_file", never)
    (tmp_path / "file").touch()
    where = tmp_path / "file" / "below"

    code, error = said(monkeypatch, capsys, "run", SMALL, *RUN, "--out", str(where))

    assert code == 1
    assert f"results cannot be written to {str(where)!r}" in error
    assert len(error.splitlines()) == 1


def never(*arguments, **options):
    raise AssertionError


def test_ctrl_c_tells_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("eeipu.benchmarks.runs.campaign.run_to_file", interrupted)

    code, error = said(monkeypatch, capsys, "run", SMALL, *RUN, "--out", str(tmp_path))

    assert (code, error) == (130, "stopped by Ctrl-C; the same command goes on.\n")


def test_a_table_is_of_the_seeds_that_are_asked_for(tmp_path):
    options = ("--methods", "random", "--preset", "smoke", "--n-initial", "2", "--json")
    every = rows_of(invoke("run", SMALL, "--seeds", "3", *options, "--out", str(tmp_path)))
    last = rows_of(
        invoke("table", "--seeds", "2", "--first-seed", "1", "--json", "--out", str(tmp_path))
    )

    assert [row["runs"] for row in every] == [3]
    assert [row["runs"] for row in last] == [2]


def test_without_an_error_it_ends_well(monkeypatch, capsys):
    code, _ = said(monkeypatch, capsys, "list")
    assert code == 0
