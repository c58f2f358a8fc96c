"""What a worker compares: code and values that it has by import, and that its driver has."""

import importlib
import linecache
import pickle
import sys

import pytest

from eeipu.fingerprints.code import read_code
from eeipu.fingerprints.outlines import outline_of

HELPER = """
LIMIT = 1

class Net:
    depth = 2

    @property
    def width(self):
        return LIMIT

    @width.setter
    def width(self, value):
        self.seen = value

def scale(x):
    return x * Net().width
"""
MAIN = "import helper\n\ndef stage_function(x):\n    return helper.scale(x)\n"


def sent(function):
    return pickle.loads(pickle.dumps(outline_of(read_code(function))))


def test_a_process_that_imported_the_same_differs_in_nothing(project):
    outline = sent(project(main=MAIN, helper=HELPER).stage_function)
    assert {"helper.scale", "helper.Net", "helper.Net.width"} < outline.digests.keys()
    assert outline.differences() == []
    project(main=MAIN, helper=HELPER + "\n# a comment\n")
    assert outline.differences() == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("x * Net()", "x + Net()", "the code of helper.scale"),
        ("depth = 2", "depth = 3", "the code of helper.Net"),
        ("self.seen = value", "self.seen = 0", "the code of helper.Net.width"),
        ("LIMIT = 1", "LIMIT = 2", "the global LIMIT in helper.Net.width"),
        ("def scale(x)", "def other(x)", "helper.scale"),
    ],
)
def test_what_was_edited_since_is_named(old, new, named, project):
    outline = sent(project(main=MAIN, helper=HELPER).stage_function)
    project(main=MAIN, helper=HELPER.replace(old, new))
    assert named in str(outline.differences())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("x * Net()", "x + Net()", ["the code of helper.scale"]),
        ("LIMIT = 1", "LIMIT = 2", []),
        ("def scale(x)", "def other(x)", ["helper"]),
    ],
)
def test_of_code_that_a_version_stands_for_the_values_do_not_count(old, new, named, project):
    reading = read_code(project(main=MAIN, helper=HELPER).stage_function)
    outline = pickle.loads(pickle.dumps(outline_of(reading, has_values=False)))
    project(main=MAIN, helper=HELPER.replace(old, new))
    differences = outline.differences()
    assert len(differences) == len(named)
    assert all(name in each for name, each in zip(named, differences, strict=True))


def test_code_that_a_version_stands_for_need_not_have_source(project, tmp_path):
    reading = read_code(project(main=MAIN, helper=HELPER).stage_function)
    versioned, named = outline_of(reading, has_values=False), outline_of(reading)
    (tmp_path / "main.py").unlink()
    linecache.clearcache()
    assert versioned.differences() == []
    assert "main.stage_function" in str(named.differences())


def test_a_value_that_one_process_has_set_is_named(project):
    main = project(main=MAIN, helper=HELPER)
    helper = importlib.import_module("helper")
    helper.LIMIT = 5
    outline = sent(main.stage_function)
    helper.LIMIT = 1
    assert outline.differences() == [
        "the global LIMIT in helper.Net",
        "the global LIMIT in helper.Net.width",
    ]
    helper.Net.depth = 3
    assert "the attribute depth in helper.Net" in outline.differences()


def test_a_module_that_was_imported_before_it_was_edited_is_named(project, tmp_path):
    main = project(main=MAIN, helper=HELPER)
    outline = sent(main.stage_function)
    (tmp_path / "helper.py").write_text(HELPER.replace("x * Net()", "x - Net()"))
    differences = str(outline.differences())
    assert "helper.scale (" in differences
    assert "helper.py changed since it was imported: restart)" in differences


def test_code_that_travels_itself_is_not_looked_at(project):
    main = project(main="def make(k):\n    return lambda x: x * k\n\nf = make(2)\n")
    outline = sent(main.f)
    assert (outline.roots, outline.digests) == ((), {})
    assert outline.differences() == []


def test_a_module_that_is_not_there_is_named(project, monkeypatch, tmp_path):
    outline = sent(project(main=MAIN, helper=HELPER).stage_function)
    (tmp_path / "helper.py").unlink()
    (tmp_path / "main.py").unlink()
    monkeypatch.delitem(sys.modules, "helper")
    assert "helper.scale (it cannot be imported" in str(outline.differences())
