"""The README's example of early stopping runs as it stands, but for its size."""

import re
from pathlib import Path

import digit_training
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def example():
    (section,) = re.findall(r"## Train many trials as one\n(.*?)\n## ", README.read_text(), re.S)
    return re.search(r"```python\n(.*?)```", section, re.S)[1]


def test_the_example_of_early_stopping_is_short(example):
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 16
    assert sum(line.startswith(("import", "from")) for line in lines) <= 4


def test_the_example_of_early_stopping_runs(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {
        "[40, 60]": "[3, 6]",
        "steps=81": "steps=9",
        "max_parallel=4": "max_parallel=2",
        "budget=3600.0": 'seed=0, method="random"',
        "run(data)": "run(data, max_trials=9, progress=False)",
    }
    for large, reduced in small.items():
        assert example.count(large) == 1
        example = example.replace(large, reduced)
    names = ("make_model", "make_optimizer", "make_loaders", "embed", "data")
    exec(example, {name: getattr(digit_training, name) for name in names})
    assert "'train.lr_initial'" in capsys.readouterr().out
    assert (tmp_path / "tune.db").exists()
