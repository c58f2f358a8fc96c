"""Content keys: equal for the same call, different for any other."""

import copy
import enum
import io
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
from torch.utils.data import DataLoader, TensorDataset

from eeipu import Fingerprinted
from eeipu.errors import PipelineError
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


def test_sparse_tensors_count_by_their_content():
    one, again, other = (inputs_key((torch.eye(size).to_sparse(),)) for size in (2, 2, 3))
    assert one == again != other


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


def streams(tmp_path):
    (tmp_path / "data.csv").write_text("1,2\n")
    yield zip([1], [2], strict=True)
    yield map(abs, [1])
    yield iter([1])
    yield reversed([1])
    yield (x for x in [1])
    yield io.BytesIO(b"1,2")
    yield iter(DataLoader(TensorDataset(torch.arange(2.0))))
    with (tmp_path / "data.csv").open() as file:
        yield file


def test_what_can_be_read_only_once_is_refused(tmp_path):
    for stream in streams(tmp_path):
        with pytest.raises(PipelineError, match="input 0 of the run is an iterator"):
            inputs_key((stream,))
        nested = {"train": [(0, 1), [2.5, stream]]}
        with pytest.raises(PipelineError, match=r"iterator, a .* in a dict, which"):
            inputs_key((nested,))
        with pytest.raises(PipelineError, match="iterator"):
            inputs_key((Fingerprinted(stream, "name"),))


def test_what_can_be_read_again_is_an_input():
    loops: list = [1]
    loops.append(loops)
    for value in (range(3), {1: [2]}, loops, DataLoader(TensorDataset(torch.arange(2.0)))):
        assert inputs_key((value,)) == inputs_key((value,))
