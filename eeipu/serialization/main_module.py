"""The main module: the script or notebook that a process runs, which it knows as `__main__`.

One script has several names: it is `__main__` where it is run, and has a name of its own where it
is imported. Its classes and functions have one *home* in keys and in values that are kept, which is
the name by which the script would be imported.

A worker process runs no script of the user's. It takes over what its driver's main module is and
defines, so that names that lead there are found in the worker too, and in the processes that a
stage starts.
"""

import copyreg
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from eeipu.errors import CacheFormatError

__all__ = [
    "MainModule",
    "found_at_home",
    "home_of",
    "name_in_main",
    "reduce_of_main",
    "value_within",
]

# Processes that multiprocessing spawns run the script under the second name.
_MAIN = ("__main__", "__mp_main__")


@dataclass(frozen=True)
class MainModule:
    """Where a process has its main module from.

    Attributes:
        file: The script; `None` for a notebook, or what was typed or given with `-c`.
        name: The name under which `python -m` found it; `None` for others.
    """

    file: str | None
    name: str | None

    @classmethod
    def here(cls) -> "MainModule":
        """That of this process."""
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        return cls(getattr(main, "__file__", None), getattr(spec, "name", None))

    @property
    def home(self) -> str:
        """The name by which it would be imported; `__main__` where it has none."""
        if self.name is not None:
            return self.name
        return _MAIN[0] if self.file is None else Path(self.file).stem

    def adopt(
        self, functions: Iterable[Callable[..., Any]], others: Iterable[type | FunctionType] = ()
    ) -> None:
        """Let the main module of this worker stand for that of its driver.

        A process that a stage starts by spawn or forkserver then runs the driver's script again,
        as it does where the stage runs in the driver.

        Args:
            functions: Functions that the driver sent. Their globals are those of the driver's main
                module that they use.
            others: Further classes and functions that the driver sent.
        """
        main = sys.modules["__main__"]
        if self.file is not None:
            main.__file__ = self.file
        elif hasattr(main, "__file__"):  # libraries take a main module that has it for a script
            del main.__file__
        main.__spec__ = None if self.name is None else ModuleSpec(self.name, None)
        for function in functions:
            names = getattr(inspect.unwrap(function), "__globals__", {})
            if names.get("__name__") != "__main__" or names is vars(main):
                continue
            for name, value in list(names.items()):
                _put(main, name, value)
        for definition in others:
            if "." not in definition.__qualname__:  # what is in a class comes with it
                _put(main, definition.__qualname__, definition)


def _put(main: ModuleType, name: str, value: Any) -> None:
    if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
        setattr(main, name, value)


def home_of(module: str) -> str:
    """The home of the definitions that call a module theirs.

    A script that is run and imported by the same process has two classes of each name, which
    Python does not take for the same. Those of the script that runs then have a home of their own.
    """
    if module not in _MAIN:
        return module
    here = MainModule.here()
    imported = sys.modules.get(here.home)
    if here.home in _MAIN or imported is None or imported is sys.modules["__main__"]:
        return here.home
    is_same = here.file is not None and getattr(imported, "__file__", None) == here.file
    return f"{here.home} as __main__" if is_same else here.home


def name_in_main(definition: Any) -> tuple[str, str] | None:
    """The home and the name of a class or function of the main module; `None` for all others."""
    if not isinstance(definition, type | FunctionType) or definition.__module__ not in _MAIN:
        return None
    if value_within(sys.modules["__main__"], definition.__qualname__) is not definition:
        return None  # made inside a function, which no name leads to
    return home_of(definition.__module__), definition.__qualname__


def reduce_of_main(obj: Any) -> Any:
    """How to pickle an object of a script's classes, or a type variable, that goes by a name.

    Returns:
        What finds it at its home; `NotImplemented` where its class is from elsewhere.
    """
    kind = type(obj)
    if kind.__module__ not in (*_MAIN, "typing") or kind in copyreg.dispatch_table:
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    is_named = isinstance(reduced, str) and obj.__module__ in _MAIN
    if not is_named or value_within(sys.modules["__main__"], reduced) is not obj:
        return reduced
    return found_at_home, (home_of(obj.__module__), reduced)


def found_at_home(home: str, name: str) -> Any:
    """A class or function of a script's, wherever this process has that script.

    The script is not imported, since that might run all of it.

    Raises:
        CacheFormatError: This process has no such definition.
    """
    main = home_of("__main__")
    module = sys.modules["__main__"] if home == main else sys.modules.get(home)
    found = None if module is None else value_within(module, name)
    if found is None:
        raise CacheFormatError(
            f"it needs {name!r} of the script or module {home!r}, which this process has not "
            f"imported (its own main module is {main!r})"
        )
    return found


def value_within(module: ModuleType, name: str) -> Any:
    """The value of a dotted name in a module, or `None`; for an empty name, the module itself."""
    value: Any = module
    for part in name.split(".") if name else ():
        value = getattr(value, part, None)
    return value
