"""Values that are not what a fresh run gives: workers, `__main__`, files, iterators, memory."""

from fault_cases.cases import Case

__all__ = ["CASES"]

# --- 1: workers run code that is not what the key says ----------------------------------------

_HELPER = "def factor():\n    return 1.0\n"

_DASK = Case(
    "1 a Dask worker was started before the helper module was edited",
    (
        """
from distributed import Client, LocalCluster
from asking import *

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.run(exec, "import helper")
            edit("helper.py", "1.0", "2.0")
            import work
            tune([fixed(work.work, {"x": 3.0})], executor=client.get_executor())
""",
        "from asking import *\nimport work\nsay(run(work.work, x=3.0))",
    ),
    6.0,
    {
        "helper.py": _HELPER,
        "work.py": "import helper\n\ndef work(*, x):\n    return x * helper.factor()\n",
    },
    ("distributed",),
)


def _replaced(how: str, end: str, options: str) -> Case:
    return Case(
        f"1 a worker {how}, and its successor imports what was edited meanwhile",
        (
            f"""
from asking import *
import work

if __name__ == "__main__":
    stages = [fixed(work.work, {{"x": 3.0}}{options}), fixed(work.last)]
    tune(stages, executor="processes")
""",
            """
from asking import *
edit("helper.py", "2.0", "1.0")
import work
say(run(work.work, x=3.0))
""",
        ),
        3.0,
        {
            "helper.py": _HELPER,
            "work.py": f"""
import os, pathlib, time
import helper

def work(*, x):
    if not pathlib.Path("has-begun").exists():
        pathlib.Path("has-begun").touch()
        pathlib.Path("helper.py").write_text("def factor():\\n    return 2.0\\n")
        {end}
    return x * helper.factor()

def last(value):
    return value
""",
        },
    )


# --- 2: `__main__` against import -------------------------------------------------------------

_KINDS = """
import enum, sys
from pathlib import Path
from asking import *

class Kind(enum.Enum):
    GOOD = 1

def make():
    return Kind.GOOD, 21.0

def judge(pair, *, x):
    return pair[1] if pair[0] is Kind.GOOD else -1.0

def main(x):
    value = run_stages([fixed(make), fixed(judge, {"x": x})]).value
    say([value, len(list(Path("cache").glob("quarantine/*")))])

if __name__ == "__main__":
    main(int(sys.argv[1]))
"""

_STARTS = {
    "a script": "$ python train.py {}",
    "an import": '$ python -c "import train; train.main({})"',
    "python -m": "$ python -m train {}",
}

_MAIN = [
    Case(
        f"2 a class of {first}, then of {second}",
        (_STARTS[first].format(1), _STARTS[second].format(2)),
        [21.0, 0],
        {"train.py": _KINDS},
    )
    for first in _STARTS
    for second in _STARTS
    if first != second
]

# --- 3: files ---------------------------------------------------------------------------------


def _output(returned: str, taken: str) -> Case:
    return Case(
        f"3 a stage returns {returned}, and the next configuration overwrites the file",
        (
            """
from asking import *
import work

for x, k in [(100.0, 0.0), (200.0, 0.0), (100.0, 1.0)]:
    value = run_stages([fixed(work.write, {"x": x}), fixed(work.read, {"k": k})]).value
say(value)
""",
        ),
        101.0,
        {
            "work.py": f"""
from pathlib import Path

def write(*, x):
    path = Path("model.bin")
    path.write_text(str(x))
    return {returned}

def read(found, *, k):
    return float(Path({taken}).read_text()) + k
"""
        },
    )


def _input(what: str, source: str, first: str, change: str, second: str, right: float) -> Case:
    return Case(
        f"3 {what}",
        (
            f"""
from pathlib import Path
from asking import *
import work

run(work.work, {first})
{change}
say(run(work.work, {second}))
""",
        ),
        right,
        {
            "work.py": f"from pathlib import Path\n{source}",
            "a/data.bin": "0",
            "a/data.txt": "1",
            "b/data.bin": "0",
            "b/data.txt": "2",
        },
    )


_INPUTS = [
    _input(
        "a stage reads a file beside its input, by with_suffix",
        "def work(p):\n    return float(p.with_suffix('.txt').read_text())\n",
        "Path('a/data.bin')",
        "edit('a/data.txt', '1', '2')",
        "Path('a/data.bin')",
        2.0,
    ),
    _input(
        "a stage uses the name of its input's folder",
        "def work(p):\n    return float(ord(p.parent.name))\n",
        "Path('a/data.bin')",
        "",
        "Path('b/data.bin')",
        98.0,
    ),
]


def _read(what: str, source: str) -> Case:
    program = "from asking import *\nimport work\nsay(run(work.work))"
    return Case(
        f"3 the file of {what} is edited",
        (program, f"from asking import *\nedit('weights.txt', '1', '2')\n{program}"),
        2.0,
        {"work.py": f"from pathlib import Path\n{source}", "weights.txt": "1"},
    )


_READ = [
    _read(
        "a global path", "W = Path('weights.txt')\ndef work():\n    return float(W.read_text())\n"
    ),
    _read(
        "a path in a default", "def work(p=Path('weights.txt')):\n    return float(p.read_text())\n"
    ),
    _read(
        "a path in a closure",
        "def made(p):\n    def work():\n        return float(p.read_text())\n    return work\n"
        "work = made(Path('weights.txt'))\n",
    ),
]

# --- 4: `memoize=False` is undone downstream --------------------------------------------------

