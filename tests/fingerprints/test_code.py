"""Code fingerprints: an edit anywhere in what a stage uses is seen, and nothing else."""

import functools
import importlib
import json
import sys
import textwrap

import numpy as np
import pytest

from eeipu import Float, PipelineError, StageCache, stage
from eeipu.fingerprints.code import (
    CodeReader,
    code_fingerprint,
    package_versions,
    read_code,
    value_digest,
)
from eeipu.stages.running.calls import stage_calls
from eeipu.stages.running.walks import run_path

MAIN = """
    import tools
    from tools import scale

    def f(data):
        return tools.shift(scale(data))
"""


TOOLS = """
    import math
    import constants

    def scale(data):
        return data * constants.FACTOR

    def shift(data):
        return _inner(data) + 1

    def _inner(data):
        return math.floor(data)
"""


CONSTANTS = """
    FACTOR = 2
    UNUSED = 3
"""


def versions(project, **changed):
    """The fingerprint of `main.f` in the project above, with some of its modules changed."""
    sources = {"main": MAIN, "tools": TOOLS, "constants": CONSTANTS}
    return code_fingerprint(project(**{**sources, **changed}).f)


def test_an_edited_helper_module_is_a_miss(project, tmp_path):
    cache = StageCache(tmp_path / "cache")

    def run():
        each = stage(project(main=MAIN, tools=tools, constants=CONSTANTS).f)
        (done,) = run_path(stage_calls([each], [{}], "inputs"), (1.5,), cache)
        return done.memoized, done.output

    tools = TOOLS
    assert [run(), run()] == [(False, 4), (True, 4)]
    tools = TOOLS.replace("+ 1", "+ 2")
    assert [run(), run()] == [(False, 5), (True, 5)]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("tools", "data * constants", "data / constants"),
        ("tools", "math.floor", "math.ceil"),
        ("constants", "FACTOR = 2", "FACTOR = 2.0"),
        ("main", "tools.shift(scale(data))", "scale(tools.shift(data))"),
        ("tools", "def _inner(data)", "def _inner(data, up=False)"),
    ],
)
def test_an_edit_of_what_is_used_changes_the_fingerprint(project, module, old, new):
    source = {"main": MAIN, "tools": TOOLS, "constants": CONSTANTS}[module]
    assert old in source
    assert versions(project) != versions(project, **{module: source.replace(old, new)})


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("constants", "UNUSED = 3", "UNUSED = 4"),
        ("tools", "def shift(data):", 'def shift(data: float) -> float:\n        """Shift."""'),
        ("tools", "return _inner(data) + 1", "return (  # one up\n            _inner(data) + 1)"),
        ("tools", "import math", "import math\n\n    def other():\n        return 1\n"),
    ],
)
def test_an_edit_of_nothing_that_is_used_changes_nothing(project, module, old, new):
    source = {"main": MAIN, "tools": TOOLS, "constants": CONSTANTS}[module]
    assert old in source
    assert versions(project) == versions(project, **{module: source.replace(old, new)})


def test_functions_that_call_each_other_across_modules_have_a_fingerprint(project):
    def fingerprint(value):
        main = "import other\n\ndef f(n):\n    return other.g(n - 1) if n else 0"
        return code_fingerprint(
            project(main=main, other=f"import main\n\ndef g(n):\n    return main.f(n - {value})").f
        )

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


def test_the_name_of_a_module_does_not_count(project):
    source = "LIMIT = 1\n\ndef g(x):\n    return min(x, LIMIT)\n\ndef f(data):\n    return g(data)"
    project(main="", one=source, other=source)
    one, other = importlib.import_module("one"), importlib.import_module("other")
    assert code_fingerprint(one.f) == code_fingerprint(other.f)


def test_code_of_installed_packages_is_named_and_not_followed():
    def f(data):
        return np.linalg.norm(data), functools.reduce(max, data), textwrap.dedent("")

    code = read_code(f)
    assert {"numpy"} <= set(code.packages)
    assert package_versions(code.packages).keys() == {"python", "eeipu", "numpy"}


def test_a_stage_with_a_version_is_not_looked_into():
    lock = eval("lambda: 1")
    each = stage(space={"x": Float(0.0, 1.0)}, version="1")(lambda *, x: lock())
    assert each.fingerprint == "version 1"
    assert each.versions.keys() == {"python", "eeipu"}


def test_an_input_of_ones_own_class_counts_with_its_code(project):
    source = "class Data:\n    def get(self):\n        return {}\n"
    one, again, other = (value_digest(project(main=source.format(x)).Data()) for x in (1, 1, 2))
    assert one == again != other


def test_an_error_deep_in_a_table_of_functions_is_told_as_it_is(project):
    main = "TABLE = {'x': eval('lambda x: x')}\n\ndef f(data):\n    return TABLE"
    with pytest.raises(PipelineError, match=r"source of <lambda>"):
        value_digest(project(main=main).TABLE)
    with pytest.raises(PipelineError, match=r"source of <lambda>"):
        code_fingerprint(project(main=main).f)


def test_what_a_module_computes_when_it_is_asked_is_asked_for_in_every_reading(project):
    tools = "K = [1]\n\ndef __getattr__(name):\n    return K[0]"
    main = project(main="import tools\n\ndef f(data):\n    return tools.made_up", tools=tools)
    before = read_code(main.f)
    assert CodeReader([before]).read(main.f, before).fingerprint == before.fingerprint
    main.tools.K[0] = 2
    assert CodeReader([before]).read(main.f, before).fingerprint != before.fingerprint


