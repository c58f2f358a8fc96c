"""Objects of libraries whose pickle does not say what they do, or says more than that.

Some pickle the user's function that they hold by its name. Others change when they are used, or
hold what differs from process to process.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from eeipu.fingerprints.reading.places import file_digest, place_of

__all__ = ["compiled_module", "content_of", "has_content", "is_proxy"]


def is_proxy(value: Any) -> bool:
    """Whether an object says that it is of a type that it is not, as those of wrapt do."""
    return not isinstance(value, type) and getattr(value, "__class__", None) is not type(value)


def content_of(value: Any) -> tuple[Any, ...] | None:
    """What stands for an object of a library; `None` for all others."""
    kind = type(value)
    if kind is FunctionType:
        compiled = vars(value).get("_torchdynamo_orig_callable")
        if compiled is not None:
            return ("torch.compile", compiled, *_options(value))
        return _wrapper_content(value)
    if isinstance(value, type):
        jit = vars(value).get("class_type")  # of numba's jitclass
        return None if jit is None or not hasattr(jit, "jit_methods") else _jit_class(jit)
    for each in kind.__mro__:
        known = _CONTENT.get(f"{each.__module__}.{each.__qualname__}")
        if known is not None:
            return (f"{kind.__module__}.{kind.__qualname__}", *known(value))
    if is_proxy(value) and hasattr(value, "__wrapped__"):
        return (kind, value.__wrapped__, *_own_attributes(value))
    return None


@lru_cache(maxsize=1024)  # asked for with each object of an input
def has_content(kind: Any) -> bool:
    """Whether `content_of` may know what stands for objects of a type, but for proxies."""
    return kind is FunctionType or any(
        f"{each.__module__}.{each.__qualname__}" in _CONTENT for each in kind.__mro__
    )


def _own_attributes(proxy: Any) -> list[Any]:
    """What a proxy of wrapt has by itself: all other attributes are those of what it wraps."""
    named = {
        name
        for each in type(proxy).__mro__
        for name in vars(each)
        if name.startswith("_self_") and name not in {"_self_parent", "_self_owner"}
    }
    return [getattr(proxy, name, None) for name in sorted(named)]


# The attributes of libraries' wrappers that say what these do. They have others that change when
# the function is called: how often it was tried, or what it has returned so far.
_WRAPPERS = {"tenacity": ("retry",), "cachetools": ("cache_key",)}


def _wrapper_content(value: FunctionType) -> tuple[Any, ...] | None:
    """What stands for a library's function around one of the user's."""
    library = str(value.__globals__.get("__name__")).partition(".")[0]
    if library not in _WRAPPERS or "__wrapped__" not in vars(value):
        return None
    names = _WRAPPERS[library]
    return (library, *(vars(value).get(name) for name in ("__wrapped__", *names)))


def _options(compiled: FunctionType) -> list[Any]:
    """How `torch.compile` was told to compile a function."""
    names = compiled.__code__.co_freevars
    cells = dict(zip(names, compiled.__closure__ or (), strict=True))
    context = cells["self"].cell_contents if "self" in cells else None
    return [getattr(context, each, None) for each in ("fullgraph", "_dynamic", "export")]


def _jit_class(jit: Any) -> tuple[Any, ...]:
    return ("numba.jitclass", str(jit.struct), dict(jit.jit_methods), dict(jit.jit_static_methods))


def _dispatcher(value: Any) -> tuple[Any, ...]:
    # With lazy compilation, the signatures grow when it is used.
    made = () if value._can_compile else value.overloads.values()
    fixed = [str(each.signature) for each in made]
    return (value.py_func, value.targetoptions, value.locals, fixed)


def _universal(value: Any) -> tuple[Any, ...]:
    """A `numba.vectorize`d or `guvectorize`d function."""
    inner = getattr(value, "_dispatcher", None)
    inner = getattr(value, "gufunc_builder", inner)
    function = getattr(inner, "py_func", None) or value.__wrapped__
    frozen = value._frozen or not getattr(value, "_is_dynamic", True)
    fixed = tuple(getattr(value, "types", ())) if frozen else ()
    options = getattr(inner, "targetoptions", None)
    return (function, options, str(getattr(value, "signature", None)), value.identity, fixed)


def _named(*names: str) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(getattr(value, name, None) for name in names)


def _library(value: Any) -> tuple[Any, ...]:
    """A library of C functions, which counts by its file where it is not the system's."""
    name = value._name
    return (name,) if name is None else place_of(Path(name))


# Type -> the parts that say what an object of it does.
_CONTENT: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "builtins.PyCapsule": lambda value: (repr(value).partition(" at ")[0],),
    "cachetools._cached._WrapperBase": _named("__wrapped__", "cache_key"),
    "contextlib._GeneratorContextManagerBase": _named("func", "args", "kwds"),
    "ctypes.CDLL": _library,
    "cytoolz.functoolz.curry": _named("func", "args", "keywords"),
    "dask.delayed.DelayedLeaf": _named("_obj", "_pure", "_nout"),
    "joblib.parallel.Parallel": _named("n_jobs", "return_generator", "return_ordered"),
    "multipledispatch.dispatcher.Dispatcher": _named("name", "funcs"),
    "numba.core.ccallback.CFunc": lambda value: (value._pyfunc, str(value._sig)),
    "numba.core.dispatcher.Dispatcher": _dispatcher,
    "numba.np.ufunc.dufunc.DUFunc": _universal,
    "numba.np.ufunc.gufunc.GUFunc": _universal,
    "numpy.vectorize": _named("pyfunc", "otypes", "excluded", "signature", "cache"),
    "ray.remote_function.RemoteFunction": _named("_function", "_default_options"),
    "tenacity.BaseRetrying": _named(
        *("sleep", "stop", "wait", "retry", "before", "after", "before_sleep"),
        *("reraise", "retry_error_cls", "retry_error_callback", "enabled"),
    ),
    "toolz.functoolz.curry": _named("func", "args", "keywords"),
    "torch._dynamo.eval_frame.OptimizedModule": _named("_orig_mod"),
    "torch._library.custom_ops.CustomOpDef": _named("_qualname", "_init_fn", "_backend_fns"),
    "typing.NewType": _named("__name__", "__supertype__"),
}


def compiled_module(value: Any) -> tuple[str, str] | None:
    """The module with machine code that something is from: its name and a digest of its file."""
    module = value
    if not isinstance(value, ModuleType):
        name = getattr(value, "__module__", None)
        module = sys.modules.get(name) if isinstance(name, str) else None
    file = getattr(module, "__file__", None)
    if module is None or file is None or not file.endswith(tuple(EXTENSION_SUFFIXES)):
        return None
    return (module.__name__, file_digest(file)) if Path(file).is_file() else None
