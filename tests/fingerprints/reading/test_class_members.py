"""Classes that libraries make: they count by their members, or ask for a version."""

import pytest
from cells import cell

from eeipu import PipelineError
from eeipu.fingerprints.code import (
    code_fingerprint,
)

ATTRS = {
    "a class": "@attrs.define\nclass A:\n    x: int = {}",
    "an old class": "@attr.s\nclass A:\n    x = attr.ib(default={})",
    "an instance": "@attrs.frozen\nclass B:\n    x: int = {}\n\nA = B().__class__",
    "a class made by a call": "A = attrs.make_class('A', {{'x': attrs.field(default={})}})",
}


@pytest.mark.parametrize("kind", ATTRS)
def test_classes_of_attrs_have_fingerprints(project, kind):
    def fingerprint(value):
        main = f"import attr\nimport attrs\n\n{ATTRS[kind].format(value)}\n\na = A()\n\n"
        main += "def f(data):\n    return A().x + a.x"
        return code_fingerprint(project(main=main).f)

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


def test_a_member_that_cannot_be_hashed_asks_for_a_version(project):
    main = "Made = type('Made', (), {'stream': (x for x in [1])})\n\n"
    main += "def f(data):\n    return Made.stream"
    with pytest.raises(PipelineError, match=r"Made has the attribute stream.*hashed.*version="):
        code_fingerprint(project(main=main).f)


def test_a_class_that_a_library_makes_by_a_call_asks_for_a_version(project):
    main = (
        "import torch\n\nModel = type('Model', (torch.nn.Module,), {'k': 1})\n\n"
        "def f(data):\n    return Model().k"
    )
    with pytest.raises(PipelineError, match=r"Model has no source.*torch.*keeps.*version="):
        code_fingerprint(project(main=main).f)


MODELS = [
    ("k=(float, {})", "2.0", "5.0"),
    ("k=({}, 2)", "int", "float"),
    ("k=(float, pydantic.Field(2.0, gt={}))", "0", "1"),
    ("k=(list, pydantic.Field(default_factory=lambda: [{}]))", "0", "1"),
    ("_k=(float, pydantic.PrivateAttr({}))", "2.0", "5.0"),
    ("__config__={{'strict': {}}}", "True", "False"),
]


@pytest.mark.parametrize(("field", "one", "other"), MODELS)
def test_a_model_that_is_made_by_a_call_counts_by_its_fields(fingerprints, field, one, other):
    main = (
        "import pydantic\n\nModel = pydantic.create_model('Model', {})\n\n"
        "def f(data):\n    return Model()"
    )
    found = fingerprints(main, field.format(one), field.format(one), field.format(other))
    assert found[0] == found[1] != found[2]


def test_a_model_of_a_notebook_counts_by_its_fields():
    source = """
        from pydantic import BaseModel

        class Settings(BaseModel):
            k: float = {}

        def f(data):
            return Settings().k
    """
    one, again, other = (code_fingerprint(cell(source.format(x)).f) for x in (1.0, 1.0, 2.0))
    assert one == again != other


def test_a_model_with_validators_that_is_made_by_a_call_asks_for_a_version(project):
    main = (
        "import pydantic\n\ndef check(cls, value):\n    return value\n\n"
        "Model = pydantic.create_model('Model', k=(int, 2), "
        "__validators__={'check': pydantic.field_validator('k', mode='before')(check)})\n\n"
        "def f(data):\n    return Model().k"
    )
    with pytest.raises(PipelineError, match=r"Model has no source.*pydantic.*version="):
        code_fingerprint(project(main=main).f)


@pytest.mark.parametrize("scope", ["globals()", "{}"])
def test_a_method_that_exec_has_put_into_a_class_asks_for_a_version(project, scope):
    main = (
        "class A:\n    def m(self):\n        return 1\n\nmade = {}\n"
        f"exec('def m(self): return 2', dict({scope}), made)\nA.m = made['m']\n\n"
        "def f(data):\n    return A().m()"
    )
    with pytest.raises(PipelineError, match=r"source of m cannot be read.*version="):
        code_fingerprint(project(main=main).f)


def test_a_class_that_exec_has_made_asks_for_a_version(project):
    main = (
        "exec('class A:\\n    def m(self):\\n        return 1')\n\ndef f(data):\n    return A().m()"
    )
    with pytest.raises(PipelineError, match=r"source of A\.m cannot be read.*version="):
        code_fingerprint(project(main=main).f)


def test_methods_that_a_data_class_or_a_named_tuple_has_made_are_no_obstacle(project):
    main = (
        "import dataclasses\nimport typing\n\n@dataclasses.dataclass(order=True, frozen=True)\n"
        "class A:\n    x: int = 1\n\nclass B(A):\n    pass\n\n"
        "class C(typing.NamedTuple):\n    x: int = 1\n\ndef f(data):\n    return A(), B(), C()"
    )
    assert code_fingerprint(project(main=main).f)


def test_a_class_that_is_registered_with_an_abstract_one_counts(fingerprints):
    main = (
        "import abc\n\nclass Base(abc.ABC):\n    pass\n\nclass A:\n    pass\n\nclass B:\n"
        "    x = 1\n\nBase.register({})\n\ndef f(data):\n    return isinstance(data, Base)"
    )
    one, again, other = fingerprints(main, "A", "A", "B")
    assert one == again != other


@pytest.mark.parametrize(
    ("made", "one", "other"),
    [
        ("typing.TypedDict('T', {{'a': int}}, total={})", "True", "False"),
        ("typing.NamedTuple('T', [('a', {})])", "int", "float"),
        ("dataclasses.make_dataclass('T', [('a', {})])", "int", "float"),
        ("attrs.make_class('T', {{'a': attrs.field(metadata={{'k': {}}})}})", "1", "2"),
    ],
)
def test_the_keys_and_hints_of_a_class_made_by_a_call_count(fingerprints, made, one, other):
    main = f"import attrs\nimport dataclasses\nimport typing\n\nT = {made}\n\n"
    main += "def f(data):\n    return T"
    found = fingerprints(main, one, one, other)
    assert found[0] == found[1] != found[2]