_DRAW = """
from pathlib import Path

def draw(*, x):
    count = Path("count")
    count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
    return float(count.read_text())

def double(value):
    return 2.0 * value

def plus(value):
    return value + 0.5
"""


def _unkept(name: str, how: str) -> Case:
    program = f"""
from asking import *
import work

stages = [fixed(work.draw, {{"x": 1}}, memoize=False), fixed(work.double), fixed(work.plus)]
if __name__ == "__main__":
    say({how})
"""
    right = 4.5
    return Case(f"4 a stage that is not memoized differs: {name}", (program,) * 2, right,
                {"work.py": _DRAW})  # fmt: skip


_UNKEPT = [
    _unkept("run", "run_stages(stages).value"),
    _unkept("tune", "tune(stages).trials[-1].value"),
    _unkept("tune with processes", "tune(stages, executor='processes').trials[-1].value"),
]

# --- 5: iterators, and inputs that change -----------------------------------------------------


def _each_trial(name: str, made: str, source: str, needs: tuple[str, ...] = ()) -> Case:
    program = f"""
import numpy as np
from asking import *
import work

say(on_each_trial(work.work, {made}))
"""
    files = {"work.py": source, "data.txt": "5\n6\n"}
    return Case(f"5 {name}", (program,), [11.0] * 3, files, needs)


_SUM = "def work(data, *, x):\n    return float(sum(map(float, data))) + x\n"

_ITERATORS = [
    _each_trial(
        "the input is a zip",
        "zip([1, 2], [3, 4])",
        "def work(data, *, x):\n    return sum(a * b for a, b in data) + x\n",
    ),
    _each_trial("the input is a map", "map(float, [5, 6])", _SUM),
    _each_trial("the input is iter(list)", "iter([5, 6])", _SUM),
    _each_trial("the input is reversed(list)", "reversed([5, 6])", _SUM),
    _each_trial("the input is a generator", "(each for each in [5, 6])", _SUM),
    _each_trial("the input is an iterator in a list", "[iter([5, 6])]",
                "def work(data, *, x):\n    return float(sum(data[0])) + x\n"),
    _each_trial("the input is an open file", "open('data.txt')", _SUM),
    _each_trial("the input is io.StringIO", "__import__('io').StringIO('5\\n6\\n')", _SUM),
    _each_trial(
        "the input is a DataLoader's iterator",
        "iter(__import__('torch').utils.data.DataLoader([5, 6]))",
        _SUM,
        ("torch",),
    ),
    _each_trial(
        "the first stage appends to its input",
        "[5, 6]",
        "def work(data, *, x):\n    value = sum(data) + x\n    data.append(1)\n    return value\n",
    ),
    _each_trial(
        "the first stage scales its input",
        "np.array([5.0, 6.0])",
        "def work(data, *, x):\n    value = data.sum() + x\n    data *= 2\n"
        "    return float(value)\n",
    ),
    _each_trial(
        "the first stage adds a column to its input",
        "__import__('pandas').DataFrame({'a': [5.0, 6.0]})",
        "def work(data, *, x):\n    value = data.to_numpy().sum() + x\n    data['b'] = 1.0\n"
        "    return float(value)\n",
        ("pandas",),
    ),
]  # fmt: skip

# --- 10: a hit that is not what a fresh run gives ---------------------------------------------


def _fresh(name: str, source: str, needs: tuple[str, ...] = ()) -> Case:
    program = "from asking import *\nimport work\nsay(work.use(run(work.make)))"
    return Case(f"10 {name}", (program, program), True, {"work.py": source}, needs)


def _view(name: str, library: str) -> Case:
    source = f"""
import {library}
def make():
    whole = {library}.zeros(4)
    return whole, whole[:2]
def use(pair):
    pair[1][0] = 1.0
    return float(pair[0][0]) == 1.0
"""
    return _fresh(name, source, (library,))


_TIED = """
from torch import nn
def make():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight"""

_FRESH = [
    _fresh(
        "tied weights of a module",
        f"""{_TIED}
    return model
def use(model):
    return model[0].weight is model[1].weight
""",
        ("torch",),
    ),
    _view("tensors that share memory", "torch"),
    _fresh(
        "a state dict with tied weights",
        f"""{_TIED}
    return model.state_dict()
def use(state):
    state["0.weight"][0, 0] = 7.0
    return float(state["1.weight"][0, 0]) == 7.0
""",
        ("torch",),
    ),
    _view("an array and its view", "numpy"),
    _fresh(
        "one array twice",
        """
import numpy as np
def make():
    whole = np.zeros(4)
    return {"a": whole, "b": whole}
def use(made):
    return made["a"] is made["b"]
""",
    ),
    _fresh(
        "a tensor that is channels_last",
        """
import torch
def make():
    return torch.zeros(1, 2, 3, 3).to(memory_format=torch.channels_last)
def use(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)
""",
        ("torch",),
    ),
    _fresh(
        "an array in Fortran's order",
        """
import numpy as np
def make():
    return np.asfortranarray(np.zeros((2, 3)))
def use(array):
    return bool(array.flags.f_contiguous)
""",
    ),
]

CASES = [
    _DASK,
    _replaced("dies", "os.kill(os.getpid(), 9)", ""),
    _replaced("hangs", "time.sleep(60)", ", timeout=3"),
    *_MAIN,
    _output("path", "found"),
    _output("[path]", "found[0]"),
    _output("{'model': path}", "found['model']"),
    *_INPUTS,
    *_READ,
    *_UNKEPT,
    *_ITERATORS,
    *_FRESH,
]
