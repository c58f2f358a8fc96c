"""Texts and their summaries: docstrings that ship with eeipu, or news.

The docstrings are a frozen extract (made by `benchmarks/build_docstrings.py`) of Python's standard
library, NumPy, SciPy, scikit-learn and PyTorch; their licences lie beside it. All docstrings of a
source file are used either for training or for validation. Of docstrings that are nearly equal,
only one is included.
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
        train: The pairs for training.
        validation: The pairs for scoring; no network is trained on them.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]


def docstrings(train: int, validation: int) -> Corpus:
    """The descriptions in docstrings as texts, and their first lines as summaries.

    Args:
        train: The number of training pairs, at most 6,250; always the first ones.
        validation: The number of validation pairs, at most 750; always the first ones.

    Raises:
        ConfigurationError: The extract does not have this number of pairs.
    """
    lines = lzma.decompress((DATA / "docstrings.jsonl.xz").read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines[1:]]  # the first line has versions
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
    """News articles and their highlights, loaded with the `datasets` library.

    Args:
        train: The number of training articles.
        validation: The number of validation articles.
        source: A name on the Hugging Face hub, or a folder with files of both parts.
        version: The configuration of the data set; `None` for a folder.

    Raises:
        MissingExtraError: `datasets` is not installed.
        ConfigurationError: The articles cannot be loaded, or there are too few.
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
