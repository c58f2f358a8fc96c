"""What ended in a bare error of some library, and has to work or to be refused with the remedy."""

from fault_cases.cases import Case

__all__ = ["REFUSALS", "WORKING"]

# --- what has to work -------------------------------------------------------------------------


def _in_worker(name: str, source: str, needs: tuple[str, ...] = ()) -> Case:
    program = """
from asking import *
import work

if __name__ == "__main__":
    study = tune([fixed(work.work, {"x": 1.0})], executor="processes")
    say(study.trials[0].value)
"""
    return Case(f"processes: {name}", (program,), 3.0, {"work.py": source}, needs, timeout_s=60.0)


def _context(method: str) -> Case:
    return _in_worker(
        f"a {method} context inside of a stage",
        "import multiprocessing\n\ndef put(queue):\n    queue.put(2.0)\n\ndef work(*, x):\n"
        f"    context = multiprocessing.get_context('{method}')\n"
        "    queue = context.Queue()\n    child = context.Process(target=put, args=(queue,))\n"
        "    child.start()\n    value = queue.get(timeout=40)\n    child.join()\n"
        "    return x + value\n",
    )


WORKING = [
    _in_worker(
        "a DataLoader with a worker inside of a stage",
        "import torch\nfrom torch.utils.data import DataLoader\n\ndef work(*, x):\n"
        "    loader = DataLoader(torch.ones(2), num_workers=1)\n"
        "    return x + float(sum(each.sum() for each in loader))\n",
        ("torch",),
    ),
    _in_worker(
        "multiprocessing.Process inside of a stage",
        "import multiprocessing\n\ndef put(queue):\n    queue.put(2.0)\n\ndef work(*, x):\n"
        "    queue = multiprocessing.Queue()\n"
        "    child = multiprocessing.Process(target=put, args=(queue,))\n"
        "    child.start()\n    value = queue.get(timeout=40)\n    child.join()\n"
        "    return x + value\n",
    ),
    *map(_context, ("fork", "spawn", "forkserver")),
    _in_worker(
        "a pool of processes inside of a stage",
        "from concurrent.futures import ProcessPoolExecutor\n\ndef work(*, x):\n"
        "    with ProcessPoolExecutor(1) as pool:\n"
        "        return x + float(pool.submit(abs, -2).result(timeout=40))\n",
    ),
]

# --- what has to be refused -------------------------------------------------------------------

_WORK = {"work.py": "def work(*, x):\n    return x\n"}

_METRICS = "def work(*, x):\n    return {'acc': x, 'loss': 5.0 - x}\n"


def _refusal(name: str, program: str, files: dict[str, str] | None = None) -> Case:
    start = "from asking import *\nimport work\n"
    files = {**_WORK, **(files or {})}
    return Case(name, (start + program + "\nsay('not refused')",), "refused", files)


def _storage(name: str, url: str, files: dict[str, str] | None = None) -> Case:
    program = f"tune([fixed(work.work, {{'x': 1.0}})], storage={url!r})"
    return _refusal(f"storage: {name}", program, files)


REFUSALS = [
    _refusal(
        "6 two objectives in one study",
        "for name in ('acc', 'loss'):\n"
        "    tune([fixed(work.work, {'x': 1.0})], objective=name, storage='sqlite:///s.db',\n"
        "         study_name='s')\n",
        {"work.py": _METRICS},
    ),
    _refusal(
        "7 declared and measured costs in one pipeline",
        "tune([fixed(work.work, {'x': 1.0}, cost=lambda x: 5.0), fixed(abs, name='last')])",
    ),
    _refusal(
        "7 declared costs in a study of measured ones",
        "for cost in (None, lambda x: 5.0):\n"
        "    tune([fixed(work.work, {'x': 1.0}, cost=cost)], storage='sqlite:///s.db',\n"
        "         study_name='s')\n",
    ),
    _refusal("a key of 300 characters", "StageCache('cache').put('k' * 300, 1)"),
    _refusal("a key that is no text", "StageCache('cache').put(3, 1)"),
    _refusal("a key that cannot be encoded", "StageCache('cache').put('\\ud800', 1)"),
    _refusal(
        "a cache in a folder that may not be written to",
        "import os, pathlib\nmade = StageCache('cache')\n"
        "os.chmod('.', 0o777)\n"
        "[os.chown(p, 65534, 65534) for p in ('.', 'cache', 'cache/eeipu-cache')]\n"
        "os.setuid(65534) if os.geteuid() == 0 else None\n"
        "os.chmod('cache', 0o500)\nmade.put('k', 1)",
    ),
    _refusal("a cache at s3:// without credentials", "StageCache('s3://eeipu-none/cache')"),
    _refusal("a cache in a file", "StageCache('work.py/cache')"),
    _refusal("a cache whose path has a NUL", "StageCache('a\\0b')"),
    _refusal("a cache whose name is too long", "StageCache('n' * 300)"),
    _storage("a folder that is not there", "sqlite:///missing/tune.db"),
    _storage("a folder instead of a file", "sqlite:///."),
    _storage("a file that is no database", "sqlite:///work.py"),
    _storage("an unknown kind of database", "foo://host/tune"),
    _storage("postgres:// for postgresql://", "postgres://u:p@host/tune"),
    _storage("a driver that is not installed", "mysql+cymysql://u:p@host/tune"),
    _storage("a port that is no number", "postgresql+psycopg://u:p@host:port/tune"),
    _storage("a server that does not answer", "postgresql+psycopg://u:p@127.0.0.1:1/tune"),
    _storage("a path instead of a URL", "tune.db"),
]
