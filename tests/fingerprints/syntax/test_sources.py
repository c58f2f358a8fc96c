"""Reading source: what an edit changes, lambdas, notebooks, and code that left its file."""

import functools
import subprocess
import sys
from types import CodeType, FunctionType

import pytest
from cells import cell

from eeipu import PipelineError
from eeipu.fingerprints.code import (
    code_fingerprint,
)


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


@pytest.mark.parametrize(
    ("function", "name"),
    [(len, "len"), (eval("lambda: 1"), "<lambda>")],
)
def test_code_without_source_asks_for_a_version(function, name):
    with pytest.raises(PipelineError, match=rf"the source of .*{name}.*version="):
        code_fingerprint(function)


def test_a_helper_without_source_asks_for_a_version(project):
    main = "g = eval('lambda x: x')\n\ndef f(data):\n    return g(data)"
    with pytest.raises(PipelineError, match=r"source of <lambda> cannot be read.*version="):
        code_fingerprint(project(main=main).f)


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


def test_a_class_that_its_cell_does_not_show_counts_by_what_it_has():
    source = "class A:\n    def f(self):\n        return {}\n"

    def fingerprint(value):
        module = cell(source.format(value))
        module.A.__name__ = "B"

        def f(data):
            return module.A

        return code_fingerprint(f)

    assert fingerprint(1) != fingerprint(2)


CELLS = (
    "import dataclasses, enum\n\n@dataclasses.dataclass\nclass Settings:\n    k: int = {}\n\n"
    "class Level(enum.Enum):\n    LOW = 1\n",
    "def helper(x):\n    return Settings().k * x, Level.LOW",
    "def f(data):\n    return helper(data)",
)
PRINT = "from eeipu.fingerprints.code import code_fingerprint\nprint(code_fingerprint(f))"
RUN = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in {!r}:
    shell.run_cell(cell).raise_error()
"""


@pytest.fixture
def printed(tmp_path):
    """The fingerprint of `f` in a script, or in the cells of a notebook that a script runs."""

    def run(source):
        (tmp_path / "script.py").write_text(source)
        command = [sys.executable, tmp_path / "script.py"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    return run


def test_cells_of_a_notebook_are_the_same_as_a_script(printed):
    def cells(factor):
        scale = f"K = {factor}\n\ndef scale(x):\n    return K * x"
        return [scale, "def f(x):\n    return scale(x)", PRINT]

    script = printed("\n".join(cells(1)))
    assert script == printed(RUN.format(cells(1)))
    assert script != printed(RUN.format(cells(2)))


def test_classes_of_a_notebook_are_not_those_of_a_script(printed):
    def cells(*values):
        return [*(CELLS[0].format(x) for x in values), *CELLS[1:], PRINT]

    notebook = printed(RUN.format(cells(1)))
    assert notebook == printed(RUN.format(cells(1, 1)))
    assert notebook != printed("\n".join(cells(1)))  # Python tells kept values' classes by module
    assert notebook != printed(RUN.format(cells(2)))
    one, other = (printed(RUN.format(cells(*each))) for each in [(2, 1), (1, 2)])
    assert one != other  # with two definitions, the class counts by its fields
