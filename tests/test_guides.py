"""The code of guides runs as it stands."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["objectives", "transfer"])
def test_the_example_of_a_guide_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.S)
    exec(example, {})
    assert capsys.readouterr().out
