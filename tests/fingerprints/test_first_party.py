"""First-party code: the user's modules and the package that a stage is in, and no others."""

import linecache
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from eeipu.fingerprints.code import (
    code_fingerprint,
    read_code,
)
from eeipu.fingerprints.first_party import FirstParty, is_users_file
from eeipu.fingerprints.keys import inputs_key


def test_a_module_of_ones_own_may_be_named_as_one_of_pythons(project):
    main = "import statistics\n\ndef f(data):\n    return statistics.g(data)"

    def fingerprint(value):
        own = f"def g(x):\n    return {value}"
        return code_fingerprint(project(main=main, statistics=own).f)

    assert fingerprint(1) != fingerprint(2)


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


def test_what_pip_has_put_into_a_folder_is_not_ones_own(tmp_path):
    """As `pip install --target` does, also beside the user's own code."""
    for name in ("lib/__init__.py", "lib/inner/part.py", "single.py", "own.py", "libs/own.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("lib-1.0.dist-info", "without_a_record-1.0.dist-info"):
        (tmp_path / name).mkdir()
    record = "../../bin/tool,,\nlib/__init__.py,sha256=0,1\nlib/inner/part.py,,\nsingle.py,,\n"
    (tmp_path / "lib-1.0.dist-info" / "RECORD").write_text(record)

    files = [each for each in tmp_path.rglob("*.py") if is_users_file(str(each))]
    assert sorted(each.relative_to(tmp_path).as_posix() for each in files) == [
        "libs/own.py",
        "own.py",
    ]


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


def test_types_that_compiled_modules_share_are_not_ones_own():
    """Cython keeps them in modules without files, through which times and generators unpickle."""
    made = np.random.default_rng(0).__reduce__()[0]
    for value in (pd.Timestamp("2024-01-01"), np.random.default_rng(0), made):
        assert inputs_key((value,)) == inputs_key((value,))
    assert not FirstParty().owns(type(made))
