"""Code fingerprints: an edit anywhere in what a stage uses is seen, and nothing else."""

import functools
import importlib
import linecache
import os
import sys
import textwrap
from types import CodeType, FunctionType, ModuleType

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
from eeipu.stages.calls import run_path, stage_calls


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write modules of a project and import them anew; call it with `name=source`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = set()

    def write(**sources):
        for name, source in sources.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
            written.add(name.partition("__")[0])
        for name in [n for n in sys.modules if n.partition(".")[0] in written]:
            del sys.modules[name]
        importlib.invalidate_caches()
        linecache.checkcache()
        return importlib.import_module("main")

    yield write
    for name in [n for n in sys.modules if n.partition(".")[0] in written]:
        del sys.modules[name]


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


# Each pair differs in one place that `f` reaches in its own way.
REACHED = {
    "a class": (
        "class Model:\n    def fit(self):\n        return {}\n\n"
        "def f(data):\n    return Model().fit()",
        ("1", "2"),
    ),
    "a base class": (
        "class Base:\n    def fit(self):\n        return {}\n\n"
        "class Model(Base):\n    pass\n\ndef f(data):\n    return Model().fit()",
        ("1", "2"),
    ),
    "an instance": (
        "class Model:\n    def fit(self):\n        return {}\n\n"
        "model = Model()\n\ndef f(data):\n    return model.fit()",
        ("1", "2"),
    ),
    "a table of functions": (
        "def one(x):\n    return x + {}\n\nTABLE = {{'one': one}}\n\n"
        "def f(data):\n    return TABLE['one'](data)",
        ("1", "2"),
    ),
    "a decorator": (
        "import functools\n\ndef twice(g):\n    @functools.wraps(g)\n    def wrapper(x):\n"
        "        return {} * g(x)\n    return wrapper\n\n@twice\ndef one(x):\n    return x\n\n"
        "def f(data):\n    return one(data)",
        ("2", "3"),
    ),
    "a decorator that is a class": (
        "import functools\n\nclass Times:\n    def __init__(self, g, k):\n"
        "        functools.update_wrapper(self, g)\n        self.g, self.k = g, k\n\n"
        "    def __call__(self, x):\n        return self.k * self.g(x)\n\n"
        "def times(k):\n    return lambda g: Times(g, k)\n\n"
        "@times({})\ndef one(x):\n    return x\n\ndef f(data):\n    return one(data)",
        ("2", "3"),
    ),
    "what a decorator that is a class does": (
        "import functools\n\nclass Times:\n    def __init__(self, g):\n"
        "        functools.update_wrapper(self, g)\n        self.g = g\n\n"
        "    def __call__(self, x):\n        return {} * self.g(x)\n\n"
        "@Times\ndef one(x):\n    return x\n\ndef f(data):\n    return one(data)",
        ("2", "3"),
    ),
    "what a decorator wraps": (
        "import functools\n\n@functools.cache\ndef one(x):\n    return x + {}\n\n"
        "def f(data):\n    return one(data)",
        ("1", "2"),
    ),
    "another stage": (
        "from eeipu import stage\n\n@stage\ndef one(x):\n    return x + {}\n\n"
        "def f(data):\n    return one(data)",
        ("1", "2"),
    ),
    "a partial": (
        "import functools\n\ndef one(x, y):\n    return x + y\n\nplus = functools.partial(one, {})"
        "\n\ndef f(data):\n    return plus(data)",
        ("1", "2"),
    ),
    "a function in a default": (
        "def one(x):\n    return x + {}\n\ndef f(data, g=one):\n    return g(data)",
        ("1", "2"),
    ),
    "a nested function": (
        "LIMIT = {}\n\ndef f(data):\n    def inner(x):\n        return min(x, LIMIT)\n"
        "    return inner(data)",
        ("1", "2"),
    ),
    "a function that counts its calls": (
        "def one():\n    calls = 0\n\n    def inner(x):\n        nonlocal calls\n"
        "        calls += 1\n        return other(x)\n    return inner\n\n"
        "def other(x):\n    return {}\n\nf = one()",
        ("1", "2"),
    ),
    "a global that another method imports under its name": (
        "LIMIT = {}\n\nclass Model:\n    def fit(self):\n        return LIMIT\n\n"
        "    def other(self):\n        from math import pi as LIMIT\n        return LIMIT\n\n"
        "def f(data):\n    return Model().fit()",
        ("1", "2"),
    ),
    "a closure whose name is another's": (
        "def around(k):\n    def method(self):\n        return k\n    return method\n\n"
        "K = [{}]\n\ndef made(k):\n    class Model:\n        one = around(k)\n"
        "        two = around(3)\n    return Model\n\nmodel = made(*K)\n\n"
        "def f(data):\n    return model().one()",
        ("1", "2"),
    ),
    "a setter": (
        "LIMIT = {}\n\nclass Model:\n    @property\n    def x(self):\n        return 1\n\n"
        "    @x.setter\n    def x(self, value):\n        from math import pi\n"
        "        self.y = pi + LIMIT\n\ndef f(data):\n    return Model()",
        ("1", "2"),
    ),
    "an attribute of a class, set afterwards": (
        "class Model:\n    x = 1\n\nModel.x = {}\n\ndef f(data):\n    return Model.x",
        ("2", "3"),
    ),
    "an attribute of a function": (
        "def f(data):\n    return f.x\n\nf.x = {}",
        ("1", "2"),
    ),
    "an attribute of a class that is computed": (
        "K = [{}]\n\ndef made(k):\n    class Model:\n        x = k\n    return Model\n\n"
        "Model = made(*K)\n\ndef f(data):\n    return Model.x",
        ("1", "2"),
    ),
    "a computed member of an enumeration": (
        "import enum\n\nK = [{}]\n\ndef made(k):\n    class Level(enum.Enum):\n"
        "        LOW = k\n    return Level\n\nLevel = made(*K)\n\n"
        "def f(data):\n    return Level.LOW.value",
        ("1", "2"),
    ),
    "a comprehension": (
        "LIMIT = {}\n\ndef f(data):\n    return [x for x in data if x < LIMIT]",
        ("1", "2"),
    ),
    "a property": (
        "LIMIT = {}\n\nclass Model:\n    @property\n    def top(self):\n        return LIMIT\n\n"
        "def f(data):\n    return Model().top",
        ("1", "2"),
    ),
    "a named tuple": (
        "from collections import namedtuple\n\nPoint = namedtuple('Point', '{}')\n\n"
        "def f(data):\n    return Point(1, 2)",
        ("x y", "x z"),
    ),
    "the order of a named tuple": (
        "from collections import namedtuple\n\nPoint = namedtuple('Point', '{}')\n\n"
        "def f(data):\n    return Point(1, 2)",
        ("x y", "y x"),
    ),
    "a default of a named tuple": (
        "from collections import namedtuple\n\nPoint = namedtuple('Point', 'x', defaults=[{}])\n"
        "\ndef f(data):\n    return Point()",
        ("1", "2"),
    ),
    "an enumeration made by a call": (
        "import enum\n\nLevel = enum.Enum('Level', {{'LOW': {}}})\n\n"
        "def f(data):\n    return Level.LOW.value",
        ("1", "2"),
    ),
    "a data class made by a call": (
        "import dataclasses\n\nPoint = dataclasses.make_dataclass('Point', "
        "[('x', int, dataclasses.field(default={}))])\n\ndef f(data):\n    return Point()",
        ("1", "2"),
    ),
    "an option of a data class made by a call": (
        "import dataclasses\n\nPoint = dataclasses.make_dataclass('Point', ['x'], order={})\n\n"
        "def f(data):\n    return Point(1) < Point(2)",
        ("True", "False"),
    ),
    "a base of a class made by a call": (
        "class A:\n    x = 1\n\nclass B:\n    x = 2\n\nMade = type('Made', ({},), {{}})\n\n"
        "def f(data):\n    return Made.x",
        ("A", "B"),
    ),
    "a method that a class was made with": (
        "def one(self):\n    return {}\n\nMade = type('Made', (), {{'g': one}})"
        "\n\ndef f(data):\n    return Made().g()",
        ("1", "2"),
    ),
    "an array": (
        "import numpy\n\nWEIGHTS = numpy.arange({})\n\ndef f(data):\n    return data @ WEIGHTS",
        ("3", "4"),
    ),
    "a class attribute that is decorated": (
        "import dataclasses\n\n@dataclasses.dataclass(order={})\nclass Model:\n    x: int = 0\n\n"
        "def f(data):\n    return Model() < Model()",
        ("True", "False"),
    ),
    "another library under one name": (
        "import {} as library\n\ndef f(data):\n    return library.dumps(data)",
        ("json", "pickle"),
    ),
    "a metaclass": (
        "class Meta(type):\n    def __getattr__(cls, name):\n        return {}\n\n"
        "class Model(metaclass=Meta):\n    pass\n\ndef f(data):\n    return Model.x",
        ("1", "2"),
    ),
    "a method of a string": (
        "join = '{}'.join\n\ndef f(data):\n    return join(data)",
        ("a", "b"),
    ),
    "a function that was made an object's method": (
        "import types\n\nclass Model:\n    pass\n\ndef fit(self):\n    return {}\n\n"
        "model = Model()\nmodel.fit = types.MethodType(fit, model)\n\n"
        "def f(data):\n    return model.fit()",
        ("1", "2"),
    ),
    "a function put into a library": (
        "import json\n\ndef one(x):\n    return {}\n\njson.one = one\n\n"
        "def f(data):\n    return json.one(data)",
        ("1", "2"),
    ),
    "a callable object that a class was given afterwards": (
        "class One:\n    def __init__(self, k):\n        self.k = k\n\n"
        "    def __call__(self):\n        return self.k\n\nclass Model:\n    pass\n\n"
        "Model.one = One({})\n\ndef f(data):\n    return Model.one()",
        ("1", "2"),
    ),
    "a descriptor that a class was given afterwards": (
        "class One:\n    def __init__(self, k):\n        self.k = k\n\n"
        "    def __get__(self, *_):\n        return self.k\n\nclass Model:\n    pass\n\n"
        "Model.one = One({})\n\ndef f(data):\n    return Model.one",
        ("1", "2"),
    ),
    "a function that is a function's attribute": (
        "def one():\n    return {}\n\ndef f(data):\n    return f.one()\n\nf.one = one",
        ("1", "2"),
    ),
    "a type hint that a decorator may go by": (
        "def typed(g):\n    (convert,) = g.__annotations__.values()\n"
        "    return lambda x: convert(g(x))\n\n@typed\ndef one(x: {}):\n    return x\n\n"
        "def f(data):\n    return one(data)",
        ("int", "float"),
    ),
    "another function under one name": (
        "from math import {} as round_it\n\ndef f(data):\n    return round_it(data)",
        ("ceil", "floor"),
    ),
}


