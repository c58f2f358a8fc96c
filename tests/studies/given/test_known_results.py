"""Studies that begin with results from elsewhere."""

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial
from toys import Toy, config

from eeipu import (
    ConfigurationError,
    Float,
    OneOf,
    Optional,
    Pipeline,
    SpaceError,
    StageCache,
    Tuner,
    stage,
)
from eeipu.methods.history import History
from eeipu.report.figures import plot_best_over_budget

SPACES = {"prep": {"x": Float(0.0, 1.0)}, "fit": {"y": Float(0.0, 1.0)}}


def declared_tuner(**options):
    return Tuner(Pipeline.declare(SPACES), budget=100.0, seed=0, **{"n_initial": 3, **options})


def point(x, y=0.5):
    return {"prep.x": x, "fit.y": y}


def test_a_known_result_is_data_and_costs_nothing():
    tuner = declared_tuner()
    tuner.add_trial(point(0.25), 1.5, stage_costs=[3.0, None])
    history = History.of(tuner.study, tuner.pipeline)

    assert tuner.spent == 0.0
    assert tuner.remaining == 100.0
    assert history.values.tolist() == [1.5]
    np.testing.assert_array_equal(history.stages.costs, [[3.0, np.nan]])
    assert not history.configurations.is_new(point(0.25))
    (trial,) = tuner.study.trials
    assert trial.params == point(0.25)
    assert trial.user_attrs["charged"] == 0.0
    assert trial.user_attrs["memoized"] == [False, False]


def test_optunas_own_added_trials_are_data_and_cost_nothing():
    tuner = declared_tuner()
    for x in (0.1, 0.4, 0.7):
        trial = create_trial(params=point(x), distributions=tuner.pipeline.space, value=x)
        tuner.study.add_trial(trial)
    history = History.of(tuner.study, tuner.pipeline)

    assert tuner.spent == 0.0
    assert history.values.tolist() == [0.1, 0.4, 0.7]
    assert np.isnan(history.stages.costs).all()
    assert len(tuner.ask().params) == 2


def test_known_results_are_the_warm_up():
    def asked(results):
        tuner = declared_tuner()
        for x in results:
            tuner.add_trial(point(x), -((x - 0.5) ** 2), stage_costs=[1.0, 1.0])
        return tuner.ask().params

    # As many results as the warm-up has trials: models choose, and the results matter.
    assert asked([0.1, 0.5]) == asked([0.2, 0.5])
    assert asked([0.1, 0.5, 0.9]) != asked([0.2, 0.5, 0.9])


def test_a_run_goes_on_from_known_results_and_pays_for_its_own_trials_alone(capsys):
    tuner = Tuner(Toy().pipeline, budget=20.0, seed=0, n_initial=3)
    for x in (0.1, 0.5, 0.9):
        tuner.add_trial(config(x=x), -x)
    tuner.add_trial(config(x=0.25, y=0.75), 1.0, stage_costs=[400.0, 200.0, 50.0])
    study = tuner.run(0.0)

    own = study.trials[4:]
    assert tuner.spent == sum(trial.user_attrs["charged"] for trial in own) >= 20.0
    assert study.best_trial.number == 3
    assert study.trials[0].user_attrs["stage_costs"] == [4.0, 2.0, 0.5]  # as declared
    line = capsys.readouterr().err.splitlines()[-len(own)]
    assert line.startswith("trial 4: value")
    assert "best 1, reused nothing, charged 6.5, spent 6.5 of 20" in line


def test_the_best_run_may_be_a_known_result():
    toy = Toy()
    tuner = Tuner(toy.pipeline, budget=20.0, seed=0, cache=StageCache())
    tuner.add_trial(config(x=0.25, y=0.75), 1.0, stage_costs=[400.0, 200.0, 50.0])
    best = tuner.best_run(0.0)

    assert best.value == 1.0
    assert best.charged == 0.0
    assert best.stage_costs == [400.0, 200.0, 50.0]
    assert best.outputs["prep"] == 0.0  # runs now
    assert toy.counts == {"prep": 1}


