"""The code blocks of a page of documentation, and running them as a reader would.

Comments in a page say what its readers do not see:

- `<!-- first:` and lines of Python up to `-->`: what a page leaves to its reader; run there.
- `<!-- not run: REASON -->` before a block: why nothing can run it here.
- `<!-- smaller: TEXT -> TEXT -->` before a block: what stands in it instead when a test runs it.
- `<!-- trials: NUMBER -->` before a block: how many trials its runs may have, instead of three.
- `<!-- needs: NAME, NAME -->` anywhere: libraries without which the page is skipped.
"""

import gc
import re
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

import eeipu
from eeipu.tuner import Tuner

MARK = re.compile(r"<!-- (first|not run|smaller|trials|needs): ?(.*?)(?: -->)?$")
FENCE = re.compile(r"^( *)```(\w*)")


@dataclass(frozen=True)
class Block:
    """A block of a page: `line` is that of its first line of code, from 1."""

    language: str
    code: str
    line: int
    not_run: str | None = None
    trials: int = 3


def blocks(text):
    """The blocks of a page in order, those that only tests see included, and what it needs."""
    found, needs, reason, smaller, trials = [], [], None, [], 3
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        mark, fence = MARK.match(lines[number].strip()), FENCE.match(lines[number])
        start = number = number + 1
        if mark and mark[1] == "needs":
            needs += mark[2].split(", ")
        elif mark and mark[1] == "not run":
            reason = mark[2]
        elif mark and mark[1] == "smaller":
            large, _, small = mark[2].partition(" ->")
            smaller.append((large, small.strip()))
        elif mark and mark[1] == "trials":
            trials = int(mark[2])
        elif mark or fence:
            indent, end = (len(fence[1]), "```") if fence else (0, "-->")
            while lines[number].strip() != end:
                number += 1
            code = "\n".join(line[indent:] for line in lines[start:number])
            for large, small in smaller:
                assert large in code, f"line {start}: no {large!r}"
                code = code.replace(large, small)
            found.append(Block(fence[2] if fence else "python", code, start + 1, reason, trials))
            reason, smaller, trials, number = None, [], 3, number + 1
    return found, needs


class ShortTuner(Tuner):
    """A tuner whose runs are short, whatever a page says of budgets and workers."""

    trials = 3

    def __init__(self, *args, max_parallel=1, n_initial=None, **options):
        super().__init__(*args, max_parallel=1, n_initial=n_initial, **options)

    def run(self, *inputs, max_trials=None, progress=False):
        return super().run(
            *inputs, max_trials=min(self.trials, max_trials or self.trials), progress=False
        )


def run_page(path, folder, monkeypatch):
    """Run a page's Python, block after block, as one script in a new folder."""
    found, needs = blocks(path.read_text())
    for name in needs:
        pytest.importorskip(name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(eeipu, "Tuner", ShortTuner, raising=False)
    monkeypatch.setattr("eeipu.tuner.Tuner", ShortTuner)
    script = folder / f"{path.stem.lower().replace('-', '_')}_page.py"
    runs = [each for each in found if each.language == "python" and each.not_run is None]
    script.write_text(_at_their_lines(runs))
    module = ModuleType("__main__")
    module.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", module)
    for block in runs:
        monkeypatch.setattr(ShortTuner, "trials", block.trials)
        exec(compile(_at_their_lines([block]), str(script), "exec"), vars(module))
    vars(module).clear()
    gc.collect()  # so that what a page leaves open is said of it, and not of the next test


def _at_their_lines(blocks):
    """Code in which each block stands at the line where its page has it, for tracebacks."""
    lines = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.code.splitlines()
    return "\n".join(lines) + "\n"
