"""Content keys: equal for the same call, different for any other."""

import copy
import enum
import functools
import json
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import code_fingerprint
from eeipu.fingerprints.keys import inputs_key, stage_key

texts = st.sampled_from(["", "a", "ab", "b", '"', ",", '"a"']) | st.text(max_size=3)
values = st.sampled_from([None, True, False, 1, 0, 1.0, 0.0, -0.0, "1", "", "None"]) | st.floats(
    allow_nan=False
)
calls = st.tuples(texts, texts, st.dictionaries(texts, values, max_size=2), texts)


def signature(call):
    """A call as a value that differs wherever calls do; `repr` tells `True`, `1`, `1.0` apart."""
    name, fingerprint, params, upstream = call
    return name, fingerprint, sorted((k, repr(v)) for k, v in params.items()), upstream


# --- stage_key ------------------------------------------------------------------------------


@given(calls, calls)
def test_keys_are_equal_if_and_only_if_the_calls_are(one, other):
    assert (stage_key(*one) == stage_key(*other)) == (signature(one) == signature(other))


@given(calls)
def test_the_order_of_parameters_does_not_count(call):
    name, fingerprint, params, upstream = call
    backwards = dict(reversed(params.items()))
    assert stage_key(name, fingerprint, backwards, upstream) == stage_key(*call)


def test_true_one_and_one_point_zero_make_three_keys():
    assert len({stage_key("s", "f", {"p": value}, "u") for value in (True, 1, 1.0)}) == 3


def test_floats_that_differ_in_the_last_bit_make_two_keys():
    assert stage_key("s", "f", {"p": 0.3}, "u") != stage_key("s", "f", {"p": 0.1 + 0.2}, "u")


class Level(enum.IntEnum):
    LOW = 1


def test_choices_that_json_writes_alike_make_two_keys():
    pairs = [(Level.LOW, 1), ((1, 2), [1, 2]), ({1: 2}, {"1": 2})]
    for one, other in pairs:
        assert stage_key("s", "f", {"x": one}, "") != stage_key("s", "f", {"x": other}, "")


def test_choices_of_other_types_enter_by_content():
    def key(value):
        return stage_key("s", "f", {"p": value}, "u")

    assert key(frozenset("ab")) == key(frozenset("ba"))
    assert key(frozenset("ab")) != key(frozenset("ac"))


# --- inputs_key -----------------------------------------------------------------------------

INPUTS = [
    None,
    1,
    1.0,
    "1",
    [1, 2],
    {"x": 1},
    np.arange(3),
    np.arange(3.0),
    torch.arange(3),
    torch.arange(3.0),
    torch.arange(3.0).bfloat16(),
    torch.arange(3.0).reshape(3, 1),
    torch.arange(3.0, requires_grad=True),
    torch.nn.Parameter(torch.arange(3.0)),
    torch.tensor(0.0),
    torch.empty(0),
    torch.tensor([1 + 2j]).conj(),
    {"x": torch.ones(2)},
    {"x", 1},
    {"x", 2},
    frozenset({"x", 1}),
    {None: 1, "x": 2},
    {None: 2, "x": 1},
]


@pytest.mark.parametrize("value", INPUTS, ids=lambda value: type(value).__name__)
def test_equal_inputs_have_equal_keys(value):
    assert inputs_key((copy.deepcopy(value),)) == inputs_key((value,))


def test_different_inputs_have_different_keys():
    assert len({inputs_key((value,)) for value in INPUTS}) == len(INPUTS)


def test_the_number_and_order_of_inputs_count():
    keys = {inputs_key(inputs) for inputs in [(), (1,), (1, 2), (2, 1), ((1, 2),), ([1, 2],)]}
    assert len(keys) == 6


def test_one_object_twice_is_as_good_as_two_equal_ones():
    data = ([1, 2], [3])
    assert inputs_key((data, data)) == inputs_key((data, copy.deepcopy(data)))


def test_one_changed_element_of_a_tensor_changes_the_key():
    tensor = torch.zeros(1000)
    before = inputs_key((tensor,))
    tensor[999] = 1e-30
    assert inputs_key((tensor,)) != before