@pytest.mark.parametrize("reached", REACHED)
def test_what_a_function_reaches_counts(project, reached):
    template, fillings = REACHED[reached]
    one, other = (code_fingerprint(project(main=template.format(x)).f) for x in fillings)
    again = code_fingerprint(project(main=template.format(fillings[0])).f)
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    "line",
    [
        "import tools",
        "from tools import g",
        "import tools as t",
        "from package import tools",
        "from package.tools import g",
        "import package.tools",
    ],
)
def test_imports_inside_a_function_are_followed(project, line):
    call = {"import tools as t": "t.g", "import package.tools": "package.tools.g"}.get(
        line, "g" if line.endswith("g") else "tools.g"
    )
    main = f"def f(data):\n    {line}\n    return {call}(data)\n"
    found = {
        code_fingerprint(project(main=main, tools=tools, package__tools=tools).f)
        for tools in ("def g(x):\n    return 1", "def g(x):\n    return 2")
    }
    assert len(found) == 2


@pytest.mark.parametrize("edited", ["one", "other"])
def test_each_import_of_a_name_counts(project, edited):
    main = (
        "def f(data):\n    if data:\n        from one import g\n    else:\n"
        "        from other import g\n    return g(data)"
    )
    sources = dict.fromkeys(["one", "other"], "def g(x):\n    return 1")
    before = code_fingerprint(project(main=main, **sources).f)
    sources[edited] = "def g(x):\n    return 2"
    assert code_fingerprint(project(main=main, **sources).f) != before


