"""Build the frozen extract of docstrings and its tokenizer, which the distillation problem ships.

    python benchmarks/build_docstrings.py eeipu/benchmarks/distillation/data

The extract consists of pairs of the first line of a docstring and the text below it. They come from
the installed sources of Python's standard library, NumPy, SciPy, scikit-learn and PyTorch; the
first row of the file has their versions. These rules select the pairs:

- Files must be under the licence of their package: vendored code, and files with a notice of
  another licence, are skipped.
- First lines have 3 to 20 words, descriptions at least 15, all in ASCII.
- Of pairs that are nearly equal, by word triples of the description or of the whole, or by words of
  the first line, only one is kept, so that no validation pair has a near copy in the training part.
- A digest chooses `PAIRS` of them, and assigns whole files to training or to validation.
"""

import argparse
import ast
import hashlib
import importlib
import json
import lzma
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

PAIRS = 7000
VALIDATION_SHARE = 0.1
MAX_CHARACTERS = 500  # of a description: more than the problems read of it
WORDS_IN_SUMMARY = (3, 20)
MIN_WORDS_IN_DESCRIPTION = 15
SAME_TEXT = 0.4  # Jaccard index of word triples from which two docstrings say the same
SAME_SUMMARY = 0.7  # likewise, of the words of first lines
VOCABULARY = 1024
SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>"]  # in T5's order

# Tests, vendored code, and what Python installs beside its own library.
SKIPPED = (
    "site-packages", "test", "tests", "testing", "idlelib", "lib2to3", "_vendor", "ensurepip",
    "externals", "_pytest", "_lib", "_external", "polyfills",
)  # fmt: skip
OTHER_LICENCES = (
    "Permission is hereby granted", "Permission to use", "Redistribution and use", "MIT License",
    "MIT license", "BSD 2-clause", "BSD license:", "copied below", "PSF License",
    "Apache License", "GNU General", "GNU Lesser", "Mozilla Public",
)  # fmt: skip
LICENCE_FILES = {"numpy": "LICENSE.txt", "scipy": "LICENSE.txt", "scikit-learn": "COPYING",
                 "torch": "LICENSE"}  # fmt: skip
BUNDLED = "\n----\n"  # behind which a wheel's licence is about the libraries beside the package
# Sections of a docstring that describe other things than what it is about.
LAST_SECTIONS = re.compile(
    r"^\s*(See Also|References|Examples?|Doctests?|Example:|Examples:)\s*:*$", re.MULTILINE
)
LICENCES_HEAD = """\
docstrings.jsonl.xz is made of docstrings of these packages, shortened; tokenizer.json was learnt
from them. Each package's own licence follows. benchmarks/build_docstrings.py made both files."""
Pair = dict[str, str]


def packages() -> dict[str, tuple[Path, str]]:
    """Name -> folder of source, version."""
    found = {"python": (Path(sysconfig.get_path("stdlib")), platform.python_version())}
    for name in ("numpy", "scipy", "sklearn", "torch"):
        module = importlib.import_module(name)
        found[name] = (Path(module.__file__ or "").parent, module.__version__)
    return found


def pairs_in(package: str, folder: Path) -> Iterator[Pair]:
    """All pairs in a package that look like a summary and a description."""
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder)
        text = path.read_text(encoding="utf-8", errors="replace")
        if set(SKIPPED) & set(place.parts) or _has_own_licence(text):
            continue
        module = ".".join([package, *place.with_suffix("").parts])
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(text)
        except SyntaxError:  # a template
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                pair = _pair(ast.get_docstring(node) or "")
                if pair is not None:
                    yield {"module": module, "name": getattr(node, "name", ""), **pair}


def _has_own_licence(text: str) -> bool:
    # PyTorch's and the standard library's files name others who handed their work over to them.
    is_reserved = "all rights reserved" in text.lower()
    is_shared = "Licensed to PSF" in text or "BSD-style license found" in text
    return any(notice in text for notice in OTHER_LICENCES) or (is_reserved and not is_shared)


def licences() -> str:
    """The licence of every package, as it ships with it."""
    parts = {"Python": (Path(sysconfig.get_path("stdlib")) / "LICENSE.txt").read_text()}
    for name, file in LICENCE_FILES.items():
        (found,) = [
            each for each in metadata.files(name) or () if each.name == file
            and each.parent.name in ("licenses", each.parts[0])
        ]  # fmt: skip
        parts[name] = found.read_text().partition(BUNDLED)[0]
    titled = [f"{'=' * 80}\n{name}\n{'=' * 80}\n\n{text}" for name, text in parts.items()]
    return "\n\n".join([LICENCES_HEAD, *titled]).rstrip() + "\n"


