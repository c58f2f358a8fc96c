"""Pools whose code is edited while they run, or whose processes have other hash seeds."""

from fault_cases.cases import Case

__all__ = ["DIFFERING", "SEEDED"]

_HELPER = "def factor():\n    return 1.0\n"

# The first stage edits the helper of the second, once.
_EDITED = """
import helper, pathlib

def first(*, x):
    if not pathlib.Path("edited").exists():
        path = pathlib.Path("helper.py")
        path.write_text(path.read_text().replace("1.0", "2.0"))
        pathlib.Path("edited").touch()
    return x

def work(v, *, x):
    return x * helper.factor()
"""

_STAGES = '[fixed(work.first, {"x": 1.0}), fixed(work.work, {"x": 3.0})]'

_SPAWN = (
    "ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'), max_tasks_per_child=1)"
)


def _edited(kind: str, executor: str, needs: tuple[str, ...] = ()) -> Case:
    tuning = f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from asking import *
import work

if __name__ == "__main__":
    tune({_STAGES}, executor={executor})
"""
    asking = f"from asking import *\nimport work\nsay(run_stages({_STAGES}).stage_runs[-1].output)"
    files = {"helper.py": _HELPER, "work.py": _EDITED}
    return Case(f"1 code is edited while {kind} runs", (tuning, asking), 6.0, files, needs)


_OLD_WORKER = """
from distributed import Client, LocalCluster
from asking import *

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.run(exec, "import work")
            edit("work.py", "1.0", "2.0")
            import work
            tune([fixed(work.work, {"x": 1.0}, version="2")], executor=client.get_executor())
"""

_JOINING = """
from distributed import Client, LocalCluster
from asking import *
import work

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            def grow(study, trial):
                if trial.number == 0:
                    edit("helper.py", "1.0", "2.0")
                    cluster.scale(2)
                    client.wait_for_workers(2)
                    cluster.scale(1)

            each = stage(work.work, space={"x": Categorical([1.0, 2.0, 3.0])})
            tune([each], trials=3, executor=client.get_executor(), callbacks=[grow])
"""

_ASKED = """
from asking import *
from eeipu import Tuner

names = "abc"
stages = [
    stage(lambda *inputs, **params: 1.0, name=name, space={"x": Float(0.0, 1.0)}, version="1",
          memoize=name != "{unmemoized}")
    for name in names
]
tuner = Tuner(Pipeline(stages), budget=1e6, seed=0, n_initial=3)
kept = [False] * 3
for _ in range(10):
    asked = tuner.ask()
    kept = [one or other for one, other in zip(kept, asked.memoized)]
    costs = [None if each else 1.0 for each in asked.memoized]
    tuner.tell(asked, sum(asked.params.values()), stage_costs=costs)
say(kept[{place}:])
"""

DIFFERING = [
    _edited("a pool that spawns", _SPAWN),
    _edited("loky", "__import__('loky').get_reusable_executor(1)", ("loky",)),
    _edited("the tuner's pool", "'processes'"),
    Case(
        "1 a Dask worker joins after an edit",
        (
            _JOINING,
            "from asking import *\nimport work\n"
            "say([run(work.work, x=x) for x in (1.0, 2.0, 3.0)])",
        ),
        [2.0, 4.0, 6.0],
        {
            "helper.py": _HELPER,
            "work.py": "import helper\n\ndef work(*, x):\n    return x * helper.factor()\n",
        },
        ("distributed",),
    ),
    Case(
        "1 a Dask worker is older than the code of a version",
        (
            _OLD_WORKER,
            "from asking import *\nimport work\n"
            "stages = [fixed(work.work, {'x': 1.0}, version='2')]\n"
            "say(run_stages(stages).stage_runs[-1].output)",
        ),
        2.0,
        {"work.py": "def work(*, x):\n    return x * 1.0\n"},
        ("distributed",),
    ),
    *(
        Case(f"4 a caller asks, and stage {name} is not memoized",
             (_ASKED.replace("{unmemoized}", name).replace("{place}", str(place)),),
             [False] * (3 - place))
        for place, name in enumerate("abc")
    ),
]  # fmt: skip

_WITH_SETS = """
NAMES = {"q", "w", "e"}
TABLE = {name: {name, "z"} for name in sorted(NAMES)}

def made():
    seen = frozenset(NAMES)

    def inner():
        return len(seen)

    return inner

count = made()

def inputs():
    return {"a", "b", "c"}, frozenset(["x", "y"]), {frozenset("ab"): 1}

def work(a, b, c, d=frozenset("xyz"), *, x=1.0):
    return float(len(a) + count() + len(d) + len(TABLE) + ("a" in {"a", "r", "s"}))
"""

_SEEDED = """
import os, sys

if os.environ.get("PYTHONHASHSEED") != "{seed}":
    os.environ["PYTHONHASHSEED"] = "{seed}"
    os.execv(sys.executable, [sys.executable, *sys.argv])

from asking import *
import work
again(work.work, *work.inputs())
"""

_SEEDED_WORKERS = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from asking import *
import work

if __name__ == "__main__":
    os.environ["PYTHONHASHSEED"] = "77"
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    tune([fixed(work.work, {"x": 1.0})], *work.inputs(), executor=pool)
    say(would_hit(work.work, *work.inputs(), x=1.0))
"""

SEEDED = [
    Case(
        "two processes with other hash seeds",
        tuple(_SEEDED.replace("{seed}", seed) for seed in "12"),
        True,
        {"work.py": _WITH_SETS},
    ),
    Case("workers with another hash seed", (_SEEDED_WORKERS,), True, {"work.py": _WITH_SETS}),
]
