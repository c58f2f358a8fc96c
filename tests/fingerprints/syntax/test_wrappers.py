"""Classes whose methods are stages, in fingerprints."""

import linecache
import sys
import types

import pytest

from eeipu.fingerprints.code import code_fingerprint
from eeipu.stages.code_changes import refresh_code

MODEL = """
import functools
from eeipu import Float, stage

class Model:
    def __init__(self, weight):
        self.weight = weight

    @stage(space={{"x": Float(0.0, {high})}}, num_cpus={high})
    def fit(self, data, *, x):
        return data * x * {factor}

    @{order}
    def score(data):
        return data * {other}

    @functools.cached_property
    def table(self):
        return {table}

def f(data):
    return Model(1.0).fit(data, x=0.5)
"""


def model(**changes):
    values = {"high": 1, "factor": 1, "other": 1, "table": 1, "order": "stage\n    @staticmethod"}
    return MODEL.format(**values | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"factor": 2},
        {"other": 2},
        {"table": 2},
        {"order": "staticmethod\n    @stage", "other": 2},
    ],
)
def test_the_code_of_methods_that_are_stages_counts(project, changes):
    before = project(main=model(order=changes.get("order", "stage\n    @staticmethod")))
    found = [before.Model(1.0).fit.fingerprint, code_fingerprint(before.f)]
    after = project(main=model(**changes))
    assert found[0] != after.Model(1.0).fit.fingerprint
    assert found[1] != code_fingerprint(after.f)


def test_the_declaration_of_a_stage_does_not_count(project):
    before = project(main=model()).Model(1.0).fit.fingerprint
    after = project(main=model(high=2)).Model(1.0).fit
    assert (after.space["x"].high, after.num_cpus) == (2.0, 2)
    assert after.fingerprint == before


def test_a_class_of_a_notebook_whose_methods_are_all_stages_is_found_by_its_cell(monkeypatch):
    cell = (
        "from eeipu import Float, stage\n"
        "class Model:\n"
        "    @stage(space={'x': Float(0.0, 1.0)})\n"
        "    def fit(self, data, *, x):\n"
        "        return data * x\n"
    )
    file = "/tmp/ipykernel_1/model.py"
    monkeypatch.setitem(linecache.cache, file, (len(cell), None, cell.splitlines(True), file))
    notebook = types.ModuleType("notebook_of_test")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    exec(compile(cell, file, "exec"), vars(notebook))
    refresh_code([notebook.Model().fit])


def test_a_stage_of_a_class_that_holds_a_callable_counts_by_what_it_holds(project):
    source = """
        from functools import partial
        from eeipu import stage

        def g(data, k):
            return data * k

        class Model:
            scale = stage(partial(g, k={}), name="scale")

            @stage
            def fit(self, data):
                return self.scale(data)
    """
    found = {project(main=source.format(k)).Model().fit.fingerprint for k in (1, 1, 2)}
    assert len(found) == 2