@pytest.mark.parametrize(
    "line", ["from tools import g", "from tools import *", "import tools", "from tools import K"]
)
@pytest.mark.parametrize("use", ["getattr(facade, data)", "helper(facade)"])
def test_what_a_module_used_as_a_whole_imports_counts(project, line, use):
    main = f"import facade\n\ndef helper(x):\n    return x\n\ndef f(data):\n    return {use}"

    def fingerprint(value):
        tools = f"K = {value}\n\ndef g(x):\n    return K"
        return code_fingerprint(project(main=main, facade=line, tools=tools).f)

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("return globals()['g'](data)", "globals"),
        ("return eval('g(data)')", "eval"),
        ("return __import__('tools').g(data)", "__import__"),
        ("import importlib\n    return importlib.import_module(data)", "importlib.import_module"),
        ("from importlib import import_module as m\n    return m('tools')", "m"),
        ("import sys\n    return getattr(sys.modules[__name__], data)()", "sys.modules"),
        ("return Base.__subclasses__()[0]()", "Base.__subclasses__"),
        ("import sys\n    return getattr(sys, 'modules')", "sys"),
        (
            "import pkgutil\n    return pkgutil.resolve_name('tools:g')(data)",
            "pkgutil.resolve_name",
        ),
        ("from pydoc import locate\n    return locate('tools.g')(data)", "locate"),
        ("import runpy\n    return runpy.run_module('tools')", "runpy.run_module"),
        ("import importlib.util as u\n    return u.module_from_spec(data)", "u.module_from_spec"),
        ("import hydra\n    return hydra.utils.instantiate(data)", "hydra.utils.instantiate"),
        ("return f.__globals__['g'](data)", "f.__globals__"),
    ],
)
def test_code_that_is_looked_up_by_a_string_asks_for_a_version(project, line, name):
    main = f"class Base:\n    pass\n\ndef f(data):\n    {line}"
    with pytest.raises(PipelineError, match=rf"f uses {name}, .*import statement.*version="):
        code_fingerprint(project(main=main).f)


