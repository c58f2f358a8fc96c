"""A project whose modules are written and imported anew by a test."""

import importlib
import linecache
import sys
import textwrap

import pytest

from eeipu.fingerprints.code import code_fingerprint


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


@pytest.fixture
def fingerprints(project):
    """The fingerprints of `main.f`, whose source has a blank, with each of some values in it."""

    def of(source, *values):
        return [code_fingerprint(project(main=source.format(each)).f) for each in values]

    return of
