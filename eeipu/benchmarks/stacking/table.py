"""Tables for stacking: one that ships with statsmodels, and the user's own.

Notation:
    n: number of training rows.
    h: number of held-out rows.
    f: number of features.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eeipu.counts import counted
from eeipu.errors import ConfigurationError, MissingExtraError

try:
    import pandas as pd
    from sklearn.model_selection import train_test_split
    from statsmodels.datasets import randhie
except ImportError as error:
    raise MissingExtraError(
        f"the stacking problems need statsmodels, pandas and scikit-learn ({error}); "
        f'pip install "eeipu[benchmarks]"'
    ) from error

__all__ = ["Table", "credit_table", "randhie_table"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

HELD_OUT_SHARE = 1 / 3

# Columns are scaled down to at most this root mean square, so that amounts of money do not
# dominate. Smaller columns stay as they are: unequal scales make the solver of the meta-model need
# as many iterations as are tuned.
LARGEST_RMS = 10.0

# Columns of the credit-default table.
TARGET = "TARGET"
IDENTIFIER = "SK_ID_CURR"

# Enough that each of three folds has a few rows of both classes.
LEAST_ROWS_A_CLASS = 30


@dataclass(frozen=True)
class Table:
    """Training rows, and held-out rows for the score.

    Attributes:
        train: Features, `n x f`.
        train_labels: Labels, `n`, 0 or 1.
        held_out: Features, `h x f`; no model is fitted to them.
        held_out_labels: Labels, `h`, 0 or 1.
    """

    train: Array
    train_labels: Labels
    held_out: Array
    held_out_labels: Labels


def randhie_table(rows: int | None, seed: int) -> Table:
    """The RAND health insurance experiment: did a person see a doctor within a year?

    20,190 rows with nine features of the insurance, the person and their health (Cameron and
    Trivedi 2005, chapter 20), as they ship with statsmodels.

    Args:
        rows: The maximal number of rows, which are drawn at random; `None` takes all.
        seed: The seed of the draw and of the split.
    """
    frame = randhie.load_pandas().data
    labels = (frame.pop("mdvis") > 0).to_numpy(np.int64)
    return _split(frame.to_numpy(np.float64), labels, rows, seed)


def credit_table(path: Path, rows: int | None, seed: int) -> Table:
    """The user's own table, in the layout of Home Credit's `application_train.csv`.

    It is a CSV file with a header. The column `TARGET` has the labels 0 and 1, `SK_ID_CURR` is
    ignored, and all other columns are features. Text is replaced by numbers in alphabetical order,
    and missing values by the median of the training rows.

    Args:
        path: The file.
        rows: The maximal number of rows, which are drawn at random; `None` takes all.
        seed: The seed of the draw and of the split.

    Raises:
        ConfigurationError: There is no such file, or it has another layout.
    """
    try:
        frame = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read as CSV: {error}") from error
    if TARGET not in frame:
        raise ConfigurationError(
            f"{str(path)!r} has no column {TARGET!r} with 0 and 1, but {list(frame)[:5]}...; "
            f"rename the column to predict."
        )
    target = frame.pop(TARGET)
    strange = set(target.unique().tolist()) - {0, 1}
    if strange:
        raise ConfigurationError(
            f"the column {TARGET!r} of {str(path)!r} must hold 0 and 1, but holds also "
            f"{strange.pop()!r}."
        )
    features = frame.drop(columns=IDENTIFIER, errors="ignore")
    if features.shape[1] == 0:
        raise ConfigurationError(
            f"{str(path)!r} has no features beside {[*frame, TARGET]}; add columns to learn from."
        )
    numbers = features.apply(_as_numbers)
    return _split(numbers.to_numpy(np.float64), target.to_numpy(np.int64), rows, seed)


def _as_numbers(column: "pd.Series[float]") -> "pd.Series[float]":
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    codes = column.astype("category").cat.codes.astype(float)
    return codes.where(codes >= 0)


def _split(features: Array, labels: Labels, rows: int | None, seed: int) -> Table:
    """Draw rows, hold some out, and clean the columns."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: rows or len(labels)]
    counts = np.bincount(labels[chosen], minlength=2)
    if counts.min() < LEAST_ROWS_A_CLASS:
        raise ConfigurationError(
            f"the table has {counted(counts[0], 'row')} of class 0 and {counts[1]} of class 1; "
            f"three folds and held-out rows need at least {LEAST_ROWS_A_CLASS} of each."
        )
    train, held_out = train_test_split(
        chosen, test_size=HELD_OUT_SHARE, stratify=labels[chosen], random_state=seed
    )
    tidy = _tidy(features, features[train])
    return Table(tidy[train], labels[train], tidy[held_out], labels[held_out])


def _tidy(features: Array, train: Array) -> Array:
    """Fill gaps with the medians of the training rows, and scale down columns that are large."""
    known = ~np.isnan(train).all(axis=0)
    features, train = features[:, known], train[:, known]
    middle = np.nanmedian(train, axis=0)
    filled = np.where(np.isnan(features), middle, features)
    rms = np.sqrt(np.nanmean(np.square(train), axis=0))
    scaled: Array = filled / np.maximum(rms / LARGEST_RMS, 1.0)
    return scaled
