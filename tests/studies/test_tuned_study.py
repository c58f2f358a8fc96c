"""What shows itself in a notebook."""

import pickle

import optuna
import pytest
from looking import paid, study_of

from eeipu import Categorical, Float, Pipeline, Tuner, stage
from eeipu.studies.records.tuned_study import TunedStudy, study_html


@stage(
    space={"x": Float(0.0, 1.0), "kind": Categorical(["<b>", "c"])},
    name="<prep>",
    cost=lambda x, kind: 1.0,
)
def prep(data, *, x, kind):
    return data + x


@stage(space={"y": Float(0.0, 1.0, log=False)}, cost=lambda y: 2.0)
def fit(prepared, *, y):
    if y > 0.9:
        raise ValueError("<script>")
    return {"auc": prepared - y}


PIPELINE = Pipeline([prep, fit], objective="auc", name="<mine>")


@pytest.fixture(scope="module")
def tuner():
    tuner = Tuner(PIPELINE, budget=100.0, method="random", seed=0)
    tuner.enqueue({"<prep>.x": 0.5, "<prep>.kind": "<b>", "fit.y": 0.25})
    tuner.run(1.0, max_trials=2, progress=False)
    return tuner


def is_escaped(html):
    return not any(text in html for text in ("<prep>", "<mine>", "<script>", "<b></"))


def test_the_study_of_a_tuner_is_a_study_of_optuna_that_shows_itself(tuner):
    study = tuner.study

    assert isinstance(study, optuna.Study)
    assert isinstance(study, TunedStudy)
    html = study._repr_html_()
    assert "best auc <b>1.25</b>" in html
    assert "spent <b>6 of 100</b>" in html
    assert is_escaped(html)


def test_it_can_be_pickled():
    made = study_of({"value": 1.0})
    study = pickle.loads(pickle.dumps(TunedStudy(made.study_name, made._storage)))

    assert study.best_value == 1.0
    assert "best auc" in study._repr_html_()


def test_a_tuner_shows_its_study(tuner):
    assert tuner.study._repr_html_() in tuner._repr_html_()
    assert is_escaped(tuner._repr_html_())


def test_a_study_without_trials_shows_itself():
    assert "trials <b>none yet</b>" in study_html(study_of())


def test_a_pipeline_shows_its_stages_and_spaces():
    html = PIPELINE._repr_html_()

    assert "x: 0 to 1; kind: &lt;b&gt; | c" in html
    assert "declared" in html
    assert is_escaped(html)


def test_a_run_shows_costs_and_errors():
    good = PIPELINE.run({"<prep>.x": 0.5, "<prep>.kind": "c", "fit.y": 0.5}, 1.0)
    bad = PIPELINE.run({"<prep>.x": 0.5, "<prep>.kind": "c", "fit.y": 0.95}, 1.0)

    assert "auc <b>1</b>" in good._repr_html_()
    assert "ValueError: &lt;script&gt;" in bad._repr_html_()
    assert "value <b>none</b>" in bad._repr_html_()
    assert is_escaped(good._repr_html_() + bad._repr_html_())


def test_costs_of_seconds_have_their_unit():
    assert "spent <b>3 s</b>" in study_html(study_of({"value": 1.0, **paid(1.0, 2.0)}))
