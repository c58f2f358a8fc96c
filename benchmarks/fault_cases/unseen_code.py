"""Code that is not seen: what a stage does is edited between two runs, and it has to run again."""

from fault_cases.cases import Case

__all__ = ["CASES"]

_RUN = "from asking import *\nimport work\nsay(run(work.work))"


def _edited(name: str, source: str, old: str, new: str, needs: tuple[str, ...] = ()) -> Case:
    """A case in which `work()` is 1.0 at first, and 2.0 after an edit of `work.py`."""
    change = f"from asking import *\nedit('work.py', {old!r}, {new!r})\n"
    return Case(f"8 {name}", (_RUN, change + _RUN), 2.0, {"work.py": source}, needs)


_FRAME = "import pandas as pd\nFRAME = pd.DataFrame({'a': [1.0, 2.0, 3.0]})\n"

_EXTENSION = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *value(PyObject *self, PyObject *args) {{ return PyFloat_FromDouble({value}); }}
static PyMethodDef methods[] = {{{{"value", value, METH_NOARGS, ""}}, {{NULL, NULL, 0, NULL}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "fast", "", -1, methods}};
PyMODINIT_FUNC PyInit_fast(void) {{ return PyModule_Create(&module); }}
"""

_BUILD = """
import subprocess, sysconfig
subprocess.run(["gcc", "-shared", "-fPIC", "-I" + sysconfig.get_path("include"), "{file}",
                "-o", "fast" + sysconfig.get_config_var("EXT_SUFFIX")], check=True)
"""

CASES = [
    _edited(
        "a query names a global",
        f"{_FRAME}LIMIT = 2.5\ndef work():\n    return float(len(FRAME.query('a > @LIMIT')))\n",
        "2.5",
        "1.5",
        ("pandas",),
    ),
    _edited(
        "DataFrame.eval names a global",
        f"{_FRAME}SHIFT = 0.0\ndef work():\n    return float(FRAME.eval('a + @SHIFT').iloc[0])\n",
        "SHIFT = 0.0",
        "SHIFT = 1.0",
        ("pandas",),
    ),
    _edited(
        "a query is in a global itself",
        f"{_FRAME}LIMIT = 2.5\nQUERY = 'a > @LIMIT'\n"
        "def work():\n    return float(len(FRAME.query(QUERY)))\n",
        "2.5",
        "1.5",
        ("pandas",),
    ),
    _edited(
        "a formula of statsmodels names a function",
        "import pandas as pd\nimport statsmodels.formula.api as smf\n"
        "FRAME = pd.DataFrame({'y': [1.0, 2.0, 3.0], 'x': [1.0, 2.0, 3.0]})\n"
        "def scale(x):\n    return x * 1.0\n"
        "def work():\n"
        "    return round(1 / float(smf.ols('y ~ scale(x)', FRAME).fit().params.iloc[1]), 6)\n",
        "x * 1.0",
        "x * 2.0",
        ("pandas", "statsmodels"),
    ),
    _edited(
        "a formula of patsy names a function",
        "import numpy as np\nimport patsy\n"
        "def scale(x):\n    return x * 1.0\n"
        "def work():\n    return float(patsy.dmatrix('scale(x)', {'x': np.ones(3)})[0, 1])\n",
        "x * 1.0",
        "x * 2.0",
        ("patsy",),
    ),
    _edited(
        "a formula of formulaic names a function",
        "import pandas as pd\nfrom formulaic import model_matrix\n"
        "def scale(x):\n    return x * 1.0\n"
        "def work():\n    frame = pd.DataFrame({'x': [1.0, 1.0]})\n"
        "    return float(model_matrix('scale(x)', frame).iloc[0, 1])\n",
        "x * 1.0",
        "x * 2.0",
        ("pandas", "formulaic"),
    ),
    _edited(
        "SQL over a global frame",
        "import duckdb\nimport pandas as pd\nFRAME = pd.DataFrame({'a': [1.0]})\n"
        "def work():\n    return float(duckdb.sql('select sum(a) from FRAME').fetchall()[0][0])\n",
        "[1.0]",
        "[2.0]",
        ("duckdb", "pandas"),
    ),
    _edited(
        "a curried function",
        "from toolz import curry\n@curry\ndef scale(k, x):\n    return k * x * 1.0\n"
        "def work():\n    return scale(1.0)(1.0)\n",
        "k * x * 1.0",
        "k * x * 2.0",
        ("toolz",),
    ),
    _edited(
        "a function under a decorator of wrapt",
        "import wrapt\n@wrapt.decorator\ndef same(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs)\n@same\ndef scale(x):\n    return x * 1.0\n"
        "def work():\n    return scale(1.0)\n",
        "x * 1.0",
        "x * 2.0",
        ("wrapt",),
    ),
    _edited(
        "a decorator of wrapt",
        "import wrapt\n@wrapt.decorator\ndef times(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs) * 1.0\n@times\ndef scale(x):\n    return x\n"
        "def work():\n    return scale(1.0)\n",
        "* 1.0",
        "* 2.0",
        ("wrapt",),
    ),
    _edited(
        "a function that NumPy calls by element",
        "import numpy as np\ndef scale(x):\n    return x * 1.0\n"
        "each = np.frompyfunc(scale, 1, 1)\ndef work():\n    return float(each(1.0))\n",
        "x * 1.0",
        "x * 2.0",
    ),
    _edited(
        "a decorator's object that pickles by name",
        "import functools\nclass Around:\n    def __init__(self, inner):\n"
        "        functools.update_wrapper(self, inner)\n"
        "    def __call__(self, x):\n        return self.__wrapped__(x)\n"
        "    def __reduce__(self):\n        return self.__qualname__\n"
        "@Around\ndef scale(x):\n    return x * 1.0\ndef work():\n    return scale(1.0)\n",
        "x * 1.0",
        "x * 2.0",
    ),
    _edited(
        "a function whose results cachetools keeps",
        "from cachetools.func import lru_cache\n@lru_cache\ndef scale(x):\n    return x * 1.0\n"
        "def work():\n    return scale(1.0)\n",
        "x * 1.0",
        "x * 2.0",
        ("cachetools",),
    ),
    Case(
        "8 a list gets an array of other numbers with the same bytes",
        (
            "from asking import *\nimport numpy as np, work\nrun(work.work)\n"
            "work.ARRAYS[0] = work.ARRAYS[0].view('i8')\nsay(run(work.work))",
        ),
        float(0x3FF0000000000000),
        {
            "work.py": "import numpy as np\nARRAYS = [np.ones(1)]\n"
            "def work():\n    return float(ARRAYS[0][0])\n"
        },
    ),
    _edited(
        "an accessor that is registered with pandas",
        "import pandas as pd\n@pd.api.extensions.register_dataframe_accessor('own')\n"
        "class Own:\n    def __init__(self, frame):\n        self.frame = frame\n"
        "    def value(self):\n        return 1.0\n"
        "def work():\n    return pd.DataFrame({'a': [1]}).own.value()\n",
        "return 1.0",
        "return 2.0",
        ("pandas",),
    ),
    _edited(
        "an operator that is registered with torch",
        "import torch\n@torch.library.custom_op('mine::scale', mutates_args=())\n"
        "def scale(x: torch.Tensor) -> torch.Tensor:\n    return x * 1.0\n"
        "def work():\n    return float(torch.ops.mine.scale(torch.ones(())))\n",
        "x * 1.0",
        "x * 2.0",
        ("torch",),
    ),
    _edited(
        "a method that exec has put into a class",
        "class Own:\n    pass\nspace = {}\nexec('def value(self):\\n    return 1.0\\n', space)\n"
        "Own.value = space['value']\ndef work():\n    return Own().value()\n",
        "return 1.0",
        "return 2.0",
    ),
    _edited(
        "the docstring that code reads",
        "def scale():\n    '''1.0'''\ndef work():\n    return float(scale.__doc__)\n",
        "'''1.0'''",
        "'''2.0'''",
    ),
    _edited(
        "the docstring of a class that code reads",
        "import inspect\nclass Own:\n    '''1.0'''\n"
        "def work():\n    return float(inspect.getdoc(Own))\n",
        "'''1.0'''",
        "'''2.0'''",
    ),
    _edited(
        "type hints that code reads",
        "from typing import Annotated, get_type_hints\n"
        "def scale(x: Annotated[int, 1.0]): ...\n"
        "def work():\n"
        "    return get_type_hints(scale, include_extras=True)['x'].__metadata__[0]\n",
        "1.0]",
        "2.0]",
    ),
    _edited(
        "the metadata of a dataclass",
        "import dataclasses\n@dataclasses.dataclass\nclass Own:\n"
        "    x: int = dataclasses.field(default=0, metadata={'k': 1.0})\n"
        "def work():\n    return dataclasses.fields(Own)[0].metadata['k']\n",
        "'k': 1.0",
        "'k': 2.0",
    ),
    _edited(
        "the keys of a TypedDict",
        "from typing import TypedDict\nclass Own(TypedDict):\n    a: int\n"
        "def work():\n    return float(len(Own.__annotations__))\n",
        "    a: int\n",
        "    a: int\n    b: int\n",
    ),
    _edited(
        "the metadata of a dataclass that was made by a call",
        "import dataclasses\nOwn = dataclasses.make_dataclass(\n"
        "    'Own', [('x', int, dataclasses.field(default=0, metadata={'k': 1.0}))])\n"
        "def work():\n    return dataclasses.fields(Own)[0].metadata['k']\n",
        "'k': 1.0",
        "'k': 2.0",
    ),
    _edited(
        "the keys of a TypedDict that was made by a call",
        "from typing import TypedDict\nOwn = TypedDict('Own', {'a': int})\n"
        "def work():\n    return float(len(Own.__annotations__))\n",
        "'a': int}",
        "'a': int, 'b': int}",
    ),
    Case(
        "8 a compiled extension module of one's own",
        (
            _BUILD.format(file="one.c"),
            _RUN,
            _BUILD.format(file="two.c"),
            _RUN,
        ),
        2.0,
        {
            "one.c": _EXTENSION.format(value="1.0"),
            "two.c": _EXTENSION.format(value="2.0"),
            "work.py": "import fast\ndef work():\n    return fast.value()\n",
        },
    ),
]
