"""Paths: they count by their place in the user's project, and files by their content."""

import shutil
import subprocess
import sys
import textwrap

import pytest

from eeipu.fingerprints.code import CodeReader, code_fingerprint, read_code


@pytest.mark.parametrize(
    "main",
    [
        "FILE = Path({!r})\n\ndef f(data):\n    return FILE.read_text()",
        "FILES = {{'a': [Path({!r})]}}\n\ndef f(data):\n    return FILES['a'][0].read_text()",
        "def f(data, file=Path({!r})):\n    return file.read_text()",
    ],
)
def test_a_file_that_code_names_by_a_path_counts_by_its_content(project, tmp_path, main):
    file = tmp_path / "data.txt"
    file.write_text("one")
    function = project(main="from pathlib import Path\n\n" + main.format(str(file))).f
    before = read_code(function)
    assert CodeReader([before]).read(function, before) is before
    file.write_text("other")
    after = CodeReader([before]).read(function, before)
    assert before.fingerprint != after.fingerprint == code_fingerprint(function)


def test_paths_to_two_files_of_one_content_differ(fingerprints, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).write_text("same")
    main = f"from pathlib import Path\n\nFILE = Path({str(tmp_path)!r}, '{{}}')\n\n"
    main += "def f(data):\n    return FILE.name"
    found = set(fingerprints(main, "one", "other"))
    assert len(found) == 2


SCRIPT = """
    import os
    from pathlib import Path
    from eeipu.fingerprints.code import code_fingerprint

    HERE = Path(__file__).parent
    DATA = HERE / "data.txt"
    TEXT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data.txt")

    def f(data):
        return HERE, DATA.read_text(), open(TEXT).read(), __file__

    print(code_fingerprint(f))
"""


@pytest.mark.parametrize("mark", [None, "pyproject.toml"])
def test_a_project_that_has_moved_is_the_same(tmp_path, mark):
    before = tmp_path / "before"
    folder = before / "source" if mark else before
    folder.mkdir(parents=True)
    if mark:
        (before / mark).touch()
    (folder / "script.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "data.txt").write_text("one")
    shutil.copytree(before, tmp_path / "deeper" / "after")
    moved = tmp_path / "deeper" / "after" / folder.relative_to(before)
    found = [
        subprocess.run([sys.executable, each / "script.py"], capture_output=True, check=True).stdout
        for each in (folder, moved)
    ]
    assert found[0] == found[1]
    (moved / "data.txt").write_text("other")
    run = [sys.executable, moved / "script.py"]
    assert subprocess.run(run, capture_output=True, check=True).stdout != found[0]
