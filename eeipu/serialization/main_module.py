"""The main module: the script or notebook that a process runs, which it knows as `__main__`.

A worker process runs no script of the user's. It takes over what its driver's main module is and
defines, so that names that lead there are found in the worker too, and in the processes that a
stage starts.
"""

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import FunctionType
from typing import Any

__all__ = ["MainModule"]


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

    def adopt(self, functions: Iterable[Callable[..., Any]]) -> None:
        """Let the main module of this worker stand for that of its driver.

        A process that a stage starts by spawn or forkserver then runs the driver's script again,
        as it does where the stage runs in the driver.

        Args:
            functions: Functions that the driver sent. Their globals are those of the driver's main
                module that they use.
        """
        main = sys.modules["__main__"]
        main.__file__ = self.file
        main.__spec__ = None if self.name is None else ModuleSpec(self.name, None)
        for function in functions:
            names = getattr(inspect.unwrap(function), "__globals__", {})
            if names.get("__name__") != "__main__" or names is vars(main):
                continue
            for name, value in list(names.items()):
                is_definition = isinstance(value, type | FunctionType)
                if is_definition and value.__module__ == "__main__":
                    setattr(main, name, value)