def _pair(docstring: str) -> Pair | None:
    summary, _, rest = docstring.partition("\n\n")
    summary, description = _plain(summary), _plain(LAST_SECTIONS.split(rest, maxsplit=1)[0])
    low, high = WORDS_IN_SUMMARY
    if not (low <= len(summary.split()) <= high and summary[0].isalpha() and summary[-1] == "."):
        return None
    if len(description) > MAX_CHARACTERS:
        description = description[:MAX_CHARACTERS].rpartition(" ")[0]
    if len(description.split()) < MIN_WORDS_IN_DESCRIPTION or not description[0].isalnum():
        return None
    if not (summary + description).isascii() or "eprecated" in summary:
        return None
    return {"summary": summary, "description": description}


def _plain(text: str) -> str:
    """Prose on one line: without doctests, directives, rules, roles and quoting."""
    text = re.sub(r"^\s*>>>.*?(\n\s*\n|\Z)", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^([ ]*)\.\. .*(\n(\1 +.*)?)*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*[-=~*^]{3,}\s*$|\[\d+\]_", "", text, flags=re.MULTILINE)
    text = re.sub(r":[\w:]+:`~?([^`]*)`", r"\1", text)
    text = text.replace("::", ":").replace("`", "").replace("**", "")
    return " ".join(text.split())


def without_twins(pairs: list[Pair]) -> list[Pair]:
    """The pairs that say something new, the first of those that say the same."""
    descriptions = [pair["description"] for pair in pairs]
    texts = [f"{pair['description']} {pair['summary']}" for pair in pairs]
    triples = CountVectorizer(ngram_range=(3, 3), binary=True, token_pattern=r"\w+")
    words = CountVectorizer(binary=True, token_pattern=r"\w+")
    twins = [set[int]() for _ in pairs]
    for features, least in (
        (triples.fit_transform(descriptions), SAME_TEXT),
        (triples.fit_transform(texts), SAME_TEXT),
        (words.fit_transform([pair["summary"] for pair in pairs]), SAME_SUMMARY),
    ):
        for i, j in _alike(features, least):
            twins[i].add(j)
    kept: list[int] = []
    for i in range(len(pairs)):
        if twins[i].isdisjoint(kept):
            kept.append(i)
    return [pairs[i] for i in kept]


def _alike(features: Any, least: float, rows: int = 500) -> Iterator[tuple[int, int]]:
    """Pairs of rows of a binary matrix whose Jaccard index is at least so much."""
    features = sparse.csr_array(features).astype(np.int32)
    sizes = np.asarray(features.sum(axis=1)).ravel()
    for start in range(0, features.shape[0], rows):
        common = (features[start : start + rows] @ features.T).toarray()
        union = sizes[start : start + rows, None] + sizes - common
        for i, j in np.argwhere(common >= least * union):
            if i + start != j:
                yield int(i) + start, int(j)


def _digest(text: str) -> float:
    """A number in `[0, 1)` that a text always gets."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def tokenizer_of(texts: list[str]) -> Tokenizer:
    """Byte pairs learnt from these texts; byte-level, so that nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = SPECIAL_TOKENS.index("</s>")
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", end)])
    return tokenizer


def main() -> None:
    """Write docstrings.jsonl.xz and tokenizer.json into a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    sources = packages()
    found = [pair for name, (path, _) in sources.items() for pair in pairs_in(name, path)]
    distinct = without_twins(found)
    print(f"{len(found)} pairs, {len(distinct)} distinct")
    kept = sorted(distinct, key=lambda pair: _digest(json.dumps(pair)))[:PAIRS]
    rows = [
        pair | {"part": "validation" if _digest(pair["module"]) < VALIDATION_SHARE else "train"}
        for pair in kept
    ]
    head = {"versions": {name: version for name, (_, version) in sources.items()}}
    lines = [json.dumps(row, separators=(",", ":")) for row in [head, *rows]]
    (folder / "LICENSES.txt").write_text(licences())
    (folder / "docstrings.jsonl.xz").write_bytes(
        lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    )
    train = [row for row in rows if row["part"] == "train"]
    texts = [text for row in train for text in (row["description"], row["summary"])]
    tokenizer_of(texts).save(str(folder / "tokenizer.json"), pretty=False)
    print(f"{len(train)} to train on, {len(rows) - len(train)} to validate on")


if __name__ == "__main__":
    main()
