"""Outputs that could be reused and are not: each case runs a stage, and asks about it again."""

from fault_cases.cases import Case
from fault_cases.input_digests import EQUAL

__all__ = ["CASES", "EXPLAINED"]

_AGAIN = "from asking import *\nimport work\nagain(work.work, *getattr(work, 'inputs', tuple)())"


def _again(name: str, source: str, needs: tuple[str, ...] = ()) -> Case:
    return Case(name, (_AGAIN, _AGAIN), True, {"work.py": source}, needs)


def _used(name: str, source: str, needs: tuple[str, ...] = ()) -> Case:
    """A stage that uses what notes how it was used: it is asked about where it has just run."""
    program = "from asking import *\nimport work\nagain(work.work)\nagain(work.work)"
    return Case(name, (program,), True, {"work.py": source}, needs)


_CELLS = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in ["from asking import *", "FACTOR = 2.0\\n\\ndef scale(x):\\n    return FACTOR * x",
             "def work():\\n    return scale(1.0)", "again(work)"]:
    shell.run_cell(cell).raise_error()
"""

_SCRIPT = """
from asking import *

FACTOR = 2.0

def scale(x):
    return FACTOR * x

def work():
    return scale(1.0)

again(work)
"""

_STEP = """
from asking import *
from eeipu import Float
import work

each = stage(work.work, space={"x": Float(0.0, 1.0, step=0.1)})
pipeline = Pipeline([each])
pipeline.run({"work.x": 0.3}, cache=cache())
(look,) = pipeline.explain({"work.x": 0.30000000000000004}, cache=cache())
say(look.reason if look.would_run else True)
"""

_LOGGER = """
import logging
from asking import *

logger = logging.getLogger(__name__)

def work():
    logger.info("works")
    return 1.0

def main():
    again(work)

if __name__ == "__main__":
    main()
