"""What a result was made with: versions, code and hardware."""

import pytest
from benchmark_toys import CALLS, TOY, options

from eeipu.benchmarks.registry import REGISTRY
from eeipu.benchmarks.runs import machine
from eeipu.benchmarks.runs.results import read
from eeipu.benchmarks.runs.single_run import run, run_to_file


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


def test_what_a_result_was_made_with_is_in_it():
    each = run(options())
    assert each.versions["eeipu"]
    assert each.versions["python"].startswith("3.")
    told = {"machine", "system", "processor", "cores", "threads", "memory_gb", "gpu"}
    assert set(each.hardware) == told
    assert each.code == machine.code()


def test_the_threads_of_a_run_are_told(tmp_path):
    each = read(run_to_file(options(), tmp_path, threads=1))
    assert each.hardware["threads"] == 1


def test_the_code_that_made_a_result_is_all_of_eeipu(monkeypatch, tmp_path):
    (tmp_path / "benchmarks" / "runs").mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "benchmarks" / "runs" / "machine.py"))
    before, stages = machine.code(), machine.code_of_stages()
    (tmp_path / "search.py").write_text("better")
    assert machine.code() != before
    assert machine.code_of_stages() == stages


def test_packages_that_are_not_installed_have_no_version(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    assert set(machine.versions()) == {"python", "numpy"}


def test_the_processor_is_named_where_the_system_tells(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor : 0\nmodel name : Abacus 3\n")
    assert machine._processor(told) == "Abacus 3"
    told.write_text("processor : 0\n")
    other = machine._processor(tmp_path / "none")
    assert machine._processor(told) == other


def test_a_gpu_is_named_where_there_is_one(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "G 1")
    assert machine._gpu() == "G 1"
