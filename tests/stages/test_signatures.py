"""What a stage's functions take: inputs in front, hyper-parameters by name."""

import functools

from eeipu.space import Float
from eeipu.stages.decorator import stage

X = Float(0.0, 1.0)


def names(each):
    return [parameter.name for parameter in each.positional]


def test_hyper_parameters_may_be_positional_or_keyword():
    each = stage(space={"x": X})(lambda data, x: data * x)
    assert names(each) == ["data"]
    assert each(2.0, x=0.5) == 1.0


def test_a_function_with_keyword_arguments_takes_any_hyper_parameter():
    each = stage(space={"x": X, "y": X})(lambda data, **params: params)
    assert each(0, x=1, y=2) == {"x": 1, "y": 2}


def test_parameters_with_defaults_need_no_space():
    each = stage(space={"x": X})(lambda data, *, x, momentum=0.9: momentum)
    assert each(0, x=1) == 0.9


def test_inputs_end_where_the_hyper_parameters_begin():
    each = stage(space={"x": X})(lambda data, labels, x, weights=None: data)
    assert names(each) == ["data", "labels"]


def test_variadic_inputs_are_inputs():
    assert names(stage()(lambda *data: data)) == ["data"]


def test_a_partial_function_can_be_a_stage_under_a_name():
    each = stage(space={"x": X}, name="half")(functools.partial(lambda data, k, *, x: k * x, k=2))
    assert each([], x=3) == 6