CHANGES = {
    "a global": ("main.K = 2", "the global K"),
    "a global changed in place": ("main.TABLE.append(2)", "the global TABLE"),
    "an equal value of another type": ("main.TABLE[0] = True", "the global TABLE"),
    "an array of other numbers of the same bytes": (
        "main.ARRAYS[0] = main.ARRAYS[0].view('i8')",
        "the global ARRAYS",
    ),
    "a number of another type of the same bytes": (
        "main.ARRAYS[1] = main.ARRAYS[1].view('i8')",
        "the global ARRAYS",
    ),
    "the shape of an array": ("main.ARRAYS[0] = main.ARRAYS[0][None]", "the global ARRAYS"),
    "the code of a helper that has nothing else": ("main.tools.g.__code__ = B.m.__code__", None),
    "defaults that a helper is given": ("main.tools.g.__defaults__ = (2,)", "the defaults"),
    "the first attribute of a helper": ("main.tools.g.x = 2", None),
    "the attributes of a helper": ("main.tools.g.__dict__ = {'x': 2}", None),
    "a helper in a table": ("main.TABLES['g'] = main.h", "the global TABLES"),
    "the code of a helper in a table": ("main.TABLES['h'].__defaults__ = (2,)", "the defaults"),
    "a helper": ("main.g = main.h", "the global g"),
    "a helper in another module": ("main.tools.g = main.h", "the global tools.g"),
    "a global that hides one of Python's": ("main.len = main.h", "the global len"),
    "the code of a helper": ("main.g.__code__ = main.h.__code__", None),
    "a default": ("main.g.__defaults__ = (2,)", "the defaults"),
    "a default by keyword": ("main.g.__kwdefaults__['z'] = 2", "the default z"),
    "a closure value": ("main.around.__closure__[0].cell_contents = 2", "the closure value k"),
    "an attribute of a function": ("main.g.x = 2", "the attribute x"),
    "an attribute of a class": ("main.A.x = 2", "the attribute x"),
    "an attribute of an object": ("main.a.y = 2", "the global a"),
    "a method": ("main.A.m = main.h", None),
    "a base": ("main.A.__bases__ = (main.C,)", None),
    "a member of a module used as a whole": ("main.whole.K = 2", "the global K"),
    "a new member of a module used as a whole": ("main.whole.L = 2", "the global L"),
    "a function put into a library": ("main.json.g = main.h", "the global json.g"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_second_reading_finds_what_a_first_one_would(project, change):
    main = project(
        main="""
            import json
            import numpy as np
            import tools
            import whole

            K = 1
            TABLE = [1]
            ARRAYS = [np.zeros(2), np.float64(1.0)]

            def closing(k):
                return lambda x: x + k

            around = closing(1)

            def g(x, y=1, *, z=1):
                return x + y + z

            def h(x, y=1):
                return x - y

            TABLES = {"g": g, "h": h}

            class B:
                pass

            class C:
                pass

            class A(B):
                x = 1

                def m(self):
                    return 1

            a = A()
            a.y = 1

            def f(data):
                values = K, TABLE, TABLES, len(data), around(data), g(data), tools.g(data)
                return values, A, a, vars(whole), json.g(data), ARRAYS
        """,
        tools="def g(x):\n    return x",
        whole="K = 1",
    )
    before = read_code(main.f)
    try:
        assert CodeReader([before]).read(main.f, before) is before
        action, name = CHANGES[change]
        exec(action, {"main": main, "B": main.A})
        after = CodeReader([before]).read(main.f, before)
        assert after.fingerprint != before.fingerprint
        assert after.fingerprint == code_fingerprint(main.f)
        assert name is None or name in after.changes_since(before)
    finally:
        vars(main.json).pop("g", None)


def test_reading_again_is_quick_after_hints_were_looked_at(project, monkeypatch):
    main = project(main="def g(x: int) -> int:\n    return x\n\ndef f(data):\n    return g(data)")
    before = read_code(main.f)
    assert CodeReader([before]).read(main.f, before) is before
    assert main.g.__annotations__ == {"x": int, "return": int}
    main.g.__doc__ = "It has one now."
    monkeypatch.setattr("eeipu.fingerprints.code._DefinitionGraph", None)  # which would read it all
    for _ in range(2):
        assert CodeReader([before]).read(main.f, before) is before


# --- what a function carries with it --------------------------------------------------------


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


def test_captured_values_that_cannot_be_hashed_ask_for_a_version():
    with pytest.raises(PipelineError, match=r"closing_over.*cannot pickle.*generator.*version="):
        code_fingerprint(closing_over(x for x in [1]))


def test_a_class_elsewhere_is_another_class_and_a_function_is_not(project):
    source = "class A:\n    pass\n\ndef f(x):\n    return {}\n"
    prints = {}
    for used in ("A()", "x"):
        for name in ("one", "two"):
            module = project(main=f"from {name} import f\n", **{name: source.format(used)})
            prints[used, name] = code_fingerprint(module.f)
    assert prints["A()", "one"] != prints["A()", "two"]
    assert prints["x", "one"] == prints["x", "two"]


SCRIPTS = {
    "a class": "class A: ...\n\nK = None\n",
    "an object that pickles by a name": "from typing import TypeVar\n\nK = A = TypeVar('A')\n",
    "classes in a set, whose names give them an order": "\n".join(
        [*(f"class {name}: ..." for name in "ABCDEFGH"), "K = {A, B, C, D, E, F, G, H}\n"]
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_the_fingerprint_of_the_module_that_it_is(project, monkeypatch, script):
    module = project(main=f"{SCRIPTS[script]}\ndef f(x):\n    return A, K\n")
    imported = code_fingerprint(module.f), value_digest([module.K, module.A])
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.delitem(sys.modules, "main")
    for name, value in list(vars(module).items()):
        if len(name) == 1 and name != "K":
            monkeypatch.setattr(value, "__module__", "__main__")
    assert (code_fingerprint(module.f), value_digest([module.K, module.A])) == imported