def test_ones_own_function_may_be_named_as_a_lookup(project):
    main = "def eval(x):\n    return 1\n\ndef f(data):\n    return eval(data)"
    assert code_fingerprint(project(main=main).f)


def test_the_state_of_shared_random_generators_does_not_count(project):
    main = (
        "from random import random, shuffle\nfrom numpy.random import rand\n\n"
        "random(), rand()\n\ndef f(data):\n    shuffle(data)\n    return random() + rand()"
    )
    assert code_fingerprint(project(main=main).f) == code_fingerprint(project(main=main).f)


def test_relative_imports_inside_a_function_are_followed(project):
    def fingerprint(value):
        project(
            main="from package.inner import f",
            package__inner="def f(data):\n    from .tools import g\n    return g(data)",
            package__tools=f"def g(x):\n    return {value}",
        )
        return code_fingerprint(sys.modules["main"].f)

    assert fingerprint(1) != fingerprint(2)


def test_an_import_that_fails_does_not_prevent_a_fingerprint(project):
    main = "def f(data):\n    import no_such_module\n    from math import no_such_name\n"
    assert code_fingerprint(project(main=main).f)


def test_a_module_used_as_a_whole_counts_as_a_whole(project):
    main = "import tools\n\ndef f(data):\n    return getattr(tools, data)()"

    def fingerprint(source):
        return code_fingerprint(project(main=main, tools=source).f)

    assert fingerprint("def g():\n    return 1") != fingerprint("def g():\n    return 2")
    assert fingerprint("X = 1") == fingerprint("X = 1  # one")


def test_a_module_of_ones_own_may_be_named_as_one_of_pythons(project):
    main = "import statistics\n\ndef f(data):\n    return statistics.g(data)"

    def fingerprint(value):
        own = f"def g(x):\n    return {value}"
        return code_fingerprint(project(main=main, statistics=own).f)

    assert fingerprint(1) != fingerprint(2)


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


def test_the_order_of_a_set_of_functions_does_not_count(project):
    main = (
        "def a(x):\n    return 1\n\ndef b(x):\n    return 2\n\ndef c(x):\n    return 3\n\n"
        "ALL = {a, b, c}\nNAMES = {a: 1, b: 2, c: 3}\n\ndef f(data):\n    return ALL, NAMES"
    )
    assert len({code_fingerprint(project(main=main).f) for _ in range(5)}) == 1


