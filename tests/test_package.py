"""The package's public face."""

import ast
import importlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import eeipu

PUBLIC = [
    "IN_MEMORY",
    "BudgetTooSmall",
    "CacheFormatError",
    "CacheMiss",
    "CacheStats",
    "Categorical",
    "ConfigurationError",
    "EEIPUSampler",
    "EeipuError",
    "Fingerprinted",
    "Float",
    "Int",
    "MissingExtraError",
    "NothingWorthwhile",
    "Pipeline",
    "PipelineError",
    "PipelineRun",
    "SearchOver",
    "SpaceError",
    "SpaceExhausted",
    "Stage",
    "StageCache",
    "StageRun",
    "StageTree",
    "StudyMismatchError",
    "Suggestion",
    "TransientError",
    "Tuner",
    "__version__",
    "stage",
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


LIGHT = [
    "eeipu",
    "eeipu.pipeline",
    "eeipu.cache",
    "eeipu.stages.calls",
    "eeipu.stage_tree.tree",
    "eeipu.executors.futures_cluster",
    "eeipu.algorithms.runner",
    "eeipu.benchmarks.__main__",  # list, table and plot do without
]


@pytest.fixture(scope="module")
def loaded():
    """Which heavy libraries are loaded after each of these imports, in a fresh process."""
    program = f"""
import importlib, json, sys
heavy = {{"torch", "botorch", "gpytorch"}}
loaded = {{}}
for name in {LIGHT}:
    importlib.import_module(name)
    loaded[name] = sorted(heavy & set(sys.modules))
import eeipu
for name in {PUBLIC}:
    if name not in ("EEIPUSampler", "Suggestion", "Tuner"):
        getattr(eeipu, name)
loaded["light names"] = sorted(heavy & set(sys.modules))
eeipu.EEIPUSampler
loaded["EEIPUSampler"] = sorted(heavy & set(sys.modules))
print(json.dumps(loaded))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", [*LIGHT, "light names"])
def test_what_a_worker_imports_loads_without_torch(loaded, name):
    assert loaded[name] == []


def test_the_sampler_loads_torch(loaded):
    assert "torch" in loaded["EEIPUSampler"]
