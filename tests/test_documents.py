"""Everything that the README and the documentation show as code runs, or says why it cannot."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from pages import blocks, run_page
from typer.main import get_command

import eeipu
from eeipu.__main__ import app
from eeipu.benchmarks.__main__ import app as benchmarks_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = {"console", "bash", "sh"}
SHOWN = {"text", "yaml", "toml", "json", "ini"}  # what programs read or say


def _id(page):
    return str(page.relative_to(ROOT))


ALL = [
    pytest.param(page, block, id=f"{_id(page)}:{block.line}")
    for page in PAGES
    for block in blocks(page.read_text())[0]
]
SLOW = {"README", "index", "tutorial", "early_stopping", "boosting", "hugging_face", "lightning"}
WITH_PYTHON = [
    pytest.param(page, marks=pytest.mark.slow if page.stem in SLOW else (), id=_id(page))
    for page in PAGES
    if any(
        block.language == "python" and not block.not_run for block in blocks(page.read_text())[0]
    )
]


@pytest.mark.parametrize("page", WITH_PYTHON)
# Libraries of readers warn as they like.
@pytest.mark.filterwarnings("default")
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    run_page(page, tmp_path, monkeypatch)


@pytest.mark.parametrize(("page", "block"), ALL)
def test_a_block_is_of_a_kind_that_is_checked(page, block):
    assert block.language in {"python"} | SHELLS | SHOWN


def test_few_blocks_are_not_run():
    code = [each.values[1] for each in ALL if each.values[1].language not in SHOWN]
    skipped = [block for block in code if block.not_run is not None]
    assert all(block.not_run for block in skipped)
    assert len(skipped) <= len(code) / 8, f"{len(skipped)} of {len(code)} blocks are not run"


# --- what is typed into a shell


def command_lines(block):
    """The commands of a block of a shell: without prompts, comments and continuations."""
    joined = re.sub(r"\\\n\s*", " ", block.code)
    for line in joined.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # settings of the environment
            words = words[1:]
        if words:
            yield words


SHELL_BLOCKS = [
    each for each in ALL if each.values[1].language in SHELLS and not each.values[1].not_run
]


@pytest.mark.parametrize(("page", "block"), SHELL_BLOCKS)
def test_a_command_in_a_page_is_one(page, block):
    for words in command_lines(block):
        check_command(words)


def check_command(words):
    """Whether a command is there and takes these arguments, without running it."""
    python = re.fullmatch(r"(\.venv/bin/)?python3?", words[0])
    if words[0] == "eeipu" or (python and words[1:3] == ["-m", "eeipu"]):
        parse(get_command(app), words[1:] if words[0] == "eeipu" else words[3:])
    elif python and words[1:3] == ["-m", "eeipu.benchmarks"]:
        parse(get_command(benchmarks_app), words[3:])
    elif python and words[1].startswith("benchmarks/"):
        assert (ROOT / words[1]).exists(), words[1]
    elif words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), words
    elif re.fullmatch(r"(\.venv/bin/)?pip", words[0]) or (python and words[1:3] == ["-m", "pip"]):
        check_extras(" ".join(words))
    else:
        assert words[0] in {"cd", "git", "mkdir", "sbatch", "srun"} or (
            python and words[1] == "-m"
        ), words


def parse(command, words):
    """Let a command parse its words, which raises where it would refuse them."""
    while hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    command.make_context("command", list(words), resilient_parsing=False)


def check_extras(text):
    """The extras that are asked of eeipu are there."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for named in re.findall(r"(?:eeipu|\.)\[([\w,]+)\]", text):
        assert set(named.split(",")) <= declared["optional-dependencies"].keys(), text


def test_extras_that_are_named_are_there():
    for page in PAGES:
        check_extras(page.read_text())


def test_the_reference_has_every_public_name():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    shown = re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in pages), re.MULTILINE)
    whole = {"eeipu.errors"}  # a module whose names are all shown
    for module, names in eeipu._HOMES.items():
        home = f"eeipu.{module}"
        assert home in whole or {f"{home}.{name}" for name in names} <= {*shown}, home
    assert whole <= {*shown}


# --- the README


def test_the_readme_fits_three_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 190


def test_the_example_of_early_stopping_is_short():
    example = blocks((ROOT / "README.md").read_text())[0][-1]
    lines = [line for line in example.code.splitlines() if line.strip()]
    assert "early_stopping=ASHA" in example.code
    assert len(lines) <= 16
    assert sum(line.startswith(("import", "from")) for line in lines) <= 4