def test_a_tensor_that_is_a_view_has_the_key_of_its_copy():
    square = torch.arange(9.0).reshape(3, 3)
    assert inputs_key((square.T,)) == inputs_key((square.T.clone().contiguous(),))
    assert inputs_key((square[:, 1],)) == inputs_key((torch.tensor([1.0, 4.0, 7.0]),))


def test_a_model_is_hashed_by_its_weights():
    model = torch.nn.Linear(2, 1)
    twin = copy.deepcopy(model)
    assert inputs_key((model,)) == inputs_key((twin,))
    with torch.no_grad():
        twin.bias += 1.0
    assert inputs_key((model,)) != inputs_key((twin,))


def test_sparse_tensors_can_be_inputs():
    # They are pickled as they are: equal ones may have different keys, but it does not fail.
    sparse = torch.eye(2).to_sparse()
    assert inputs_key((sparse,)) == inputs_key((sparse,))


def test_keys_of_inputs_are_the_same_in_every_process():
    program = textwrap.dedent("""
        import numpy, torch
        from eeipu.fingerprints.keys import inputs_key

        weights = torch.linspace(0.0, 1.0, 4).reshape(2, 2)
        model = torch.nn.Linear(2, 2, bias=False)
        model.weight = torch.nn.Parameter(weights)
        inputs = [
            weights, model, numpy.arange(3.0), {"a": torch.ones(2, dtype=torch.float16)},
            {"x", "y", 1}, {None: 1, "a": 2, "b": frozenset("xyz")},
        ]
        keys = [inputs_key((value,)) for value in inputs]
    """)
    here = {}
    exec(program, here)
    command = [sys.executable, "-c", f"{program}\nprint(*keys)"]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert there.stdout.split() == here["keys"]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": {"b": x}}])
def test_an_input_that_cannot_be_hashed_is_named(wrap):
    value = wrap(threading.Lock())
    message = f"input 1 of the run, a {type(value).__name__}, cannot be hashed .*lock"
    with pytest.raises(PipelineError, match=message):
        inputs_key((1, value))


@example({None: 0, "a": 0})
@given(st.dictionaries(st.none() | st.integers() | st.text(), st.integers(), min_size=2))
def test_the_order_of_a_dict_counts(items):
    assert inputs_key((items,)) != inputs_key((dict(reversed(items.items())),))
    assert inputs_key((items,)) == inputs_key((dict(items),))


# --- code_fingerprint -----------------------------------------------------------------------


def versions_of_a_function():
    """Functions of one name: what says the same, and what says something else."""

    def original():
        def f(data, *, x=1):
            return data * x

        return f

    def same():
        @functools.cache
        def f(data: int, *, x: int = 1) -> int:
            """Documented now."""
            # and commented
            return (
                data
                * x
            )  # fmt: skip

        return f

    def other_body():
        def f(data, *, x=1):
            return data + x

        return f

    def other_default():
        def f(data, *, x=2):
            return data * x

        return f

    return original(), same().__wrapped__, other_body(), other_default()


def test_what_cannot_change_a_result_does_not_change_a_fingerprint():
    original, same, _, _ = versions_of_a_function()
    assert code_fingerprint(same) == code_fingerprint(original)


def test_what_can_change_a_result_changes_the_fingerprint():
    original, _, other_body, other_default = versions_of_a_function()
    assert len({code_fingerprint(f) for f in (original, other_body, other_default)}) == 3


def test_async_functions_and_classes_lose_their_docstrings_too():
    def bare():
        class Model:
            async def fit(self, x):
                pass

        return Model

    def dressed():
        class Model:
            """A model."""

            async def fit(self, x: int) -> None:
                """Fit it."""

        return Model

    assert code_fingerprint(bare()) == code_fingerprint(dressed())


def test_a_string_that_is_no_docstring_counts():
    def one():
        def f():
            return "a"

        return f

    def two():
        def f():
            return "b"

        return f

    assert code_fingerprint(one()) != code_fingerprint(two())


