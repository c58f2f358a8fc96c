"""Reading a definition: what its names refer to, through imports, modules and strings."""

import sys

import pytest

from eeipu import PipelineError
from eeipu.fingerprints.code import (
    code_fingerprint,
)

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
    "the name of a named tuple": (
        "from collections import namedtuple\n\nPoint = namedtuple('{}', 'x y')\n\n"
        "def f(data):\n    return Point(1, 2)",
        ("Point", "Place"),
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


def test_a_module_used_as_a_whole_counts_as_a_whole(project):
    main = "import tools\n\ndef f(data):\n    return getattr(tools, data)()"

    def fingerprint(source):
        return code_fingerprint(project(main=main, tools=source).f)

    assert fingerprint("def g():\n    return 1") != fingerprint("def g():\n    return 2")
    assert fingerprint("X = 1") == fingerprint("X = 1  # one")


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


def test_an_import_in_a_function_that_raises_does_not_prevent_a_fingerprint(project):
    main = "def f(data):\n    if data:\n        import evil\n    return data"

    def fingerprint(evil):
        return code_fingerprint(project(main=main, evil=evil).f)

    broken = fingerprint("raise RuntimeError('needs a GPU')")
    assert broken == fingerprint("import sys\nsys.exit(1)")
    assert broken != fingerprint("X = 1")


def test_a_name_that_a_module_does_not_have_is_no_obstacle(project):
    main = "import tools\n\ndef f(data):\n    return tools.missing(data)"
    assert code_fingerprint(project(main=main, tools="").f)


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


def test_a_global_that_cannot_be_hashed_asks_for_a_version(project):
    main = "STREAM = (x for x in [1])\n\ndef f(data):\n    return next(STREAM)"
    with pytest.raises(PipelineError, match=r"f has the global STREAM.*cannot be hashed.*version="):
        code_fingerprint(project(main=main).f)


def test_a_variable_that_is_not_yet_bound_asks_for_a_version():
    def f():
        return later

    with pytest.raises(PipelineError, match=r"closure values.*version="):
        code_fingerprint(f)
    later = None


_IMPORTS = {
    "one that may fail": """
        def f(data):
            try:
                from helper import g
            except ImportError:
                g = None
            return [g(x) for x in data]
    """,
    "one in the place of an argument": """
        def f(data, g=None):
            if g is None:
                import helper as g
            return g.g(data)
    """,
    "one in a function inside": """
        def f(data):
            g = None
            def inner():
                from helper import g
                return g(data)
            return inner()
    """,
    "one in a method of a class inside": """
        def f(data):
            g = None
            class Inner:
                def m(self):
                    from helper import g
                    return g(data)
            return Inner().m()
    """,
    "one in the body of a class inside": """
        def f(data):
            class Inner:
                from helper import g
            return Inner.g(data)
    """,
}


@pytest.mark.parametrize("kind", _IMPORTS)
def test_an_import_counts_where_its_name_is_given_other_values_too(project, kind):
    def fingerprint(value):
        helper = f"def g(x):\n    return {value}"
        return code_fingerprint(project(main=_IMPORTS[kind], helper=helper).f)

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)
