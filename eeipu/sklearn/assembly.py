"""Estimators put together again from parts that were fitted in stages of their own."""

import copy
from collections.abc import Mapping
from typing import Any

from sklearn.pipeline import Pipeline

__all__ = ["assembled", "below"]


def below(name: str, part: str) -> str:
    """scikit-learn's name of a part of an estimator."""
    return f"{name}__{part}" if name else part


def assembled(estimator: Any, name: str, fitted: Mapping[str, Any]) -> Any:
    """An estimator with its fitted parts.

    Args:
        estimator: The estimator, not fitted.
        name: scikit-learn's name of it; "" for the outermost one.
        fitted: Name -> the estimator or part of it of this name, fitted.
    """
    if name in fitted:
        return fitted[name]
    if not isinstance(estimator, Pipeline):
        return estimator
    whole = copy.copy(estimator)
    whole.steps = [(step, assembled(e, below(name, step), fitted)) for step, e in estimator.steps]
    return whole