"""

_STARTS = ("$ python train.py", '$ python -c "import train; train.main()"')

CASES = [
    _again(
        "a function of numba",
        "import numba\n@numba.njit\ndef scale(x):\n    return 2.0 * x\n"
        "def work():\n    return scale(1.0)\n",
        ("numba",),
    ),
    _again(
        "a function of torch.compile",
        "import torch\n@torch.compile(backend='eager')\ndef scale(x):\n    return 2.0 * x\n"
        "def work():\n    return float(scale(torch.ones(())))\n",
        ("torch",),
    ),
    _again(
        "a logger made with __name__",
        "import logging\nlogger = logging.getLogger(__name__)\n"
        "def work():\n    logger.info('works')\n    return 1.0\n",
    ),
    *(
        Case(f"a logger made with __name__: {name}", starts, True, {"train.py": _LOGGER})
        for name, starts in {
            "a script, then an import": _STARTS,
            "an import, then a script": _STARTS[::-1],
        }.items()
    ),
    _again(
        "the logger of loguru",
        "from loguru import logger\ndef work():\n    logger.info('works')\n    return 1.0\n",
        ("loguru",),
    ),
    _used(
        "a function that tenacity tries again",
        "import tenacity\n@tenacity.retry(stop=tenacity.stop_after_attempt(3))\n"
        "def load():\n    return 1.0\ndef work():\n    return load()\n",
        ("tenacity",),
    ),
    _used(
        "a function whose results cachetools keeps",
        "import cachetools\n@cachetools.cached({})\ndef load():\n    return 1.0\n"
        "def work():\n    return load()\n",
        ("cachetools",),
    ),
    _again(
        "a stage inside of a context manager",
        "import contextlib\n@contextlib.contextmanager\ndef around():\n    yield\n"
        "@around()\ndef work():\n    return 1.0\n",
    ),
    _again(
        "a frozen distribution of scipy",
        "from scipy import stats\nNORMAL = stats.norm(0.0, 2.0)\n"
        "def work():\n    return float(NORMAL.pdf(0.0))\n",
        ("scipy",),
    ),
    _again(
        "an object of joblib.Parallel",
        "import joblib\nPARALLEL = joblib.Parallel(n_jobs=1)\n"
        "def work():\n    return float(sum(PARALLEL(joblib.delayed(abs)(i) for i in range(3))))\n",
    ),
    _again(
        "the input is a fitted vectorizer",
        "from sklearn.feature_extraction.text import TfidfVectorizer\n"
        "def inputs():\n    return (TfidfVectorizer().fit(['a dog', 'a cat', 'the rat']),)\n"
        "def work(made):\n    return float(len(made.vocabulary_))\n",
        ("sklearn",),
    ),
    _again(
        "the input is a fitted forest",
        "import numpy as np\nfrom sklearn.ensemble import RandomForestClassifier\n"
        "def inputs():\n    X = np.arange(40.0).reshape(20, 2)\n"
        "    return (RandomForestClassifier(5, random_state=0).fit(X, X[:, 0] > 9),)\n"
        "def work(made):\n    return float(made.n_features_in_)\n",
        ("sklearn",),
    ),
    _again(
        "the input is a model from from_pretrained",
        "import os, torch\nfrom transformers import BertConfig, BertModel\n"
        "def inputs():\n    if not os.path.exists('model'):\n        torch.manual_seed(0)\n"
        "        config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,\n"
        "                            num_attention_heads=2, intermediate_size=8)\n"
        "        BertModel(config).save_pretrained('model')\n"
        "    return (BertModel.from_pretrained('model'),)\n"
        "def work(made):\n    return float(sum(p.numel() for p in made.parameters()))\n",
        ("torch", "transformers"),
    ),
    _again(
        "the input is a model of catboost",
        "import numpy as np\nfrom catboost import CatBoostRegressor\n"
        "def inputs():\n    X = np.arange(40.0).reshape(20, 2)\n"
        "    made = CatBoostRegressor(iterations=3, verbose=0, random_seed=0, thread_count=1,\n"
        "                             allow_writing_files=False)\n"
        "    return (made.fit(X, X[:, 0]),)\n"
        "def work(made):\n    return float(made.tree_count_)\n",
        ("catboost",),
    ),
    *EQUAL,
    Case("two cells of a notebook, then a script", (_CELLS, _SCRIPT), True, {}, ("IPython",)),
    Case("a script, then two cells of a notebook", (_SCRIPT, _CELLS), True, {}, ("IPython",)),
    Case(
        "Path(__file__), after the project has moved",
        (
            "$ python old/start.py",
            "import os; os.rename('old', 'new')",
            "$ python new/start.py",
        ),
        True,
        {
            "old/start.py": "from asking import *\nimport project\nagain(project.work)\n",
            "old/project.py": "from pathlib import Path\nROOT = Path(__file__).parent\n"
            "def work():\n    return float((ROOT / 'data.txt').read_text())\n",
            "old/data.txt": "1.0",
        },
    ),
    Case("Float(step=0.1): 0.3 enqueued, 0.30000000000000004 suggested", (_STEP,), True,
         {"work.py": "def work(*, x):\n    return x\n"}),
]  # fmt: skip

_CLASS = """
class Kind:
    good = 1.0

def work():
    return Kind.good
"""

_WHY = """
from asking import would_hit

if Path("has-run").exists():
    say("Kind" in str(would_hit(work)))
else:
    again(work)
"""

_IN_CELLS = f"""
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in ["from asking import *\\nfrom pathlib import Path", {_CLASS!r}, {_WHY!r}]:
    shell.run_cell(cell).raise_error()
"""

_IN_SCRIPT = f"from asking import *\nfrom pathlib import Path\n{_CLASS}\n{_WHY}"

# To Python, a notebook's class is none that a script can import, so what was made with one is not
# right for the other.
EXPLAINED = [
    Case(f"a class in {first}, then in {second}: the reason names it", programs, True, {},
         ("IPython",))
    for first, second, programs in (
        ("a notebook", "a script", (_IN_CELLS, _IN_SCRIPT)),
        ("a script", "a notebook", (_IN_SCRIPT, _IN_CELLS)),
    )
]  # fmt: skip