def test_figures_charge_nothing_for_them():
    tuner = Tuner(Toy().pipeline, budget=12.0, seed=0, n_initial=2)
    tuner.add_trial(config(x=0.5), 0.5, stage_costs=[400.0, 200.0, 50.0])
    other = optuna.create_study(direction="maximize")
    attrs = {"charged": 650.0, "study": "another study"}
    tuner.study.add_trial(
        create_trial(
            params=config(x=0.75), distributions=tuner.pipeline.space, value=0.25, user_attrs=attrs
        )
    )
    study = tuner.run(0.0, progress=False)
    (line,) = [
        line for line in plot_best_over_budget({"it": study}).lines if len(line.get_xdata()) > 2
    ]

    assert other.trials == []
    assert list(line.get_xdata())[:3] == [0.0, 0.0, 6.5]
    assert list(line.get_xdata())[-1] == tuner.spent
    assert list(line.get_ydata())[:2] == [0.5, 0.5]


def test_a_script_that_adds_its_results_again_changes_nothing(tmp_path):
    for _ in range(2):
        tuner = declared_tuner(storage=f"sqlite:///{tmp_path}/s.db", study_name="s")
        tuner.add_trial(point(0.25), 1.5, stage_costs=[3.0, 0.1 + 0.2])
        tuner.add_trial(point(0.25), 1.25)  # the same configuration, measured again
        assert len(tuner.study.trials) == 2


def test_they_cannot_be_told_nor_run_again():
    tuner = declared_tuner()
    tuner.add_trial(point(0.25), 1.5)
    assert tuner.retry_failed() == 0
    tuner.enqueue(point(0.25))  # it is known
    assert [trial.state for trial in tuner.study.trials] == [TrialState.COMPLETE]


@pytest.mark.parametrize(
    "value", [1, np.float32(1.0), np.int64(1), np.array([1.0]), torch.tensor(1.0)]
)
def test_a_value_is_any_kind_of_number(value):
    tuner = declared_tuner()
    tuner.add_trial({"prep.x": np.float64(0.25), "fit.y": 0.5}, value)
    assert tuner.study.best_value == 1.0


def test_the_objective_is_one_of_the_metrics():
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def fit(*, x):
        return {"f1": x, "loss": 1 - x}

    tuner = Tuner(Pipeline([fit], objective="f1"), budget=10.0, seed=0)
    tuner.add_trial({"fit.x": 0.25}, {"f1": 0.25, "loss": 0.75})
    tuner.add_trial({"fit.x": 0.5}, 0.5)  # the objective alone

    assert [trial.value for trial in tuner.study.trials] == [0.25, 0.5]
    assert tuner.study.trials[0].user_attrs["metrics"] == {"f1": 0.25, "loss": 0.75}
    with pytest.raises(ConfigurationError, match=r"metrics \['loss'\], and .* is 'f1'"):
        tuner.add_trial({"fit.x": 0.75}, {"loss": 0.1})


