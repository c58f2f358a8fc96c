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
def test_a_model_that_is_made_by_a_call_counts_by_its_fields(project, field, one, other):
    main = (
        "import pydantic\n\nModel = pydantic.create_model('Model', {})\n\n"
        "def f(data):\n    return Model()"
    )
    found = [
        code_fingerprint(project(main=main.format(field.format(value))).f)
        for value in (one, one, other)
    ]
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
