"""What the caller of `tell` reports, as a trial keeps it."""

from typing import NamedTuple

import pandas as pd
import pytest

from eeipu import ConfigurationError, Float, Pipeline, Tuner

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def test_told_costs_have_names_that_tables_can_sort_by():
    tuner = Tuner(PIPELINE, budget=100.0, method="random", seed=0)
    tuner.tell(tuner.ask(), 1.0, stage_costs=[None, 2.0])

    attrs = tuner.study.trials[0].user_attrs

    assert (attrs["cost:fit"], attrs["reused:prep"], attrs["charged"]) == (2.0, 1, 2.0)
    assert "cost:prep" not in attrs


def test_a_suggestion_notes_why_it_was_chosen():
    tuner = Tuner(PIPELINE, budget=100.0, n_initial=2, seed=0)
    for _ in range(3):
        tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 2.0])

    chosen = [trial.user_attrs["chosen"]["by"] for trial in tuner.study.trials]

    assert chosen[:2] == ["warm-up", "warm-up"]


class Metrics(NamedTuple):
    loss: float
    f1: float


def several_objectives():
    pipeline = Pipeline.declare({"a": {"x": Float(0, 1)}}, objective=["f1", "loss"])
    return Tuner(pipeline, budget=9.0, directions=["maximize", "minimize"], seed=0)


@pytest.mark.parametrize(
    "value", [Metrics(loss=2.0, f1=0.5), pd.Series({"loss": 2.0, "f1": 0.5})], ids=type
)
def test_told_metrics_with_names_of_their_own_are_never_taken_by_position(value):
    tuner = several_objectives()
    tuner.tell(tuner.ask(), value, stage_costs=[1.0])
    assert tuner.study.trials[0].values == [0.5, 2.0]


def test_a_set_has_no_order_to_be_told_by():
    tuner = several_objectives()
    with pytest.raises(ConfigurationError, match="as a list or a dict"):
        tuner.tell(tuner.ask(), {0.5, 2.0}, stage_costs=[1.0])


@pytest.mark.parametrize("given", [{"prep": {"loss": None, "n": 2}}, {"prep.n": 2, "fit": None}])
def test_none_stands_for_nothing_observed(given):
    tuner = Tuner(PIPELINE, budget=100.0, method="random", seed=0)
    tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 2.0], observations=given)
    assert tuner.study.trials[0].user_attrs["observations"] == {"prep.n": 2.0}