def closing_over(value):
    def f(data):
        return data, value

    return f


def defaulting_to(value):
    def f(data, scale=value):
        return data * scale

    return f


@pytest.mark.parametrize("make", [closing_over, defaulting_to])
def test_captured_values_count_by_content(make):
    assert code_fingerprint(make([1, 2])) == code_fingerprint(make([1, 2]))
    assert code_fingerprint(make([1, 2])) != code_fingerprint(make([1, 3]))


def test_captured_functions_count_by_their_code():
    def times(factor):
        return closing_over(lambda x: x * factor)

    assert code_fingerprint(times(2)) == code_fingerprint(times(2))
    assert code_fingerprint(times(2)) != code_fingerprint(times(3))


def test_captured_functions_of_a_module_count_by_their_name():
    assert code_fingerprint(closing_over(json.dumps)) == code_fingerprint(closing_over(json.dumps))
    assert code_fingerprint(closing_over(json.dumps)) != code_fingerprint(closing_over(json.loads))


def test_a_recursive_function_has_a_fingerprint():
    def factorial(base):
        def f(n):
            return base if n == 0 else n * f(n - 1)

        return f

    assert code_fingerprint(factorial(1)) == code_fingerprint(factorial(1))
    assert code_fingerprint(factorial(1)) != code_fingerprint(factorial(2))


def test_functions_that_call_each_other_have_a_fingerprint():
    def parity(zero):
        def even(n):
            return zero if n == 0 else odd(n - 1)

        def odd(n):
            return not zero if n == 0 else even(n - 1)

        return even

    assert code_fingerprint(parity(True)) == code_fingerprint(parity(True))
    assert code_fingerprint(parity(True)) != code_fingerprint(parity(False))


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def scale(self, data):
        return data * self.factor


def test_a_method_counts_with_its_object():
    assert code_fingerprint(Scaler(2).scale) == code_fingerprint(Scaler(2).scale)
    assert code_fingerprint(Scaler(2).scale) != code_fingerprint(Scaler(3).scale)


def test_a_lambda_counts_without_the_line_around_it():
    one = lambda data: data + 1  # noqa: E731
    other = (lambda data: data + 1, "something else")[0]
    third = lambda data: data + 2  # noqa: E731
    assert code_fingerprint(one) == code_fingerprint(other)
    assert code_fingerprint(one) != code_fingerprint(third)


def test_lambdas_that_share_a_line_are_told_apart():
    def table():
        return [lambda x: x + 1, lambda x: x + 2, lambda x: lambda y: x + 1], lambda x: x + 1

    (one, two, around), last = table()
    assert code_fingerprint(one) == code_fingerprint(last)
    assert len({code_fingerprint(each) for each in (one, two, around, around(1))}) == 4


def test_a_callable_object_counts_by_its_content_and_its_code():
    class Times:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, data):
            return data * self.factor

    def times(data, factor):
        return data * factor

    made = [Times(2), Times(3), functools.partial(times, factor=2), functools.partial(times, 3)]
    assert len(set(map(code_fingerprint, made))) == 4
    assert code_fingerprint(Times(2)) == code_fingerprint(made[0])


def test_the_fingerprint_is_a_digest():
    assert len(bytes.fromhex(code_fingerprint(closing_over(1)))) == 32


@pytest.mark.parametrize(
    ("function", "name"),
    [(len, "len"), (eval("lambda: 1"), "<lambda>")],
)
def test_code_without_source_asks_for_a_version(function, name):
    with pytest.raises(PipelineError, match=rf"the source of .*{name}.*version="):
        code_fingerprint(function)


def test_captured_values_that_cannot_be_hashed_ask_for_a_version():
    with pytest.raises(PipelineError, match=r"closing_over.*cannot pickle.*generator.*version="):
        code_fingerprint(closing_over(x for x in [1]))


def test_a_variable_that_is_not_yet_bound_asks_for_a_version():
    def f():
        return later

    with pytest.raises(PipelineError, match=r"closure values.*version="):
        code_fingerprint(f)
    later = None
