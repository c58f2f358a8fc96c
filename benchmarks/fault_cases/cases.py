"""Running a case: its files are written into a new folder, and its programs run there in turn."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_cases.asking import REFUSED, SAID

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        name: What happens in it.
        programs: Programs, each run by a Python of its own; `$ ...` is a command line, in which
            `python` stands for this Python. The last one says what is compared with `right`.
        right: What is right.
        files: File name -> content.
        needs: The modules without which the case is left out.
        timeout_s: When a program counts as hanging, in seconds.
    """

    name: str
    programs: tuple[str, ...]
    right: Any = True
    files: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        kind: `right`; `refused` by an error of eeipu's; `wrong`; `failed` by another error, or by
            hanging; `left out`.
        said: What was said instead of what is right.
    """

    kind: str
    said: Any = None


def outcome_of(case: Case) -> Outcome:
    """Run a case."""
    missing = [name for name in case.needs if importlib.util.find_spec(name) is None]
    if missing:
        return Outcome("left out", f"{missing[0]} is not installed")
    with tempfile.TemporaryDirectory(prefix="eeipu-case-") as folder:
        for name, text in case.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        outcome = Outcome("failed", "there is no program")
        for number, program in enumerate(case.programs):
            outcome = _run(case, program, number, Path(folder))
            if outcome.kind in ("refused", "failed"):
                break
        return outcome


def _run(case: Case, program: str, number: int, folder: Path) -> Outcome:
    if program.startswith("$ "):
        command = [
            sys.executable if word == "python" else word for word in shlex.split(program[2:])
        ]
    else:
        Path(folder, f"program{number}.py").write_text(program)
        command = [sys.executable, f"program{number}.py"]
    paths = [str(folder), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",  # an edit within the same second is an edit
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            timeout=case.timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome("failed", f"no answer after {case.timeout_s:g} s")
    lines = done.stdout.splitlines()
    refusals = [line.removeprefix(REFUSED) for line in lines if line.startswith(REFUSED)]
    if refusals:
        return Outcome("refused", refusals[-1])
    if done.returncode != 0:
        return Outcome("failed", (done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    said = [json.loads(line.removeprefix(SAID)) for line in lines if line.startswith(SAID)]
    if not said:
        return Outcome("right")  # a program that only prepares
    return Outcome("right" if said[-1] == case.right else "wrong", said[-1])
