"""What a stage's functions take: inputs in front, hyper-parameters by name."""

import functools

import pytest

from eeipu import Pipeline, PipelineError
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


async def awaited(data, *, x=1):
    return data


async def streamed(data, *, x=1):
    yield data


class Awaited:
    async def __call__(self, data):
        return data

    async def method(self, data):
        return data


@pytest.mark.parametrize(
    "function",
    [awaited, streamed, functools.partial(awaited, x=2), Awaited(), Awaited().method],
    ids=["function", "generator", "partial", "object", "method"],
)
def test_what_would_have_to_be_awaited_is_no_stage(function):
    with pytest.raises(PipelineError, match=r"'fetch' has an async function.*asyncio.run"):
        stage(function, name="fetch")


def test_a_coroutine_is_no_output():
    run = Pipeline([stage(lambda data: awaited(data), name="fetch", version="1")]).run({}, 1.0)
    assert "returned a coroutine, which is not awaited" in run.error


@pytest.mark.parametrize("name", ["", 1, None])
def test_hyper_parameters_are_keywords(name):
    with pytest.raises(PipelineError, match=f"the space has {name!r}"):
        stage(lambda data, **params: data, name="fit", space={name: X})
