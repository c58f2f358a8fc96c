"""How long looking at inputs takes, beside `joblib.hash` and a single pass over the bytes.

Run `python benchmarks/digests.py [--json]`; it takes about a minute. All times are CPU seconds of
this process. The second look is at the same object after the first, and the least of three; where a
value does not lie in one piece, one pass over its bytes is to pickle them and hash the pickle.
"""

import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy.sparse
import torch
import xxhash
from figures import Figure, at_most, show

from eeipu.fingerprints.keys import inputs_key

ROWS = 1_000_000

# Below this, a time is noise of the clock. Two times below it make a ratio of one.
LEAST_S = 0.005


def inputs() -> Iterator[tuple[str, Any]]:
    """What people give a pipeline, by name."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=ROWS)
    words = [f"word {i}" for i in rng.integers(ROWS, size=ROWS)]
    times = pd.Series(pd.date_range("2000", periods=ROWS, freq="s", tz="Europe/Berlin"))
    codes = rng.integers(50, size=(2, ROWS))
    labels = [pd.Categorical.from_codes(each, [f"label {i}" for i in range(50)]) for each in codes]
    whole = pd.Series(pd.array(codes[0], dtype="Int64")).mask(rng.random(ROWS) < 0.1)
    yield "10 columns of floats", pd.DataFrame(rng.normal(size=(ROWS, 10)))
    yield "float array", numbers
    yield "every second row of an array", rng.normal(size=(2 * ROWS, 2))[::2]
    yield "tensor", torch.from_numpy(numbers)
    yield "time-zone-aware timestamps", times.to_frame()
    yield "two categorical columns", pd.DataFrame({"a": labels[0], "b": labels[1]})
    yield "nullable integers", whole.to_frame()
    yield "strings", pd.DataFrame({"a": words})
    yield "strings as objects", pd.DataFrame({"a": pd.Series(words, dtype=object)})
    yield "a list of strings", words
    yield "an index of two levels", pd.DataFrame(index=pd.MultiIndex.from_arrays([codes[0], words]))
    sparse = scipy.sparse.random(ROWS, 100, density=0.01, format="csc", rng=rng)
    yield "a sparse frame of 100 columns", pd.DataFrame.sparse.from_spmatrix(sparse)
    yield "a sparse matrix", sparse
    yield "100,000 small dicts", [{"id": i, "name": f"n{i}", "x": 0.5 * i} for i in range(100_000)]
    yield "100,000 timestamps in a list", list(times[:100_000])


def seconds(look: Callable[[], object], tries: int) -> float:
    """The least CPU seconds of a look."""
    found = []
    for _ in range(tries):
        began = time.process_time()
        look()
        found.append(time.process_time() - began)
    return max(min(found), LEAST_S)


def read_bytes(value: Any) -> Callable[[], object]:
    """One pass over the bytes of a value: its pickle, where these are not in one place."""
    if isinstance(value, np.ndarray) and value.flags.c_contiguous:
        return lambda: xxhash.xxh3_128_digest(value.view(np.uint8))
    return lambda: xxhash.xxh3_128_digest(pickle.dumps(value, protocol=5))


def figures() -> Iterator[Figure]:
    """The time of each look, and its targets."""
    for name, value in inputs():
        first_s = seconds(lambda value=value: inputs_key((value,)), 1)
        again_s = seconds(lambda value=value: inputs_key((value,)), 3)
        joblib_s = seconds(lambda value=value: joblib.hash(value), 1)
        read_s = seconds(read_bytes(value), 3)
        yield Figure(f"{name}: first look", first_s, "s")
        yield Figure(f"{name}: joblib.hash", joblib_s, "s")
        yield at_most(f"{name}: first look, of joblib.hash", first_s / joblib_s, "ratio", 1.5)
        yield at_most(f"{name}: second look, of joblib.hash", again_s / joblib_s, "ratio", 1.5)
        yield at_most(f"{name}: second look, of a pass", again_s / read_s, "ratio", 3)
        yield at_most(f"{name}: second look", again_s, "s", 0.1)


if __name__ == "__main__":
    show(figures())
