"""Numbers for the values of hyper-parameters, so that configurations can be compared as arrays.

Notation:
    d: hyper-parameters; R: rows.
    codes: `... x d`, the values that are fixed, numbered in each column from 0; `FREE` where none
        is.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeipu.pipeline import Pipeline
from eeipu.space import Params, Space

__all__ = ["FREE", "Codes", "ValueCodes", "only"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

FREE = -1


def only(columns: list[int], codes: Codes) -> Codes:
    """Codes of which these columns alone are fixed, `... x d`."""
    own = np.full_like(codes, FREE)
    own[..., columns] = codes[..., columns]
    return own


class ValueCodes:
    """The values of a pipeline's hyper-parameters by their numbers.

    Values have the same number if they agree in type and to the last bit.

    Args:
        pipeline: The pipeline.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._names = list(pipeline.space)
        self._numbers: list[dict[tuple[type, str], int]] = [{} for _ in self._names]
        self._values: list[list[Any]] = [[] for _ in self._names]

    def __len__(self) -> int:
        """The number of hyper-parameters, d."""
        return len(self._names)

    def of(self, params: Params) -> Codes:
        """The numbers of all values of a configuration, `d`; new values get new numbers."""
        codes = np.empty(len(self), dtype=np.int64)
        for column, name in enumerate(self._names):
            value = params[name]
            # Choices may be any objects: Optuna's number stands for them.
            internal = self._pipeline.space[name].to_internal_repr(value)
            numbers = self._numbers[column]
            codes[column] = numbers.setdefault((type(value), repr(float(internal))), len(numbers))
            if codes[column] == len(self._values[column]):
                self._values[column].append(value)
        return codes

    def params(self, row: Codes) -> dict[str, Any]:
        """The values that a row, `d`, fixes, by name."""
        return {
            name: values[code]
            for name, values, code in zip(self._names, self._values, row.tolist(), strict=True)
            if code != FREE
        }

    def completed(self, rows: Codes, X: Array) -> Array:
        """Points of the unit cube, `R x d`, with the values that rows fix."""
        fixed = self._coordinates[np.arange(len(self)), rows]
        return np.where(rows == FREE, X, fixed)

    @cached_property
    def _coordinates(self) -> Array:
        """The cube's coordinates of all values by their numbers, `d x most + 1`; NaN for `FREE`."""
        table = np.full((len(self), 1 + max(map(len, self._values), default=0)), np.nan)
        for column, (name, values) in enumerate(zip(self._names, self._values, strict=True)):
            axis = Space({name: self._pipeline.space[name]})
            table[column, : len(values)] = axis.encode([{name: value} for value in values])[:, 0]
        return table
