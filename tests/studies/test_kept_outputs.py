"""Which outputs stay in the cache while a study runs."""

from types import SimpleNamespace

import optuna
import pytest

from eeipu import StageCache
from eeipu.studies.kept_outputs import KeptOutputs
from eeipu.studies.study import study_id


@pytest.fixture
def trials():
    """Trials of which nothing but the best outputs is known."""
    study = optuna.create_study()
    trials = SimpleNamespace(study=study, study_id=study_id(study), best=set())
    trials.keys_to_go_on_with = lambda: set(trials.best)
    return trials


@pytest.fixture
def cache():
    cache = StageCache()
    for key in "abcd":
        cache.put(key, key)
    return cache


def test_what_is_offered_stays_only_if_it_is_among_the_best(trials, cache):
    kept = KeptOutputs(trials, cache)
    trials.best = {"a"}
    kept.offer("ab")
    kept.tidy()
    assert set(cache) == {"a", "c", "d"}


def test_what_was_among_the_best_goes_when_it_is_not_any_more(trials, cache):
    trials.best = {"a"}
    kept = KeptOutputs(trials, cache)
    trials.best = {"b"}
    kept.offer("b")
    kept.tidy()
    assert set(cache) == {"b", "c", "d"}


def test_the_best_are_pinned_against_others(trials, cache):
    kept = KeptOutputs(trials, cache)
    trials.best = {"a"}
    kept.offer("a")
    kept.tidy()
    cache.discard("abcd")
    assert set(cache) == {"a"}


def test_nothing_is_done_where_nothing_was_offered(trials, cache):
    kept = KeptOutputs(trials, cache)
    kept.offer("b")
    kept.tidy()
    trials.keys_to_go_on_with = None  # which reads the whole study
    kept.tidy()
    assert set(cache) == {"a", "c", "d"}


def test_without_a_cache_there_is_nothing_to_keep(trials):
    trials.keys_to_go_on_with = None
    kept = KeptOutputs(trials, None)
    kept.offer("a")
    kept.tidy()
