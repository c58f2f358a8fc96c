"""Inputs that differ and have one digest, and inputs that are equal and have two."""

from fault_cases.cases import Case

__all__ = ["DIFFERENT", "EQUAL"]

_KEYS = """
import numpy as np
from asking import *
from eeipu.fingerprints.keys import inputs_key
{setup}
say(inputs_key(({one},)) {relation} inputs_key(({other},)))
"""


def _pair(relation: str, name: str, one: str, other: str, setup: str = "",
          needs: tuple[str, ...] = ()) -> Case:  # fmt: skip
    program = _KEYS.format(setup=setup, one=one, other=other, relation=relation)
    return Case(name, (program,), True, {}, needs)


def _different(name: str, one: str, other: str, setup: str = "",
               needs: tuple[str, ...] = ()) -> Case:  # fmt: skip
    return _pair("!=", f"9 {name}", one, other, setup, needs)


def _equal(name: str, one: str, other: str, setup: str = "",
           needs: tuple[str, ...] = ()) -> Case:  # fmt: skip
    return _pair("==", name, one, other, setup, needs)


_PANDAS = "import pandas as pd"

DIFFERENT = [
    _different("dtypes in another order", "[np.dtype('f4'), None]", "[None, np.dtype('f4')]"),
    _different(
        "a MultiIndex without names, and one named 0 and 1",
        "pd.MultiIndex.from_tuples([(1, 2)])",
        "pd.MultiIndex.from_tuples([(1, 2)], names=[0, 1])",
        _PANDAS,
        ("pandas",),
    ),
    *(
        _different(
            f"levels named {one} and {other}: {where}",
            made.format(one),
            made.format(other),
            "import numpy as np, pandas as pd",
            ("pandas",),
        )
        for where, made in {
            "an index": "pd.MultiIndex.from_tuples([(1, 2)], names={})",
            "the columns of a frame": "pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples("
            "[(1, 2)], names={}))",
        }.items()
        for one, other in (
            ("[None, None]", "[0, 1]"),
            ("[0, 1]", "[False, True]"),
            ("[0, 1]", "['0', '1']"),
            ("[None, 'a']", "['a', None]"),
        )
    ),
    _different(
        "arrays of the same bytes in a list",
        "[np.zeros(2)]",
        "[np.zeros(2, dtype='i8')]",
    ),
    _different(
        "a hard mask and a soft one",
        "np.ma.array([1, 2], mask=[0, 1], hard_mask=True)",
        "np.ma.array([1, 2], mask=[0, 1])",
    ),
    _different(
        "a tensor of inference mode and another",
        "made()",
        "torch.arange(3.0)",
        "import torch\n@torch.inference_mode()\ndef made():\n    return torch.arange(3.0)\n",
        ("torch",),
    ),
    _different(
        "symbols of sympy under other assumptions",
        "sympy.Symbol('k')",
        "sympy.Symbol('k', positive=True)",
        "import sympy",
        ("sympy",),
    ),
    _different(
        "sizes of an image",
        "Image.new('L', (2, 3))",
        "Image.new('L', (3, 2))",
        "from PIL import Image",
        ("PIL",),
    ),
    _different(
        "what a model of pydantic keeps in private",
        "made({'a'})",
        "made({'b'})",
        "import pydantic\nclass Own(pydantic.BaseModel):\n    x: int = 1\n"
        "    _seen: set = pydantic.PrivateAttr(default_factory=set)\n"
        "def made(seen):\n    own = Own()\n    own._seen = seen\n    return own\n",
        ("pydantic",),
    ),
    _different(
        "the flags of a frame",
        "pd.DataFrame({'a': [1]}).set_flags(allows_duplicate_labels=False)",
        "pd.DataFrame({'a': [1]})",
        _PANDAS,
        ("pandas",),
    ),
]

_USED = """
import pandas as pd
{setup}
value = {made}
before = inputs_key((value,))
{use}
say(before == inputs_key((value,)))
"""


def _used(name: str, setup: str, made: str, use: str, needs: tuple[str, ...] = ()) -> Case:
    start = "from asking import *\nfrom eeipu.fingerprints.keys import inputs_key\n"
    program = start + _USED.format(setup=setup, made=made, use=use)
    return Case(f"its digest changes by use: {name}", (program,), True, {}, needs)


EQUAL = [
    _used(
        "an Arrow-backed frame after describe",
        "",
        "pd.DataFrame({'a': [1, 2, 3], 's': list('abc'), 'f': [0.5, None, 2.0]})"
        ".convert_dtypes(dtype_backend='pyarrow')",
        "value.describe(include='all'); value.sort_values('s'); value['s'].value_counts()",
        ("pandas", "pyarrow"),
    ),
    _used(
        "a graph after edges",
        "import networkx as nx",
        "nx.path_graph(3)",
        "value.edges; value.nodes; value.degree; value.adj",
        ("networkx",),
    ),
    _used(
        "an object with a cached_property",
        "import functools\nclass Own:\n    @functools.cached_property\n"
        "    def total(self):\n        return 1\n",
        "Own()",
        "value.total",
    ),
    _used(
        "a tokenizer",
        "from tokenizers import Tokenizer, models, pre_tokenizers\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "made = Tokenizer(models.WordLevel({'a': 0, '[UNK]': 1}, unk_token='[UNK]'))\n"
        "made.pre_tokenizer = pre_tokenizers.Whitespace()",
        "PreTrainedTokenizerFast(tokenizer_object=made, unk_token='[UNK]', pad_token='[UNK]')",
        "value(['a a', 'a'], padding=True, truncation=True, max_length=4)",
        ("tokenizers", "transformers"),
    ),
    _used(
        "a grouping after a sum",
        "",
        "pd.DataFrame({'a': [1, 1], 'b': [1, 2]}).groupby('a')",
        "value.sum(); value.groups",
        ("pandas",),
    ),
    _equal("one element of a strided tensor and its copy", "whole[:1, ::3]",
           "whole[:1, ::3].clone()", "import torch\nwhole = torch.arange(9.0).reshape(3, 3)",
           ("torch",)),
    _equal("the masked element", "[np.ma.masked]", "[np.ma.masked]"),
    _equal("a view and its copy", "whole[::2]", "whole[::2].copy()", "whole = np.arange(9.0)"),
    _equal("a slice of columns and its copy", "whole[:, :2]", "whole[:, :2].copy()",
           "whole = np.arange(9.0).reshape(3, 3)"),
    _equal("a memory map and its copy", "np.load('x.npy', mmap_mode='r')", "np.load('x.npy')",
           "np.save('x.npy', np.arange(9.0))"),
    _equal(
        "a slice of a frame and its copy",
        "frame.iloc[::2]",
        "frame.iloc[::2].copy()",
        "import pandas as pd\nframe = pd.DataFrame({'a': range(9), 'b': list('abcdefghi')})",
        ("pandas",),
    ),
    _equal("a shared object and two equal ones", "[one, one]", "[one, [1, 2]]", "one = [1, 2]"),
    _equal("a shared array and two equal ones", "[one, one]", "[one, one.copy()]",
           "one = np.arange(3.0)"),
]  # fmt: skip
