"""The package's public face."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

import eeipu

ROOT = Path(__file__).parents[1]

PUBLIC = [
    "ASHA",
    "INPUTS",
    "IN_MEMORY",
    "BudgetTooSmall",
    "CacheAccessError",
    "CacheFormatError",
    "CacheMiss",
    "CacheStats",
    "Categorical",
    "ConfigurationError",
    "EEIPUSampler",
    "EeipuError",
    "Fingerprinted",
    "Float",
    "FreezeThaw",
    "Hyperband",
    "Int",
    "MedianStopping",
    "MissingExtraError",
    "NothingWorthwhile",
    "OneOf",
    "Optional",
    "Pipeline",
    "PipelineError",
    "PipelineRun",
    "PopulationBased",
    "Recommendation",
    "SearchOver",
    "SpaceError",
    "SpaceExhausted",
    "Stage",
    "StageCache",
    "StageRun",
    "StageTree",
    "StorageError",
    "StudyMismatchError",
    "SuccessiveHalving",
    "Suggestion",
    "Training",
    "TrainingError",
    "TransientError",
    "Tuner",
    "WorkerMismatchError",
    "__version__",
    "check_resuming",
    "iterative",
    "stage",
    "torch_training",
]


def test_the_public_names_are_these():
    assert eeipu.__all__ == PUBLIC
    assert dir(eeipu) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_loads(name):
    assert getattr(eeipu, name) is getattr(eeipu, name)


def test_a_name_is_found_where_it_is_defined(monkeypatch):
    monkeypatch.delitem(vars(eeipu), "StageCache", raising=False)
    assert eeipu.StageCache.__module__ == "eeipu.cache"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'eeipu' has no attribute 'Tunner'"):
        eeipu.Tunner  # noqa: B018 - looking it up is what is tested


def test_the_version_is_that_of_the_distribution():
    assert eeipu.__version__ == version("eeipu")


def test_type_checkers_see_the_names_that_load():
    tree = ast.parse(Path(eeipu.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert seen == {
        name: f"eeipu.{module}" for module, names in eeipu._HOMES.items() for name in names
    }
    assert seen.keys() == set(PUBLIC) - {"__version__"}


@pytest.mark.parametrize("module", eeipu._HOMES)
def test_public_names_are_public_where_they_come_from(module):
    assert set(eeipu._HOMES[module]) <= set(importlib.import_module(f"eeipu.{module}").__all__)


# What a worker process imports; `stages.torch_training` is the exception among their modules.
TORCH_FREE = [
    "errors",
    "spaces",
    "space",
    "html_tables",
    "serialization",
    "fingerprints",
    "caching",
    "cache",
    "stages",
    "stage_tree",
    "pipeline",
    "executors",
    "algorithms",
    "report",
    "studies.records",
    "commands",
    "__main__",
]


@pytest.fixture(scope="module")
def loaded():
    """Import -> the heavy libraries that it loads, all of them in one fresh process."""
    program = f"""
import importlib, json, pkgutil, sys
loaded, seen = {{}}, set()

def note(name):
    loaded[name] = sorted(({{"torch", "botorch", "gpytorch"}} & set(sys.modules)) - seen)
    seen.update(loaded[name])

def load(name):
    module = importlib.import_module(name)
    note(name)
    for each in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if each.name != "torch_training":
            load(f"{{name}}.{{each.name}}")

load("eeipu.benchmarks.__main__")  # the commands list, table and plot do without torch
for name in {TORCH_FREE}:
    load(f"eeipu.{{name}}")
import eeipu
for name in {PUBLIC}:
    if name not in ("EEIPUSampler", "Recommendation", "Suggestion", "Tuner", "torch_training"):
        getattr(eeipu, name)
note("light names")
eeipu.EEIPUSampler
note("EEIPUSampler")
print(json.dumps(loaded))
"""
    run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


LOADED = pytest.mark.xdist_group("loaded")  # for one process of the tests


@LOADED
@pytest.mark.parametrize("room", [*TORCH_FREE, "benchmarks.__main__"])
def test_what_a_worker_imports_loads_without_torch(loaded, room):
    modules = {name: libraries for name, libraries in loaded.items() if is_in(name, room)}
    assert modules
    assert not {name: libraries for name, libraries in modules.items() if libraries}


def is_in(name, room):
    return f"{name}.".startswith(f"eeipu.{room}.")


@LOADED
def test_public_names_but_those_of_the_search_load_without_torch(loaded):
    assert loaded["light names"] == []


@LOADED
def test_the_sampler_loads_torch(loaded):
    assert "torch" in loaded["EEIPUSampler"]


def documents():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results" / "README.md"]
    return "\n".join(page.read_text() for page in pages)


def is_there(name):
    """Whether a dotted name is a module, or the name of something at the top of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:end])
        for source in (place.with_suffix(".py"), place / "__init__.py"):
            if source.exists():
                return end == len(parts) or parts[end] in names_in(source)
    return False


def names_in(source):
    """The names at the top of a module, by its source: importing all of them takes a minute."""
    names = set(PUBLIC) if source == ROOT / "eeipu" / "__init__.py" else set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names


def test_names_in_documents_are_there():
    named = set(re.findall(r"\beeipu(?:\.\w+)+", documents()))
    for module, names in re.findall(r"from (eeipu[\w.]*) import ([\w, ]+)", documents()):
        named |= {f"{module}.{name.strip()}" for name in names.split(",")}
    assert len(named) > 40
    assert not [name for name in named if not is_there(name)]


def test_paths_in_documents_are_there():
    paths = set(re.findall(r"`((?:eeipu|tests|benchmarks|docs)/[\w./-]*)`", documents()))
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_picture_of_the_house_is_current():
    subprocess.run([sys.executable, ROOT / "docs" / "draw_house.py", "--check"], check=True)


# --- the distribution: without a folder `src`, all other tests import the checkout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (path,) = out.glob("*.whl")
    return path


WHEEL = pytest.mark.xdist_group("wheel")  # for one process of the tests


@WHEEL
@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel):
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    folder = ROOT / "eeipu"
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert held == {str(path.relative_to(ROOT)) for path in files}
    data = "eeipu/benchmarks/distillation/data/"
    assert held >= {"eeipu/py.typed", data + "docstrings.jsonl.xz", data + "tokenizer.json"}


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of a fresh environment with the wheel, and this one's other libraries."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    # Its path files are not read from there, so that an editable install is not seen.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python


def quickstart():
    """The first example of the README, for few trials."""
    text = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert text.count("return_X_y=True))") == 1
    return text.replace("return_X_y=True))", "return_X_y=True), max_trials=3, progress=False)")


@WHEEL
@pytest.mark.slow
def test_the_quickstart_runs_where_the_wheel_is_installed(python, tmp_path):
    script = tmp_path / "quickstart.py"
    script.write_text(f"{quickstart()}\nimport eeipu\nprint(eeipu.__file__)\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment, "check": True, "text": True}

    run = subprocess.run([python, script], stdout=subprocess.PIPE, **options)
    command = python.with_name("eeipu")
    told = subprocess.run([command, "--version"], stdout=subprocess.PIPE, **options)

    *_, best, place = run.stdout.splitlines()
    assert "'embed.dims'" in best
    assert Path(place).is_relative_to(python.parents[1])
    assert (tmp_path / "tune.db").exists()
    assert any((tmp_path / "cache").iterdir())
    assert told.stdout == f"eeipu {eeipu.__version__}\n"
