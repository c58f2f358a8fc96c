"""One script under its names: run, run as a module, imported, and run by a worker's driver."""

import pickle
import sys
from types import ModuleType

import pytest

from eeipu.errors import CacheFormatError
from eeipu.serialization.main_module import MainModule, home_of
from eeipu.serialization.pickles import deserialize, serialize

SOURCE = """
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

class Only:
    def __reduce__(self):
        return "ONLY"

ONLY = Only()

class Kind(Enum):
    GOOD = 1

class Model:
    @dataclass(frozen=True)
    class Part:
        weight: float

def loss(x):
    return x

def value():
    return [Kind.GOOD, Kind, Model.Part(2.0), loss]

def check(value):
    assert value[0] is Kind.GOOD
    assert value[1] is Kind
    assert value[2] == Model.Part(2.0)
    assert value[3] is loss
"""


@pytest.fixture
def process(monkeypatch):
    """Let this process have the script under a name, and no other of its names; return it."""

    def play(name, file="/project/train.py", spec=None):
        module = ModuleType(name)
        module.__file__, module.__spec__ = file, spec and type(sys.__spec__)(spec, None)
        monkeypatch.delitem(sys.modules, "train", raising=False)
        monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
        monkeypatch.setitem(sys.modules, name, module)
        exec(SOURCE, vars(module))
        return module

    return play


RUN, IMPORTED = {"name": "__main__"}, {"name": "train"}
RUN_BY_NAME = {"name": "__main__", "spec": "train"}


@pytest.mark.parametrize("reader", [RUN, IMPORTED, RUN_BY_NAME])
@pytest.mark.parametrize("writer", [RUN, IMPORTED, RUN_BY_NAME])
def test_what_one_process_keeps_is_the_others_own(writer, reader, process):
    kept = serialize(process(**writer).value())
    process(**reader).check(deserialize(*kept))


@pytest.mark.parametrize("reader", [RUN, IMPORTED, RUN_BY_NAME])
@pytest.mark.parametrize("writer", [RUN, IMPORTED, RUN_BY_NAME])
def test_objects_that_pickle_by_a_name_are_found_too(writer, reader, process):
    written = process(**writer)
    kept = serialize([written.T, written.ONLY])
    read = process(**reader)
    variable, only = deserialize(*kept)
    assert (variable, only) == (read.T, read.ONLY)


def test_a_name_that_does_not_lead_to_its_object_is_refused(process):
    other = process(**RUN).Only()
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        serialize(other)


@pytest.mark.parametrize("reader", [{**RUN, "file": "/project/train2.py"}, {**RUN, "file": None}])
def test_a_copy_of_a_script_is_another_script(reader, process):
    kept = serialize(process(**RUN).value())
    process(**reader)
    with pytest.raises(CacheFormatError, match="it needs 'Kind' of the script or module 'train'"):
        deserialize(*kept)


def test_a_notebook_finds_its_own(process):
    kept = serialize(process("__main__", file=None).value())
    process("__main__", file=None).check(deserialize(*kept))
    assert home_of("__main__") == "__main__"


def test_a_script_that_is_run_and_imported_has_two_classes_of_a_name(process, monkeypatch):
    imported = process(**IMPORTED)
    alone = serialize(imported.value())
    run = process(**RUN)
    monkeypatch.setitem(sys.modules, "train", imported)
    for module in (run, imported):
        module.check(deserialize(*serialize(module.value())))
    imported.check(deserialize(*alone))
    assert (home_of("__main__"), home_of("train")) == ("train as __main__", "train")
    both = serialize(run.value())
    monkeypatch.delitem(sys.modules, "train")
    with pytest.raises(CacheFormatError, match="'train as __main__'"):
        deserialize(*both)


def test_a_library_of_a_scripts_name_is_another_module(process, monkeypatch):
    run = process(**RUN)
    monkeypatch.setitem(sys.modules, "train", ModuleType("train"))
    assert home_of("__main__") == "train"
    run.check(deserialize(*serialize(run.value())))


def test_what_is_not_there_is_no_damage(process):
    kept = serialize(process(**IMPORTED).value())
    process("__main__", file=None)
    with pytest.raises(CacheFormatError, match=r"it needs train\.Kind, which is not here"):
        deserialize(*kept)


def test_a_class_made_inside_a_function_is_nowhere(process):
    class Local:
        pass

    Local.__module__ = "__main__"
    with pytest.raises(AttributeError, match="local object"):
        serialize(Local)


def test_a_worker_stands_in_for_its_drivers_script(process):
    script = process(**RUN)
    driver = MainModule.here()
    process("__main__", file="/usr/bin/worker")
    script.Other = type("Other", (), {"__module__": "__main__"})
    driver.adopt([script.value, len], [script.Other, int])
    main = sys.modules["__main__"]
    assert main.Other is script.Other
    assert not hasattr(main, "int")
    assert (home_of("__main__"), main.Kind, main.loss) == ("train", script.Kind, script.loss)
    script.check(deserialize(*serialize(script.value())))


def test_a_worker_of_a_notebook_has_no_script_either(process):
    process("__main__", file="/usr/bin/worker")

    for _ in range(2):
        MainModule(None, None).adopt([])

        assert not hasattr(sys.modules["__main__"], "__file__")
