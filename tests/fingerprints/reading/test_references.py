"""References: values that count by their name, their type, or what they lead to."""

import textwrap

import pytest

from eeipu import PipelineError
from eeipu.fingerprints.code import CodeReader, code_fingerprint, read_code

NO_INPUT = {
    "a lock": "threading.Lock()",
    "a reentrant lock": "threading.RLock()",
    "a thread's own values": "threading.local()",
    "an event": "threading.Event()",
    "a lock of processes": "multiprocessing.Lock()",
    "an executor": "concurrent.futures.ThreadPoolExecutor(1)",
    "a stream": "sys.stdout",
    "a file that is written": "open(os.devnull, 'w')",
    "a console": "rich.console.Console()",
    "the environment": "os.environ",
}


@pytest.mark.parametrize("kind", NO_INPUT)
def test_what_holds_no_input_of_a_computation_counts_by_its_type(project, kind):
    main = (
        "import concurrent.futures, multiprocessing, os, rich.console, sys, threading\n\n"
        f"it = {NO_INPUT[kind]}\n\nclass A:\n    own = it\n\ndef f(data):\n    return it, A"
    )
    first = project(main=main)
    before = code_fingerprint(first.f)
    again = project(main=main)
    assert code_fingerprint(again.f) == before
    for module in (first, again):
        if kind == "a file that is written":
            module.it.close()


def test_a_file_that_is_read_asks_for_a_version(project):
    main = "it = open(__file__)\n\ndef f(data):\n    return it.read()"
    module = project(main=main)
    with module.it, pytest.raises(PipelineError, match=r"global it, which cannot.*version="):
        code_fingerprint(module.f)


def test_a_lock_of_ones_own_counts_with_its_code(fingerprints):
    main = (
        "from concurrent.futures import Executor\n\nclass Own(Executor):\n"
        "    def submit(self, *_):\n        return {}\n\nit = Own()\n\ndef f(data):\n    return it"
    )
    one, other = fingerprints(main, 1, 2)
    assert one != other


@pytest.mark.parametrize(
    "value", ["contextvars.ContextVar('it', default={})", "types.MappingProxyType({{'x': {}}})"]
)
def test_what_only_shows_another_value_counts_by_that(fingerprints, value):
    main = f"import contextvars, types\n\nit = {value}\n\ndef f(data):\n    return it"
    one, again, other = fingerprints(main, 1, 1, 2)
    assert one == again != other


def test_a_cache_and_a_stage_around_a_callable_object_count_by_that_object(project):
    main = project(
        main="""
            import functools
            from eeipu import stage

            def g(x, k):
                return x * k

            table = [1]
            cached = functools.cache(functools.partial(g, k=table))
            staged = stage(name="s")(functools.partial(g, k=table))

            def f(data):
                return cached(data)

            def h(data):
                return staged(data)
        """
    )
    functions = (main.f, main.h)
    before = [read_code(each) for each in functions]
    assert main.staged.fingerprint
    again = [CodeReader(before).read(f, last) for f, last in zip(functions, before, strict=True)]
    assert again == before
    main.table.append(2)
    changed = [CodeReader(before).read(f, last) for f, last in zip(functions, before, strict=True)]
    assert all(new != old for new, old in zip(changed, before, strict=True))


DISPATCHING = """
    import functools

    @functools.singledispatch
    def f(data):
        return data

    @f.register
    def _(data: int):
        return {}

    def g(data):
        return f(data)

    TABLE = [f]

    def h(data):
        return TABLE[0](data)
"""


@pytest.mark.parametrize("name", ["f", "g", "h"])
def test_a_function_that_dispatches_by_type_counts_by_what_it_leads_to(project, name):
    def fingerprint(value, *, called=False):
        main = project(main=textwrap.dedent(DISPATCHING).format(value))
        if called:
            main.f(1.0)
        return code_fingerprint(getattr(main, name))

    assert fingerprint(1) == fingerprint(1, called=True)
    assert fingerprint(1) != fingerprint(2)


def test_a_union_of_types_is_a_value(fingerprints):
    main = "Number = int | {}\n\ndef f(data):\n    return isinstance(data, Number)"
    one, again, other = fingerprints(main, "str", "str", "float")
    assert one == again != other


def test_what_validates_a_call_does_not_count_the_rest_of_its_module(project):
    main = (
        "import pydantic\n\nUNUSED = (x for x in [1])\n\n"
        "@pydantic.validate_call(config={{'strict': {}}})\ndef g(x: {}):\n    return x * {}\n\n"
        "def f(data):\n    return g(data)"
    )
    versions = [("True", "int", 1), ("False", "int", 1), ("True", "float", 1), ("True", "int", 2)]
    found = [code_fingerprint(project(main=main.format(*each)).f) for each in versions]
    assert len(set(found)) == 4
    assert code_fingerprint(project(main=main.format(*versions[0])).f) == found[0]


def test_the_state_of_shared_random_generators_does_not_count(project):
    main = (
        "from random import random, shuffle\nfrom numpy.random import rand\n\n"
        "random(), rand()\n\ndef f(data):\n    shuffle(data)\n    return random() + rand()"
    )
    assert code_fingerprint(project(main=main).f) == code_fingerprint(project(main=main).f)


def test_the_order_of_a_set_of_functions_does_not_count(project):
    main = (
        "def a(x):\n    return 1\n\ndef b(x):\n    return 2\n\ndef c(x):\n    return 3\n\n"
        "ALL = {a, b, c}\nNAMES = {a: 1, b: 2, c: 3}\n\ndef f(data):\n    return ALL, NAMES"
    )
    assert len({code_fingerprint(project(main=main).f) for _ in range(5)}) == 1
