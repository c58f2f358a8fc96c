"""What the user's code puts into libraries, and other code finds there by a name."""

import pytest

from eeipu import PipelineError
from eeipu.fingerprints.code import code_fingerprint

ACCESSOR = (
    "import pandas\n\n@pandas.api.extensions.register_{}_accessor('eeipu_test')\nclass Own:\n"
    "    def __init__(self, of):\n        self.of = of\n\n    def m(self):\n        return {}\n\n"
    "def f(data):\n    return data{}.eeipu_test.m()"
)


@pytest.mark.filterwarnings("ignore:registration of accessor")
@pytest.mark.parametrize(("kind", "way"), [("dataframe", ""), ("series", "['a']")])
def test_an_accessor_that_is_registered_with_pandas_counts(project, kind, way):
    import pandas

    try:
        found = [code_fingerprint(project(main=ACCESSOR.format(kind, x, way)).f) for x in (1, 1, 2)]
    finally:
        for each in (pandas.DataFrame, pandas.Series):
            if "eeipu_test" in vars(each):
                delattr(each, "eeipu_test")
                each._accessors.discard("eeipu_test")
    assert found[0] == found[1] != found[2]


def test_a_method_that_is_put_into_a_class_of_a_library_counts(fingerprints):
    import pandas

    main = (
        "import pandas\n\ndef own(self):\n    return {}\n\npandas.DataFrame.eeipu_test = own\n\n"
        "def f(data):\n    return data.eeipu_test()"
    )
    try:
        one, again, other = fingerprints(main, 1, 1, 2)
    finally:
        del pandas.DataFrame.eeipu_test
    assert one == again != other


def test_a_scorer_that_is_registered_counts(fingerprints):
    from sklearn.metrics import _scorer

    main = (
        "from sklearn.metrics import _scorer, get_scorer, make_scorer\n\n"
        "def own(a, b):\n    return {}\n\n_scorer._SCORERS['eeipu_test'] = make_scorer(own)\n\n"
        "def f(data):\n    return get_scorer('eeipu_test')"
    )
    try:
        one, again, other = fingerprints(main, 1, 1, 2)
    finally:
        del _scorer._SCORERS["eeipu_test"]
    assert one == again != other


OPERATOR = (
    "import torch\n\n@torch.library.custom_op('eeipu_test::scale', mutates_args=())\n"
    "def scale(x: torch.Tensor) -> torch.Tensor:\n    return x * {}\n\n"
    "def f(data):\n    return {}(data)"
)


@pytest.mark.parametrize("call", ["torch.ops.eeipu_test.scale", "scale"])
def test_an_operator_that_is_defined_in_python_counts(project, call):
    found = [code_fingerprint(project(main=OPERATOR.format(x, call)).f) for x in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_an_operator_whose_definition_is_not_known_asks_for_a_version(project):
    main = "import torch\n\ndef f(data):\n    return torch.ops.eeipu_unknown.scale(data)"
    with pytest.raises(PipelineError, match=r"torch\.ops\.eeipu_unknown\.scale.*version="):
        code_fingerprint(project(main=main).f)


def test_an_operator_of_torch_itself_is_no_obstacle(project):
    main = "import torch\n\ndef f(data):\n    return torch.ops.aten.add(data, data)"
    assert code_fingerprint(project(main=main).f)
