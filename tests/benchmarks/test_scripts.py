"""The scripts in benchmarks/, which are run by hand, use what the package has."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_all_scripts_can_be_imported():
    # In a process of its own: they set how many threads libraries may start.
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert "suggestion" in names
    program = f"import {', '.join(names)}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=FOLDER, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
