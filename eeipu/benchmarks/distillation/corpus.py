"""Texts and their summaries: docstrings that ship with eeipu, or news.

The docstrings are a frozen extract (`benchmarks/build_docstrings.py`) of Python's standard library,
NumPy, SciPy, scikit-learn and PyTorch; their licences lie beside it. Whole source files belong to
training or to validation, and of docstrings that say nearly the same there is one.
"""

import json
import lzma
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

from eeipu.benchmarks.distillation.libraries import library
from eeipu.errors import ConfigurationError

__all__ = ["DATA", "Corpus", "Pair", "cnn_dailymail", "docstrings"]

Pair = tuple[str, str]
"""A text and its summary."""

DATA = files(__package__) / "data"


@dataclass(frozen=True)
class Corpus:
    """Pairs of a text and its summary.

    Attributes:
        train: To learn from.
        validation: To score on; nothing is learnt from them.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]


def docstrings(train: int, validation: int) -> Corpus:
    """Descriptions in docstrings, and the first lines above them.

    Args:
        train: Pairs to learn from, the same first ones always; at most 6,250.
        validation: Pairs to score on, likewise; at most 750.

    Raises:
        ConfigurationError: There are not so many.
    """
    lines = lzma.decompress((DATA / "docstrings.jsonl.xz").read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines[1:]]  # the first has versions
    return Corpus(_part(rows, "train", train), _part(rows, "validation", validation))


def _part(rows: list[dict[str, str]], part: str, count: int) -> tuple[Pair, ...]:
    found = [(row["description"], row["summary"]) for row in rows if row["part"] == part]
    return _first(found, count, f"docstrings for {part}")


def cnn_dailymail(
    train: int,
    validation: int,
    source: str = "abisee/cnn_dailymail",
    version: str | None = "3.0.0",
) -> Corpus:
    """News articles and their highlights, by the `datasets` library.

    Args:
        train: How many articles to learn from.
        validation: How many to score on.
        source: A name on the Hugging Face hub, or a folder with files of both parts.
        version: The data set's configuration; `None` for a folder.

    Raises:
        MissingExtraError: `datasets` is not installed.
        ConfigurationError: The articles cannot be had, or are too few.
    """
    return Corpus(
        _articles(source, version, "train", train),
        _articles(source, version, "validation", validation),
    )


def _articles(source: str, version: str | None, part: str, count: int) -> tuple[Pair, ...]:
    try:
        rows: Any = library("datasets").load_dataset(source, version, split=part)
    except (OSError, ValueError) as error:  # offline, not found, or without this part
        raise ConfigurationError(
            f"the articles in {source!r} cannot be loaded ({error}); download them while online, "
            f"or name a folder that has them."
        ) from error
    found = [(row["article"], row["highlights"]) for row in islice(rows, count)]
    return _first(found, count, f"articles for {part}")


def _first(pairs: list[Pair], count: int, what: str) -> tuple[Pair, ...]:
    if not 1 <= count <= len(pairs):
        raise ConfigurationError(f"there are {len(pairs)} {what}, but {count} were asked for.")
    return tuple(pairs[:count])
