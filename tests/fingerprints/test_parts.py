"""The parts of keys: their names, their size, and what is said of those that differ."""

import importlib
import pickle

import pytest

from eeipu.fingerprints import parts as parts_module
from eeipu.fingerprints.code import read_code
from eeipu.fingerprints.keys import inputs_key, source_parts, value_parts
from eeipu.fingerprints.parts import differences


@pytest.fixture
def reading(project):
    """Read the function `stage` of a module with a given source, as a new process would."""

    def read(source, name="made_parts"):
        project(main="", **{name: source})
        return read_code(importlib.import_module(name).stage)

    return read


SOURCE = """
LIMIT = 3
TABLE = {"a": 1}

class Config:
    rate = 2
    def go(self):
        return self.rate

def scale(x, k=1):
    return x * LIMIT * k + Config().go() + TABLE["a"]

def stage(x):
    return scale(x)
"""


def compared(one, other):
    made = [{"stage": "s", "code": each, "params": {}, "upstream": "u"} for each in (one, other)]
    return differences(*made)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("x * LIMIT", "LIMIT * x", ["the code of made_parts.scale"]),
        ("LIMIT = 3", "LIMIT = 4", ["the global LIMIT in made_parts"]),
        ('"a": 1', '"a": 2', ["the global TABLE in made_parts"]),
        ("return self.rate", "return -self.rate", ["the code of made_parts.Config.go"]),
        ("k=1", "k=LIMIT", ["the code of made_parts.scale", "the defaults of scale in made_parts"]),
        ("LIMIT = 3", "LIMIT = 3  # a remark", []),
    ],
)
def test_what_differs_is_named(reading, old, new, names):
    before, after = reading(SOURCE).parts, reading(SOURCE.replace(old, new)).parts
    assert [name for name in compared(after, before) if not name.endswith(".Config")] == names


def test_what_one_side_alone_has_is_told(reading):
    more = SOURCE.replace("return scale(x)", "return scale(x) + extra()")
    before, after = reading(SOURCE).parts, reading(f"{more}\ndef extra():\n    return 1\n").parts
    new = "the code of made_parts.extra (which is new)"
    assert new in compared(after, before)
    assert new.replace("which is new", "which is no longer used") in compared(before, after)


def test_functions_that_were_moved_are_no_difference_and_classes_are(reading):
    found = compared(reading(SOURCE).parts, reading(SOURCE, "made_elsewhere").parts)
    assert found == [
        "the code of made_parts.Config (which is new)",
        "the code of made_elsewhere.Config (which is no longer used)",
    ]


def test_many_definitions_are_one_part_a_module_and_are_compared_with_few(reading, monkeypatch):
    fine = reading(SOURCE).parts
    monkeypatch.setattr(parts_module, "MAX_CODE_PARTS", 3)
    coarse, changed = reading(SOURCE).parts, reading(SOURCE.replace("k=1", "k=2")).parts
    assert isinstance(coarse["made_parts"], str)
    assert compared(coarse, fine) == compared(fine, coarse) == []
    assert compared(changed, fine) == ["the code of made_parts"]


def test_more_modules_than_parts_are_one_part_a_package(monkeypatch):
    monkeypatch.setattr(parts_module, "MAX_MODULES", 3)
    modules = {f"own.sub{i % 2}.m{i}": {"f": f"{i}"} for i in range(9)}
    assert list(parts_module._summarised(modules)) == ["own.sub0", "own.sub1"]


def test_a_reading_has_its_parts_in_other_processes_too(reading):
    read = reading(SOURCE)
    assert pickle.loads(pickle.dumps(read)).parts == read.parts


OBJECT = """
class Call:
    def __call__(self, x):
        return x
    def go(self, x):
        return x

stage = Call()
stage.n = 1
"""

CLOSURE = """
def made(n):
    def inner(x):
        return x * n
    return inner

n = 1
stage = made(n)
"""


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (OBJECT, "the content of Call in made_parts"),
        (f"{OBJECT}stage = stage.go", "the object of Call.go in made_parts"),
        (CLOSURE, "the closure value n of made.<locals>.inner in made_parts"),
    ],
    ids=["object", "method", "closure"],
)
def test_values_without_a_name_are_named_by_what_has_them(reading, source, name):
    changed = source.replace("n = 1", "n = 2")
    assert compared(reading(changed).parts, reading(source).parts) == [name]


def test_each_input_and_each_hyper_parameter_is_a_part():
    def made(inputs, params):
        source = source_parts(inputs_key(inputs), ["data", "labels"])
        return {"stage": "s", "version": "1", "code": {}, "params": value_parts(params), **source}

    one = made(([1], [2], 3), {"lr": 0.3, "kind": "a"})
    other = made(([1], [9], 4), {"lr": 0.1 + 0.2, "kind": "a"})
    assert differences(one, other) == ["the hyper-parameter lr", "the input labels", "the input 2"]
    assert differences(one, one) == []


def test_the_rest_of_a_key_is_named_too():
    one = {"stage": "s", "version": "1", "code": {}, "params": {}, "upstream": "u"}
    assert differences(one, {**one, "stage": "t"}) == ["the stage's name ('t' there)"]
    assert differences(one, {**one, "version": "2"}) == [
        "the declared version ('2' there, '1' here)"
    ]
    assert differences(one, {**one, "upstream": "v"}) == [
        "its input, the output of the stage before"
    ]
    assert "steps" in differences(one, {**one, "fixed": "f"})[0]
    first = {**one, "inputs": {}}
    del first["upstream"]
    assert differences(one, first) == ["its input, which is the run's inputs in one of both"]