def test_code_of_installed_packages_is_named_and_not_followed():
    def f(data):
        return np.linalg.norm(data), functools.reduce(max, data), textwrap.dedent("")

    code = read_code(f)
    assert {"numpy"} <= set(code.packages)
    assert package_versions(code.packages).keys() == {"python", "eeipu", "numpy"}


def test_a_global_that_cannot_be_hashed_asks_for_a_version(project):
    main = "STREAM = (x for x in [1])\n\ndef f(data):\n    return next(STREAM)"
    with pytest.raises(PipelineError, match=r"f has the global STREAM.*cannot be hashed.*version="):
        code_fingerprint(project(main=main).f)


def test_a_member_that_cannot_be_hashed_asks_for_a_version(project):
    main = "Made = type('Made', (), {'stream': (x for x in [1])})\n\n"
    main += "def f(data):\n    return Made.stream"
    with pytest.raises(PipelineError, match=r"Made has the attribute stream.*hashed.*version="):
        code_fingerprint(project(main=main).f)


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


@pytest.mark.parametrize(
    "edited",
    ["def f(data):\n    return data + 2", "\ndef f(data):\n    return data + 1", "x = 1", "def f("],
)
def test_code_edited_after_its_import_asks_for_a_restart(project, tmp_path, edited):
    function = project(main="def f(data):\n    return data + 1").f
    assert code_fingerprint(function)
    (tmp_path / "main.py").write_text(edited)
    with pytest.raises(PipelineError, match="source of f cannot be read"):
        code_fingerprint(function)


def test_a_comment_written_after_the_import_does_not_matter(project, tmp_path):
    function = project(main="def f(data):\n    return data + 1").f
    before = code_fingerprint(function)
    (tmp_path / "main.py").write_text("def f(data):\n    # one up\n    return data + 1")
    assert code_fingerprint(function) == before


def test_a_helper_without_source_asks_for_a_version(project):
    main = "g = eval('lambda x: x')\n\ndef f(data):\n    return g(data)"
    with pytest.raises(PipelineError, match=r"source of <lambda> cannot be read.*version="):
        code_fingerprint(project(main=main).f)


def test_a_stage_with_a_version_is_not_looked_into():
    lock = eval("lambda: 1")
    each = stage(space={"x": Float(0.0, 1.0)}, version="1")(lambda *, x: lock())
    assert each.fingerprint == "version 1"
    assert each.versions.keys() == {"python", "eeipu"}


def cell(source, name="cell"):
    """What running a notebook's cell leaves: its names, in a module that has no file."""
    source = textwrap.dedent(source)
    file_name = f"<{name} of a notebook {os.urandom(4).hex()}>"
    linecache.cache[file_name] = (len(source), None, source.splitlines(keepends=True), file_name)
    module = ModuleType("notebook")
    sys.modules["notebook"] = module
    exec(compile(source, file_name, "exec"), vars(module))
    return module


def test_notebook_cells_have_fingerprints():
    source = """
        LIMIT = {}

        class Model:
            def fit(self, data):
                return data * {}

        def helper(data):
            return min(data, LIMIT)

        def f(data):
            return helper(Model().fit(data))
    """
    prints = {code_fingerprint(cell(source.format(*x)).f) for x in [(1, 1), (1, 1), (2, 1), (1, 2)]}
    assert len(prints) == 3


def test_an_input_of_ones_own_class_counts_with_its_code(project):
    source = "class Data:\n    def get(self):\n        return {}\n"
    one, again, other = (value_digest(project(main=source.format(x)).Data()) for x in (1, 1, 2))
    assert one == again != other


def test_code_that_belongs_to_no_module_is_ones_own():
    file_name = "<made by exec>"
    source = "def f(x):\n    return g(x)\n\ndef g(x):\n    return {}\n"

    def fingerprint(value):
        text, scope = source.format(value), {}
        linecache.cache[file_name] = (len(text), None, text.splitlines(keepends=True), file_name)
        exec(compile(text, file_name, "exec"), scope)
        scope["f"].__module__ = scope["g"].__module__ = None
        return code_fingerprint(scope["f"])

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


def test_a_class_that_its_cell_does_not_show_counts_by_what_it_has():
    source = "class A:\n    def f(self):\n        return {}\n"

    def fingerprint(value):
        module = cell(source.format(value))
        module.A.__name__ = "B"

        def f(data):
            return module.A

        return code_fingerprint(f)

    assert fingerprint(1) != fingerprint(2)