@pytest.mark.parametrize(
    ("params", "value", "costs", "message"),
    [
        ({"prep.x": 0.5}, 1.0, None, r"missing: \['fit.y'\]"),
        ({**point(0.5), "z": 1}, 1.0, None, r"unknown: \['z'\]"),
        (point(1.5), 1.0, None, "outside"),
        (point(0.9, 0.9), 1.0, None, r"violates constraints\[0\]"),
        (point(0.5), float("nan"), None, "finite number, but got nan"),
        (point(0.5), float("inf"), None, "finite number, but got inf"),
        (point(0.5), None, None, "finite number, but got None"),
        (point(0.5), "1.0", None, "finite number, but got '1.0'"),
        (point(0.5), True, None, "finite number, but got True"),
        (point(0.5), [1.0, 2.0], None, "finite number"),
        (point(0.5), np.array([1.0, 2.0]), None, "finite number"),
        (point(0.5), {"f1": 1.0}, None, "objective is None"),
        (point(0.5), 1.0, [1.0], "2 entries, one for each of the stages"),
        (point(0.5), 1.0, {"prep": 1.0, "fit": 1.0}, "2 entries, one for each"),
        (point(0.5), 1.0, 3.0, "2 entries, one for each"),
        (point(0.5), 1.0, [1.0, -1.0], "stage 'fit' must be finite and not negative"),
        (point(0.5), 1.0, [float("nan"), 1.0], "stage 'prep' must be finite"),
    ],
)
def test_what_is_no_result_is_refused_before_anything_is_written(params, value, costs, message):
    pipeline = Pipeline.declare(SPACES, constraints=[lambda p: p["prep.x"] + p["fit.y"] <= 1.6])
    tuner = Tuner(pipeline, budget=10.0, seed=0)
    with pytest.raises(ConfigurationError, match=message):
        tuner.add_trial(params, value, stage_costs=costs)
    assert tuner.study.trials == []
    assert issubclass(SpaceError, ConfigurationError)


def test_costs_may_be_an_array():
    tuner = declared_tuner()
    tuner.add_trial(point(0.5), 1.0, stage_costs=np.array([1.0, 2.0]))
    assert tuner.study.trials[0].user_attrs["stage_costs"] == [1.0, 2.0]


def test_the_expected_overhead_is_that_of_own_choices():
    tuner = Tuner(Pipeline.declare(SPACES), budget=100.0, overhead=2.0, seed=0, n_initial=1)
    tuner.add_trial(point(0.5), 1.0, stage_costs=[1.0, 1.0])
    tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 1.0])
    assert tuner.spent == 4.0


# --- Where there are alternatives


def alternatives():
    def named(name, cost):
        return stage(
            lambda data, *, x: data + x,
            name=name,
            space={"x": Float(0.0, 1.0)},
            cost=lambda x: cost,
            version="1",
        )

    model = OneOf("model", [named("tree", 10.0), named("net", 20.0)])
    return Pipeline([named("prep", 1.0), model, Optional(named("scale", 5.0)), named("score", 2.0)])


NET = {"prep.x": 0.25, "model": "net", "net.x": 0.5, "scale": "nothing", "score.x": 0.0}


@pytest.mark.parametrize("given", [NET, NET | {"tree.x": 0.125}])
def test_a_known_result_has_the_parameters_and_costs_of_what_was_chosen(given):
    tuner = Tuner(alternatives(), budget=100.0, seed=0)
    for _ in range(2):
        tuner.add_trial(given, 0.75)

    (trial,) = tuner.study.trials
    assert trial.params == NET
    assert trial.user_attrs["stage_costs"] == [1.0, None, 20.0, None, 2.0]
    assert trial.user_attrs["memoized"] == [False, True, False, True, False]
    history = History.of(tuner.study, tuner.pipeline)
    assert history.stages.total_costs.tolist() == [23.0]
    best = tuner.best_run(0.0)
    assert (best.value, best.outputs["score"]) == (0.75, 0.75)
    assert best.left_out == {"tree", "scale"}
    assert best.memoized == [False, True, False, True, False]


def test_what_is_left_out_costs_nothing():
    tuner = Tuner(alternatives(), budget=100.0, seed=0)
    tuner.add_trial(NET, 0.75, stage_costs=[1.0, 0.0, 20.0, None, 2.0])
    assert tuner.study.trials[0].user_attrs["stage_costs"] == [1.0, None, 20.0, None, 2.0]
    with pytest.raises(ConfigurationError, match="the cost of stage 'tree' is 3"):
        tuner.add_trial(NET, 0.5, stage_costs=[1.0, 3.0, 20.0, None, 2.0])
