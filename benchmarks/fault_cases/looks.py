"""How long it takes to look at inputs and at code, in CPU seconds."""

import json
from collections.abc import Iterator

from figures import Figure, at_most

from fault_cases.cases import Case, outcome_of

__all__ = ["figures"]

# As in the reports that these cases come from, but for the time that they take: a tenth.
ROWS = 100_000

_PANDAS = "import pandas as pd\n"

# Name -> what makes the value, given `n` and `rng`.
VALUES = {
    "time-zone-aware timestamps": f"{_PANDAS}value = pd.DataFrame("
    "{'t': pd.date_range('2020', periods=n, freq='s', tz='Europe/Berlin')})",
    "two categorical columns": f"{_PANDAS}value = pd.DataFrame({{"
    "c: pd.Categorical.from_codes(rng.integers(0, 9, n), list('abcdefghi')) for c in 'ab'})",
    "nullable integers": f"{_PANDAS}value = pd.DataFrame("
    "{'i': pd.array(rng.integers(0, 99, n), dtype='Int64')})",
    "strings": f"{_PANDAS}value = pd.DataFrame({{'s': [f'row {{i}}' for i in range(n)]}})",
    "a sparse frame": f"{_PANDAS}value = pd.DataFrame.sparse.from_spmatrix("
    "__import__('scipy.sparse').sparse.random(n, 20, 0.01, 'csc', random_state=0))",
    "small dicts": "value = [{'a': i, 'b': str(i)} for i in range(n)]",
    "floats": "value = rng.random((n, 10))",
}

_LOOK = """
import json, time
import joblib
import numpy as np
from asking import say
from eeipu.fingerprints.keys import inputs_key

n, rng = {rows}, np.random.default_rng(0)
{made}

def seconds(call):
    start = time.process_time()
    call(value)
    return time.process_time() - start

inputs_key((np.arange(3),)), joblib.hash(np.arange(3))
first = seconds(lambda v: inputs_key((v,)))
again = min(seconds(lambda v: inputs_key((v,))) for _ in range(3))
say([first, again, seconds(joblib.hash)])
"""

_PACKAGE = """
import pathlib, time
from asking import *

MODULES = 500
folder = pathlib.Path("own")
folder.mkdir()
(folder / "__init__.py").write_text("")
for i in range(MODULES):
    uses = "".join(f"from own import m{j}\\n" for j in (2 * i + 1, 2 * i + 2)
                   if j < MODULES)
    calls = " + ".join(["x", *(f"m{j}.f0(x)" for j in (2 * i + 1, 2 * i + 2) if j < MODULES)])
    more = "".join(f"\\ndef f{k}(x):\\n    y = [x + i for i in range({k})]\\n"
                   f"    return sum(y) + f{k - 1}(x)\\n" for k in range(2, 30))
    (folder / f"m{i}.py").write_text(
        f"{uses}\\nLIMIT = {i}\\n\\ndef f0(x):\\n    return f29(x) + LIMIT if x else {calls}\\n"
        f"\\ndef f1(x):\\n    return x\\n{more}")

import own.m0
pipeline = Pipeline([fixed(own.m0.f0, {"x": 0})])
start = time.process_time()
pipeline.run({"f0.x": 0})
first = time.process_time() - start
start = time.process_time()
for _ in range(5):
    pipeline.run({"f0.x": 0})
say([first, (time.process_time() - start) / 5])
"""


def _said(name: str, program: str, timeout_s: float) -> tuple[list[float] | None, str]:
    """The numbers that a program says, and why there are none."""
    outcome = outcome_of(Case(name, (program,), None, {}, (), timeout_s))
    if isinstance(outcome.said, list):
        return outcome.said, ""
    return None, json.dumps(outcome.said)


def figures(only: str = "") -> Iterator[Figure]:
    """The times, with `joblib.hash` measured beside them in the same process."""
    for name, made in VALUES.items():
        if only not in name:
            continue
        title = f"looking at {name}, {ROWS:,} rows"
        said, reason = _said(name, _LOOK.format(rows=ROWS, made=made), 60.0)
        if said is None:
            yield Figure(f"{title}: {reason}", 1, "count", "<= 0", False)
            continue
        first, again, joblib_s = said
        yield at_most(f"{title}: times joblib.hash", first / joblib_s, "ratio", 1.5)
        yield Figure(f"{title}: first look", first, "s")
        # A look reads all bytes: whoever shares them may have changed them since.
        yield at_most(f"{title}: second look, of joblib.hash", again / joblib_s, "ratio", 0.5)
        yield Figure(f"{title}: second look", again, "s")
        yield Figure(f"{title}: second look, of the first", again / first, "ratio", "<= 0.1",
                     bool(again <= 0.1 * first))  # fmt: skip
    if only in "an own package of 500 modules":
        said, reason = _said("package", _PACKAGE, 180.0)
        if said is None:
            yield Figure(f"an own package of 500 modules: {reason}", 1, "count", "<= 0", False)
        else:
            yield at_most("an own package of 500 modules: first look", said[0], "s", 3.0)
            yield at_most("an own package of 500 modules: a run after it", said[1], "s", 0.005)
