"""Optional libraries, which are imported when they are first needed."""

from importlib import import_module
from typing import Any

from eeipu.errors import MissingExtraError

__all__ = ["library"]


def library(name: str) -> Any:
    """Import a module of an optional library.

    Args:
        name: The name of the module.

    Raises:
        MissingExtraError: The library is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f'T5 distillation needs {name} ({error}); pip install "eeipu[benchmarks]"'
        ) from error
