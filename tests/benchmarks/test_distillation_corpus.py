"""The docstrings that ship, and news from elsewhere."""

import json
import re
import sys

import pytest

from eeipu.benchmarks.distillation.corpus import DATA, Corpus, cnn_dailymail, docstrings
from eeipu.benchmarks.distillation.libraries import library
from eeipu.errors import ConfigurationError, MissingExtraError


@pytest.fixture(scope="module")
def corpus():
    return docstrings(6250, 750)


def test_pairs_are_descriptions_and_one_line_summaries(corpus):
    for text, summary in corpus.train + corpus.validation:
        assert len(text.split()) >= 15
        assert 3 <= len(summary.split()) <= 20
        assert summary.endswith(".")
        assert (text + summary).isascii()
        assert "\n" not in text + summary


def test_no_summary_and_no_description_comes_twice(corpus):
    for kind in (0, 1):
        texts = [pair[kind].lower() for pair in corpus.train + corpus.validation]
        assert len(set(texts)) == len(texts)


def test_nothing_to_validate_on_has_a_near_twin_to_learn_from(corpus):
    def triples(pair):
        words = re.findall(r"\w+", pair[0].lower())
        return set(zip(words, words[1:], words[2:], strict=False))

    places = {}
    train = [triples(pair) for pair in corpus.train]
    for i, found in enumerate(train):
        for triple in found:
            places.setdefault(triple, []).append(i)
    for pair in corpus.validation[:300]:
        own = triples(pair)
        common = {}
        for triple in own:
            for i in places.get(triple, ()):
                common[i] = common.get(i, 0) + 1
        assert all(n < 0.4 * len(own | train[i]) for i, n in common.items())


def test_the_same_first_pairs_come_always(corpus):
    assert docstrings(5, 3) == Corpus(corpus.train[:5], corpus.validation[:3])


@pytest.mark.parametrize("sizes", [(6251, 1), (1, 751), (0, 1)])
def test_more_docstrings_than_there_are_is_an_error(sizes):
    with pytest.raises(ConfigurationError, match=r"there are (6250|750) docstrings"):
        docstrings(*sizes)


def test_the_licences_of_all_packages_lie_beside_the_extract():
    text = (DATA / "LICENSES.txt").read_text()
    for notice in (
        "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
        "Copyright (c) 2005-2025, NumPy Developers.",
        "Copyright (c) 2001-2002 Enthought, Inc. 2003, SciPy Developers.",
        "Copyright (c) 2007-2026 The scikit-learn developers.",
        "Copyright (c) 2016-     Facebook, Inc            (Adam Paszke)",
    ):
        assert notice in text
    assert text.count("THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS") == 4


@pytest.fixture
def news(tmp_path, monkeypatch):
    """A folder of articles, and no network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    folder = tmp_path / "news"
    folder.mkdir()
    for part, count in (("train", 4), ("validation", 2)):
        rows = [{"article": f"{part} {i}", "highlights": f"h{i}", "id": i} for i in range(count)]
        (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_articles_come_with_their_highlights(news):
    assert cnn_dailymail(2, 1, str(news), None) == Corpus(
        (("train 0", "h0"), ("train 1", "h1")), (("validation 0", "h0"),)
    )


def test_too_few_articles_are_an_error(news):
    with pytest.raises(ConfigurationError, match="there are 2 articles for validation, but 3"):
        cnn_dailymail(4, 3, str(news), None)


def test_articles_that_cannot_be_had_are_an_error_with_a_remedy(news):
    with pytest.raises(ConfigurationError, match="download them while online"):
        cnn_dailymail(1, 1, str(news / "nowhere"))


def test_a_library_that_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"eeipu\[benchmarks\]"):
        library("datasets")