def test_a_name_that_a_module_does_not_have_is_no_obstacle(project):
    main = "import tools\n\ndef f(data):\n    return tools.missing(data)"
    assert code_fingerprint(project(main=main, tools="").f)


def test_an_error_deep_in_a_table_of_functions_is_told_as_it_is(project):
    main = "TABLE = {'x': eval('lambda x: x')}\n\ndef f(data):\n    return TABLE"
    with pytest.raises(PipelineError, match=r"source of <lambda>"):
        value_digest(project(main=main).TABLE)
    with pytest.raises(PipelineError, match=r"source of <lambda>"):
        code_fingerprint(project(main=main).f)


# --- classes that libraries make ----------------------------------------------------------------

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


@pytest.mark.parametrize("rebuild", ["", "Outer.model_rebuild()"])
def test_a_hint_in_quotes_is_followed(project, rebuild):
    def fingerprint(value):
        main = (
            "from pydantic import BaseModel\n\nclass Outer(BaseModel):\n    inner: 'list[Inner]'\n"
            f"\nclass Inner(BaseModel):\n    k: float = {value}\n\n{rebuild}\n\n"
            "def f(data):\n    return Outer(inner=[{}]).inner[0].k"
        )
        return code_fingerprint(project(main=main).f)

    assert fingerprint(1.0) == fingerprint(1.0)
    assert fingerprint(1.0) != fingerprint(2.0)


# --- packages that are installed ----------------------------------------------------------------


@pytest.fixture
def installed(project, tmp_path, monkeypatch):
    """As `project`, for modules of a package that is installed: `main` imports `package.stages`."""
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    (tmp_path / "site-packages" / "package").mkdir(parents=True)

    def write(main="from package.stages import f", **sources):
        for name, source in sources.items():
            path = tmp_path / "site-packages" / "package" / f"{name}.py"
            path.write_text(textwrap.dedent(source))
        for name in [n for n in sys.modules if n.partition(".")[0] == "package"]:
            del sys.modules[name]
        return project(main=main)

    yield write
    for name in [n for n in sys.modules if n.partition(".")[0] == "package"]:
        del sys.modules[name]


STAGES = (
    "from package.helper import scale\n\ndef local(x):\n    return x + {}\n\n"
    "def f(data):\n    return local(scale(data))"
)


def test_the_installed_package_that_a_stage_is_in_is_followed(installed):
    def fingerprint(local, scale):
        helper = f"def scale(x):\n    return {scale} * x"
        main = installed(stages=STAGES.format(local), helper=helper)
        return code_fingerprint(main.f)

    assert fingerprint(1, 2) == fingerprint(1, 2)
    assert len({fingerprint(*each) for each in [(1, 2), (2, 2), (1, 3)]}) == 3


def test_an_installed_package_that_a_stage_is_not_in_is_not_followed(installed):
    def fingerprint(local):
        main = "from package.stages import f as g\n\ndef f(data):\n    return g(data)"
        helper = "def scale(x):\n    return x"
        return read_code(installed(main=main, stages=STAGES.format(local), helper=helper).f)

    assert fingerprint(1) == fingerprint(2)
    assert "package" in fingerprint(1).packages


def test_an_import_in_a_function_does_not_load_an_installed_package(installed):
    main = "def f(data):\n    from package.heavy import g\n    return g(data)"
    f = installed(main=main, heavy="raise AssertionError('loaded')").f
    found = read_code(f)
    assert "package.heavy" not in sys.modules
    assert "package" in found.packages


def test_whether_an_installed_package_is_loaded_does_not_matter(installed):
    main = "def f(data):\n    from package.heavy import K\n    return K"
    f = installed(main=main, heavy="K = 1").f
    before = code_fingerprint(f)
    assert f(0) == 1
    assert code_fingerprint(f) == before


def test_an_import_in_a_function_that_raises_does_not_prevent_a_fingerprint(project):
    main = "def f(data):\n    if data:\n        import evil\n    return data"

    def fingerprint(evil):
        return code_fingerprint(project(main=main, evil=evil).f)

    broken = fingerprint("raise RuntimeError('needs a GPU')")
    assert broken == fingerprint("import sys\nsys.exit(1)")
    assert broken != fingerprint("X = 1")


