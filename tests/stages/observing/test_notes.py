"""What observers said of an output, found again with its entry."""

import functools
import itertools
from collections import defaultdict
from dataclasses import replace
from functools import partial
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eeipu import Categorical, Pipeline, StageCache, stage
from eeipu.caching.annotations import annotate
from eeipu.stages.observing.notes import MAX_NOTES, header_of

STAGES = ("prep", "fit", "score")
PARAMS = {f"{name}.x": 1 for name in STAGES}


class Pipelines:
    """Pipelines of three stages, of which each hands on a dict, and counts of what ran."""

    def __init__(self):
        self.made, self.seen = [], []

    def __call__(self, *observers, hands_on=dict, **options):
        made = self.made  # by itself, as a stage of this object would work on a copy of it

        def making(given, x, name):
            made.append(name)
            before = given if isinstance(given, float) else given["sum"]
            return hands_on(sum=before + x, name=name)

        return Pipeline(
            [
                stage(
                    partial(making, name=name),
                    space={"x": Categorical([1, 2])},
                    name=name,
                    version="1",
                    observe=observe,
                    **options,
                )
                for name, observe in itertools.zip_longest(STAGES, observers)
                if name != "score"
            ]
            + [
                stage(
                    lambda made, x: made["sum"] + x,
                    space={"x": Categorical([1, 2])},
                    name="score",
                    version="1",
                )
            ]
        )


@pytest.fixture
def pipelines():
    return Pipelines()


@pytest.fixture(params=["memory", "directory"])
def cache(request, tmp_path):
    return StageCache() if request.param == "memory" else StageCache(tmp_path / "cache")


def both(output):
    return {"sum": output["sum"], "half": output["sum"] / 2}


FIRST = {"prep.sum": 2.0, "prep.half": 1.0, "fit": 3.0, "score": 4.0}


def test_observations_are_there_again_also_of_stages_whose_outputs_are_not_loaded(pipelines, cache):
    pipeline = pipelines(both, itemgetter("sum"))
    assert pipeline.run(PARAMS, 1.0, cache=cache).observations == FIRST
    reused = pipeline.run(PARAMS | {"score.x": 2}, 1.0, cache=cache)
    assert reused.memoized == [True, True, False]
    assert reused.observations == FIRST | {"score": 5.0}
    reused = pipeline.run(PARAMS, 1.0, cache=cache)
    assert reused.memoized == [True, True, True]
    assert reused.observations == FIRST
    assert [each.observation for each in reused.stage_runs] == [{"sum": 2.0, "half": 1.0}, 3.0, 4.0]
    # Of the three reused outputs, only the last one is loaded for this.
    assert cache.stats().hits == 2


def test_another_cache_object_finds_them_too(pipelines, tmp_path):
    pipelines(both).run(PARAMS, 1.0, cache=StageCache(tmp_path / "cache"))
    again = pipelines(both).run(PARAMS, 1.0, cache=StageCache(tmp_path / "cache"))
    assert again.observations == {"prep.sum": 2.0, "prep.half": 1.0, "score": 4.0}


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"mmap": True}, {"trusted": False}])
def test_entries_of_any_kind_have_notes(pipelines, tmp_path, options):
    cache = StageCache(tmp_path / "cache", **options)
    pipelines().run(PARAMS, 1.0, cache=cache)
    for _ in range(2):
        run = pipelines(both).run(PARAMS, 1.0, cache=cache)
        assert run.memoized == [True, True, True]
        assert run.observations == {"prep.sum": 2.0, "prep.half": 1.0, "score": 4.0}
    assert cache.verify() == []
    assert cache.stats().hits == 3  # prep once, to be observed, and score twice


def test_outputs_of_before_an_observer_was_declared_are_observed_once(pipelines, cache):
    pipelines().run(PARAMS, 1.0, cache=cache)
    made = list(pipelines.made)
    seen = []

    def watching(output):
        seen.append(output["name"])
        return output["sum"]

    for _ in range(3):
        run = pipelines(watching, watching).run(PARAMS, 1.0, cache=cache)
        assert run.observations == {"prep": 2.0, "fit": 3.0, "score": 4.0}
        assert run.memoized == [True, True, True]
    assert (pipelines.made, seen) == (made, ["prep", "fit"])


def test_an_observer_whose_code_has_changed_sees_the_output_again(pipelines, cache):
    old = pipelines(lambda output: output["sum"])
    new = pipelines(lambda output: -output["sum"])
    for pipeline, expected in [(old, 2.0), (new, -2.0), (old, 2.0), (new, -2.0)]:
        assert pipeline.run(PARAMS, 1.0, cache=cache).observations["prep"] == expected
    loaded = cache.stats().hits
    assert old.run(PARAMS, 1.0, cache=cache).observations["prep"] == 2.0
    assert cache.stats().hits == loaded + 1  # the objective alone: the entry has both notes
    assert pipelines.made == ["prep", "fit"]


