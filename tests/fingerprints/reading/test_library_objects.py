"""Objects of libraries around the user's functions, which count by what they do."""

import shutil
import sys
import sysconfig
import textwrap
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from eeipu.fingerprints.code import code_fingerprint

DECORATOR = (
    "import wrapt\n\n@wrapt.decorator\ndef around(wrapped, instance, args, kwargs):\n"
    "    return wrapped(*args, **kwargs) + {}\n\n"
)

WRAPPED = {
    "a curried function": (
        "from toolz import curry\n\n@curry\ndef g(k, x):\n    return k * x + {}\n\n"
        "def f(data):\n    return g(2)(data)"
    ),
    "an argument of a curried function": (
        "from toolz import curry\n\n@curry\ndef g(k, x):\n    return k * x\n\nh = g({})\n\n"
        "def f(data):\n    return h(data)"
    ),
    "a stage that is curried": (
        "from toolz import curry\n\n@curry\ndef f(k, x):\n    return k * x + {}"
    ),
    "what wrapt puts around a function": DECORATOR + "@around\ndef f(x):\n    return x",
    "what wrapt puts around a helper": (
        DECORATOR + "@around\ndef g(x):\n    return x\n\ndef f(data):\n    return g(data)"
    ),
    "what wrapt puts around a method": (
        DECORATOR
        + "class A:\n    @around\n    def g(self, x):\n        return x\n\n"
        + "def f(data):\n    return A().g(data)"
    ),
    "a function inside of one of wrapt": (
        "import wrapt\n\n@wrapt.decorator\ndef around(wrapped, instance, args, kwargs):\n"
        "    return wrapped(*args, **kwargs)\n\nK = {}\n\n@around\ndef g(x):\n    return x + K\n\n"
        "def f(data):\n    return g(data)"
    ),
    "a proxy": "import wrapt\n\nK = wrapt.ObjectProxy({})\n\ndef f(data):\n    return K + data",
    "a compiled function of torch": (
        "import torch\n\n@torch.compile\ndef g(x):\n    return x + {}\n\n"
        "def f(data):\n    return g(data)"
    ),
    "a compiled module of torch": (
        "import torch\n\nclass Own(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x * {}\n\nown = torch.compile(Own())\n\ndef f(data):\n    return own(data)"
    ),
    "a vectorized function": (
        "import numpy\n\n@numpy.vectorize\ndef g(x):\n    return x + {}\n\ng(1)\n\n"
        "def f(data):\n    return g(data)"
    ),
    "a function that NumPy calls by element": (
        "import numpy\n\ndef g(x):\n    return x + {}\n\nu = numpy.frompyfunc(g, 1, 1)\n\n"
        "def f(data):\n    return u(data)"
    ),
    "a decorator's object that pickles by name": (
        "import functools\n\nclass Around:\n    def __init__(self, g):\n"
        "        functools.update_wrapper(self, g)\n\n    def __call__(self, x):\n"
        "        return self.__wrapped__(x)\n\n    def __reduce__(self):\n"
        "        return self.__qualname__\n\n@Around\ndef g(x):\n    return x + {}\n\n"
        "def f(data):\n    return g(data)"
    ),
    "an object in slots that pickles by name": (
        "class Own:\n    __slots__ = ('k',)\n\n    def __reduce__(self):\n"
        "        return 'own'\n\nown = Own()\nown.k = {}\n\ndef f(data):\n    return own.k"
    ),
    "a dispatched function": (
        "from multipledispatch import dispatch\n\n@dispatch(int, namespace={{}})\n"
        "def g(x):\n    return x + {}\n\ng(1)\n\ndef f(data):\n    return g(data)"
    ),
    "a delayed function": (
        "import dask\n\n@dask.delayed\ndef g(x):\n    return x + {}\n\n"
        "def f(data):\n    return g(data).compute()"
    ),
    "a remote function": (
        "import ray\n\n@ray.remote\ndef g(x):\n    return x + {}\n\n"
        "def f(data):\n    return ray.get(g.remote(data))"
    ),
    "workers": (
        "import joblib\n\nworkers = joblib.Parallel(n_jobs={})\n\n"
        "def f(data):\n    return workers(joblib.delayed(abs)(x) for x in data)"
    ),
    "a frozen distribution": (
        "import numpy\nimport scipy.stats\n\nprior = scipy.stats.norm(0, {})\n"
        "prior.pdf(1), prior.rvs(), numpy.random.rand()\n\ndef f(data):\n    return prior.pdf(data)"
    ),
    "a new type": (
        "import typing\n\nclass A:\n    k = {}\n\nT = typing.NewType('T', A)\n\n"
        "def f(data):\n    return T.__supertype__.k"
    ),
    "the keys of a dictionary's type": (
        "import typing\n\nT = typing.TypedDict('T', {{'k{}': int}})\n\n"
        "def f(data):\n    return list(T.__annotations__)"
    ),
    "metadata of a field": (
        "import dataclasses\n\ndef made(k):\n    @dataclasses.dataclass\n    class A:\n"
        "        x: int = dataclasses.field(default=1, metadata={{'k': k}})\n    return A\n\n"
        "A = made(*[{}])\n\ndef f(data):\n    return dataclasses.fields(A)[0].metadata"
    ),
    "a computed factory of a field": (
        "import dataclasses\n\ndef made(k):\n    @dataclasses.dataclass\n    class A:\n"
        "        x: list = dataclasses.field(default_factory=lambda: [k])\n    return A\n\n"
        "A = made(*[{}])\n\ndef f(data):\n    return A()"
    ),
    "a C library": (
        "import ctypes\n\nlibrary = ctypes.CDLL(None)\n\ndef f(data):\n"
        "    return library.abs(data), {}"
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what torch.compile imports
@pytest.mark.parametrize("kind", WRAPPED)
def test_what_a_library_keeps_of_the_users_code_counts(fingerprints, kind):
    one, again, other = fingerprints(WRAPPED[kind], "1", "1", "2")
    assert one == again != other


# As in the libraries of these names, which note in their wrappers how these are used.
NOTING = {
    "tenacity": """
        import functools, threading

        class BaseRetrying:
            def __init__(self, stop):
                self.stop, self._local = stop, threading.local()

            def wraps(self, function):
                @functools.wraps(function)
                def wrapped_f(*args):
                    wrapped_f.statistics["calls"] = wrapped_f.statistics.get("calls", 0) + 1
                    return function(*args)

                wrapped_f.retry, wrapped_f.statistics = self, {}
                return wrapped_f

        def retry(stop):
            return BaseRetrying(stop).wraps
        """,
    "cachetools": """
        import functools

        def cached(cache, key=hash):
            def decorated(function):
                @functools.wraps(function)
                def wrapper(*args):
                    return cache.setdefault(key(args), function(*args))

                wrapper.cache, wrapper.cache_key = cache, key
                return wrapper

            return decorated
        """,
}


@pytest.mark.parametrize(
    ("library", "decorator", "value"),
    [
        ("tenacity", "tenacity.retry(3)", "{}"),
        ("tenacity", "tenacity.retry({})", "0"),
        ("cachetools", "cachetools.cached(dict())", "{}"),
    ],
)
def test_what_a_wrapper_notes_of_its_use_does_not_count(
    project, tmp_path, monkeypatch, library, decorator, value
):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / f"{library}.py").write_text(textwrap.dedent(NOTING[library]))
    monkeypatch.syspath_prepend(folder)
    source = (
        f"import {library}\n\n@{decorator}\ndef g(x):\n    return x + {value}\n\n"
        "def f(data):\n    return g(data)"
    )

    def before_and_after(number):
        main = project(main=source.format(number))
        before = code_fingerprint(main.f)
        assert main.f(1) == main.f(1)
        return before, code_fingerprint(main.f)

    (before, after), (_, other) = before_and_after(1), before_and_after(2)
    assert before == after != other


def test_a_context_manager_around_a_function_counts_by_its_code(fingerprints):
    main = (
        "import contextlib\n\n@contextlib.contextmanager\ndef around(k):\n    yield k + {}\n\n"
        "@around({})\ndef f(data):\n    return data"
    )
    mains = [main.format(*each) for each in [(1, 1), (1, 1), (2, 1), (1, 2)]]
    one, again, other, third = fingerprints("{}", *mains)
    assert len({one, other, third}) == 3
    assert one == again


NUMBA = {
    "a function": "@numba.njit\ndef g(x):\n    return x + {}\n\ng(1)",
    "an option": "@numba.njit(fastmath=bool({} - 1))\ndef g(x):\n    return x",
    "a signature": "@numba.njit(['f4(f8)', 'f8(f8)'][{} - 1])\ndef g(x):\n    return x",
    "a universal function": "@numba.vectorize\ndef g(x):\n    return x + {}\n\ng(1)",
    "a class": (
        "@numba.experimental.jitclass([('x', numba.float64)])\nclass g:\n"
        "    def __init__(self, x):\n        self.x = x + {}"
    ),
}


@pytest.mark.parametrize("kind", NUMBA)
def test_what_numba_compiles_counts_by_its_function(fingerprints, kind):
    pytest.importorskip("numba")
    main = f"import numba\n\n{NUMBA[kind]}\n\ndef f(data):\n    return g(data)"
    one, again, other = fingerprints(main, "1", "1", "2")
    assert one == again != other


@pytest.mark.parametrize(
    "logger", ["logging.getLogger({!r})", "logging.LoggerAdapter(logging.getLogger({!r}))"]
)
def test_the_name_of_a_logger_does_not_count(fingerprints, logger):
    main = "import logging\n\nlog = {}\n\ndef f(data):\n    log.info(data)\n    return data"
    found = set(fingerprints(main, logger.format("main"), logger.format("own")))
    assert len(found) == 1


# --- code without source ----------------------------------------------------------------------


@pytest.fixture
def compiled(project, tmp_path):
    """Make a module of one's own with machine code, from one of Python's; call it with its end."""
    parts = sysconfig.get_path("stdlib"), "lib-dynload"
    found = sorted(Path(*parts).glob("_heapq.*"))
    if not found:
        pytest.skip("Python has its modules inside of itself here")

    def make(end, main):
        module = project(main=main, own____init__="")
        file = tmp_path / "own" / found[0].name
        file.unlink(missing_ok=True)  # it may still be mapped into memory
        shutil.copy(found[0], file)
        with file.open("ab") as opened:
            opened.write(end)
        spec = spec_from_file_location(
            "own._heapq", file, loader=ExtensionFileLoader("own._heapq", str(file))
        )
        sys.modules["own._heapq"] = module.fast = module_from_spec(spec)
        module.heappush = module.fast.heappush
        return module

    yield make
    sys.modules.pop("own._heapq", None)


@pytest.mark.parametrize("use", ["fast.heappush", "heappush", "vars(fast)"])
def test_a_compiled_module_of_ones_own_counts_by_its_file(compiled, use):
    main = f"fast = heappush = None\n\ndef f(data):\n    return {use}"
    one, again, other = (code_fingerprint(compiled(x, main).f) for x in (b"1", b"1", b"2"))
    assert one == again != other