# --- values that count by their type, or by what they lead to -----------------------------------

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


def test_a_lock_of_ones_own_counts_with_its_code(project):
    main = (
        "from concurrent.futures import Executor\n\nclass Own(Executor):\n"
        "    def submit(self, *_):\n        return {}\n\nit = Own()\n\ndef f(data):\n    return it"
    )
    one, other = (code_fingerprint(project(main=main.format(x)).f) for x in (1, 2))
    assert one != other


@pytest.mark.parametrize(
    "value", ["contextvars.ContextVar('it', default={})", "types.MappingProxyType({{'x': {}}})"]
)
def test_what_only_shows_another_value_counts_by_that(project, value):
    main = f"import contextvars, types\n\nit = {value}\n\ndef f(data):\n    return it"
    one, again, other = (code_fingerprint(project(main=main.format(x)).f) for x in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    ("layout", "position"),
    [
        ("{{\n    'a': lambda x: x + {},\n    'b': lambda x: x,\n}}", "'a'"),
        ("{{'a': lambda x: x + {}, 'b': lambda x: x}}", "'a'"),
        ("[\n    lambda x: x,\n    lambda x: (x\n        + {})]", "1"),
    ],
)
def test_lambdas_in_tables_have_fingerprints(project, layout, position):
    def fingerprint(value):
        main = f"TABLE = {layout.format(value)}\n\ndef f(data):\n    return TABLE[{position}](data)"
        return code_fingerprint(project(main=main).f)

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


def test_a_union_of_types_is_a_value(project):
    main = "Number = int | {}\n\ndef f(data):\n    return isinstance(data, Number)"
    one, again, other = (
        code_fingerprint(project(main=main.format(x)).f) for x in ("str", "str", "float")
    )
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


def test_what_a_module_makes_up_when_it_is_asked_is_asked_for_at_every_look(project):
    tools = "K = [1]\n\ndef __getattr__(name):\n    return K[0]"
    main = project(main="import tools\n\ndef f(data):\n    return tools.made_up", tools=tools)
    before = read_code(main.f)
    assert CodeReader([before]).read(main.f, before).fingerprint == before.fingerprint
    main.tools.K[0] = 2
    assert CodeReader([before]).read(main.f, before).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (compile("lambda: 1", __file__, "eval"), "among its line's lambdas"),
        (compile("def f(): pass", __file__, "exec"), "could not find it"),
    ],
)
def test_code_that_is_not_in_its_file_asks_for_a_version(code, reason):
    (inner,) = (each for each in code.co_consts if isinstance(each, CodeType))
    with pytest.raises(PipelineError, match=rf"{reason}.*version="):
        code_fingerprint(FunctionType(inner, globals()))


def test_a_module_used_as_a_whole_that_has_no_python_source_asks_for_a_version(project):
    module = project(main="import tools\n\ndef f(data):\n    return vars(tools)", tools="")
    module.tools.__file__ = "tools.so"
    with pytest.raises(PipelineError, match=r"source of tools.*tools\.so is not Python.*version="):
        code_fingerprint(module.f)


CHANGES = {
    "a global": ("main.K = 2", "the global K"),
    "a global changed in place": ("main.TABLE.append(2)", "the global TABLE"),
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
def test_a_second_look_finds_what_a_first_one_would(project, change):
    main = project(
        main="""
            import json
            import tools
            import whole

            K = 1
            TABLE = [1]

            def closing(k):
                return lambda x: x + k

            around = closing(1)

            def g(x, y=1, *, z=1):
                return x + y + z

            def h(x, y=1):
                return x - y

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
                values = K, TABLE, len(data), around(data), g(data), tools.g(data)
                return values, A, a, vars(whole), json.g(data)
        """,
        tools="def g(x):\n    return x",
        whole="K = 1",
    )
    before = read_code(main.f)
    try:
        assert CodeReader([before]).read(main.f, before) is before
        action, name = CHANGES[change]
        exec(action, {"main": main})
        after = CodeReader([before]).read(main.f, before)
        assert after.fingerprint != before.fingerprint
        assert after.fingerprint == code_fingerprint(main.f)
        assert name is None or name in after.changes_since(before)
    finally:
        vars(main.json).pop("g", None)