def test_an_entry_keeps_the_notes_of_the_last_observers(pipelines):
    cache = StageCache()
    for power in range(MAX_NOTES + 3):
        run = pipelines(partial(_power, power)).run(PARAMS, 1.0, cache=cache)
    header = header_of(cache, run.stage_runs[0].key)
    assert list(header.observed.values()) == [2.0**power for power in range(3, MAX_NOTES + 3)]


def _power(power, output):
    return output["sum"] ** power


def test_numbers_are_observed_by_themselves_and_beside_an_observer(cache):
    def pipeline(observe=None):
        first = stage(lambda data: data / 4, name="prep", version="1", observe=observe)
        return Pipeline([first, stage(lambda x: x + 1, name="score", version="1")])

    def negative(output):
        return -output

    for observe, expected in [(negative, -0.5), (None, 0.5), (negative, -0.5), (None, 0.5)]:
        run = pipeline(observe).run({}, 2.0, cache=cache)
        assert run.observations == {"prep": expected, "score": 1.5}


def test_a_number_in_an_entry_of_an_earlier_version_is_observed_where_it_is_loaded(cache):
    pipeline = Pipeline([stage(lambda data: data / 4, name="only", version="1")])
    run = pipeline.run({}, 2.0, cache=cache)
    annotate(cache.place, run.stage_runs[0].key, lambda header: replace(header, observed={}))
    assert pipeline.run({}, 2.0, cache=cache).observations == {"only": 0.5}


def test_nothing_to_show_is_noted_too(pipelines):
    cache, seen = StageCache(), []

    def watching(output):
        seen.append(output)
        return {"loss": float("nan")}

    for _ in range(2):
        run = pipelines(watching).run(PARAMS, 1.0, cache=cache)
        assert run.observations == {"score": 4.0}
    assert len(seen) == 1


def test_a_note_that_cannot_be_kept_is_a_warning(pipelines, monkeypatch):
    cache = StageCache()
    pipelines().run(PARAMS, 1.0, cache=cache)
    monkeypatch.setattr(cache.place.store, "prepare", _full)
    with pytest.warns(RuntimeWarning, match="observed of the output of stage 'prep' could not be"):
        run = pipelines(both).run(PARAMS, 1.0, cache=cache)
    assert run.observations == {"prep.sum": 2.0, "prep.half": 1.0, "score": 4.0}


def _full(*_):
    raise OSError("the disk is full")


def test_an_output_that_has_gone_shows_nothing(pipelines):
    cache = StageCache()
    run = pipelines(both, both).run(PARAMS, 1.0, cache=cache)
    cache.discard([run.stage_runs[0].key])
    again = pipelines(both, both).run(PARAMS, 1.0, cache=cache)
    assert again.memoized == [True, True, True]
    assert again.observations == {"fit.sum": 3.0, "fit.half": 1.5, "score": 4.0}


def test_an_entry_that_is_dropped_while_it_is_observed_is_no_error(pipelines):
    cache = StageCache()
    first = pipelines().run(PARAMS, 1.0, cache=cache)

    def dropping(output):
        cache.discard([first.stage_runs[0].key])
        return output["sum"]

    run = pipelines(dropping).run(PARAMS, 1.0, cache=cache)
    assert run.observations["prep"] == 2.0
    assert run.error is None


OBSERVERS = [None, both, itemgetter("sum"), len, lambda output: {"n": output["sum"], "no": None}]


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2]),
            st.sampled_from([1, 2]),
            st.sampled_from(OBSERVERS),
            st.sampled_from(OBSERVERS),
            st.sampled_from([None, 0, 1, 2]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_observations_with_a_cache_are_those_without(steps):
    pipelines, cache = functools.cache(Pipelines()), StageCache()
    below = defaultdict(set)  # the keys of an output, and of all that was made of it
    for prep, fit, first, second, dropped in steps:
        params = PARAMS | {"prep.x": prep, "fit.x": fit}
        fresh = pipelines(first, second).run(params, 1.0)
        kept = pipelines(first, second).run(params, 1.0, cache=cache)
        assert kept.value == fresh.value
        assert kept.observations == fresh.observations
        keys = [each.key for each in kept.stage_runs]
        for k, key in enumerate(keys):
            below[key] |= set(keys[k:])
        if dropped is not None:
            cache.discard(below[keys[dropped]])
