"""The pictures of a study, and their rows."""

import json
import math
import re
import subprocess
import sys

import pytest
from looking import BEGAN, add, paid, study_of
from optuna.trial import TrialState

import eeipu.report as report
from eeipu.errors import ConfigurationError, MissingExtraError
from eeipu.report.pictures.canvas import without_outliers
from eeipu.report.pictures.predictions import coverage
from eeipu.report.pictures.running_time import RunningTime

T = BEGAN.timestamp()


def columns(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def hill(x, y):
    """It depends much on y, little on x, and not on both together."""
    return 0.2 * x - (y - 0.5) ** 2


@pytest.fixture(scope="module")
def searched():
    """Thirty trials of a smooth function, whose costs double along x."""
    study = study_of()
    for k in range(30):
        x, y = (k * 0.618) % 1.0, (k * 0.755) % 1.0
        costs = paid(2.0**x, 0.5 + y, keys=(f"a{k}", f"b{k}"))
        add(study, hill(x, y), x=x, y=y, began_s=10.0 * k, took_s=5.0, **costs)
    return study


# --- the time axis


def test_pauses_are_left_out():
    time = RunningTime([(10.0, 20.0), (15.0, 25.0), (100.0, 110.0)])

    assert [time.at(t) for t in (0.0, 10.0, 20.0, 50.0, 105.0, 200.0)] == [0, 0, 10, 15, 20, 25]


def test_without_trials_there_is_no_time():
    assert RunningTime([]).at(5.0) == 0.0


# --- the best value


def test_the_best_value_follows_the_order_in_which_trials_end():
    study = study_of(
        {"value": 1.0, "began_s": 0.0, "took_s": 9.0, **paid(1.0, 2.0)},
        {"value": 3.0, "began_s": 0.0, "took_s": 4.0, **paid(1.0, 1.0), "chosen": {"by": "models"}},
        {"began_s": 9.0, "took_s": 1.0, **paid(5.0, 0.0)},
    )

    rows = report.best_rows(study)

    assert columns(rows, "number", "value", "best", "spent", "elapsed_s", "chosen_by") == [
        (1, 3.0, 3.0, 2.0, 4.0, "models"),
        (0, 1.0, 3.0, 5.0, 9.0, None),
        (2, None, 3.0, 10.0, 10.0, None),
    ]


def test_what_another_study_has_paid_for_is_not_spent_here():
    told = {"eeipu:id": "mine"}
    trials = [{"value": 1.0, **paid(1.0, 2.0, study=who)} for who in ("theirs", "mine")]
    study = study_of(*trials, **told)

    assert columns(report.best_rows(study), "spent") == [(0.0,), (3.0,)]
    assert columns(report.savings_rows(study), "total_spent") == [(0.0,), (3.0,)]


def test_where_less_is_better_the_best_falls():
    study = study_of({"value": 2.0}, {"value": 1.0}, {"value": 3.0}, direction="minimize")

    assert columns(report.best_rows(study), "best") == [(2.0,), (1.0,), (1.0,)]


def test_the_best_value_is_drawn_over_budget_and_over_time(searched):
    over_budget = report.best_figure(searched)
    over_time = report.best_figure(searched, over="time")

    curve = over_budget.data[-1]
    assert curve.line.shape == "hv"
    assert list(curve.y) == [row["best"] for row in report.best_rows(searched)]
    assert over_time.data[-1].x[-1] == 150.0


def test_far_values_are_left_out_and_counted():
    study = study_of(*({"value": v} for v in (1.0, 1.1, 1.2, 1.3, 1.4, -1000.0)))

    figure = report.best_figure(study)

    assert figure.layout.yaxis.range[0] > 0.0
    assert figure.layout.yaxis.range[1] > 1.4
    assert figure.layout.title.subtitle.text == "1 far value is left out"


def test_the_way_to_the_best_value_is_not_far():
    values = (0.0235, 0.0219, 0.1, 0.0168, 0.0177, 0.0726, 0.0182, 0.0168, 0.0185, 0.0167)
    study = study_of(*({"value": v} for v in values), direction="minimize")

    figure = report.best_figure(study)

    assert 0.0235 < figure.layout.yaxis.range[1] < 0.0726
    assert figure.layout.title.subtitle.text == "2 far values are left out"


def test_where_most_values_are_bad_those_near_the_best_have_room():
    study = study_of(*({"value": v} for v in (1.0, 1.1, 1.2, 1.15, -500.0, -700.0, -900.0)))

    figure = report.best_figure(study)

    assert figure.layout.yaxis.range[0] > 0.0
    assert figure.layout.title.subtitle.text == "3 far values are left out"


def test_values_of_which_none_is_far_are_all_seen_whole():
    study = study_of(*({"value": v} for v in (-0.67, -0.38, -0.89, -0.12, -0.21, -0.47)))

    assert report.best_figure(study).layout.yaxis.range is None


def test_a_best_value_far_from_the_others_stays_inside():
    study = study_of(*({"value": v} for v in (1.0, 1.1, 1.2, 1.3, 1000.0)))

    bounds = report.best_figure(study).layout.yaxis.range

    assert bounds is None or bounds[1] > 1000.0


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [1.0, 2.0, 3.0]])
def test_where_nothing_is_far_the_range_is_plotlys(values):
    assert without_outliers(values) is None


# --- costs


def test_costs_are_told_with_what_was_free_and_what_that_had_cost():
    study = study_of(
        {"value": 1.0, **paid(4.0, 2.0, keys="ab"), "overhead": 0.5},
        {"value": 1.0, **paid(None, 3.0, keys="ac")},
        {"value": 1.0, **paid(None, 3.0, keys="zc")},
    )

    rows = report.cost_rows(study)

    assert columns(rows, "number", "stage", "part", "cost", "reused", "saved") == [
        (0, "prep", "stage", 4.0, False, None),
        (0, "fit", "stage", 2.0, False, None),
        (0, None, "choosing", 0.5, False, None),
        (1, "prep", "stage", None, True, 4.0),
        (1, "fit", "stage", 3.0, False, None),
        (2, "prep", "stage", None, True, None),
        (2, "fit", "stage", 3.0, False, None),
    ]
    names = [trace.name for trace in report.cost_figure(study).data]
    assert names == ["prep", "prep, reused", "fit", "choosing"]


def test_savings_add_up():
    study = study_of(
        {"value": 1.0, **paid(4.0, 2.0)},
        {"value": 1.0, "began_s": 1.0, **paid(None, 3.0), "saved": 4.0},
    )

    rows = report.savings_rows(study)

    assert columns(rows, "saved", "total_saved", "total_spent") == [(0, 0, 6), (4, 4, 9)]
    paid_curve, whole = report.savings_figure(study).data
    assert (list(paid_curve.y), list(whole.y)) == ([6, 9], [6, 13])


# --- the timeline


def test_calls_that_overlap_are_in_lanes_of_their_own():
    study = study_of(
        {
            "value": 1.0,
            "took_s": 9.0,
            "suggest_s": 1.0,
            "ran": [["prep", T + 1, T + 4], ["fit", T + 4, T + 9]],
        },
        {"value": 1.0, "began_s": 1.0, "took_s": 5.0, "ran": [["prep", T + 2, T + 6]]},
    )

    rows = report.timeline_rows(study)

    assert columns(rows, "number", "stage", "lane", "began_s", "ended_s") == [
        (0, "prep", 1, 1.0, 4.0),
        (1, "prep", 2, 2.0, 6.0),
        (0, "fit", 1, 4.0, 9.0),
        (0, None, "search", 0.0, 1.0),
    ]
    figure = report.timeline_figure(study)
    assert {trace.name for trace in figure.data} == {"prep", "fit", "choosing"}
    assert list(figure.layout.yaxis.categoryarray) == ["search", "worker 2", "worker 1"]


def test_a_choice_lies_before_the_stages_of_its_trial():
    study = study_of({"value": 1.0, "took_s": 4.0, "asked_at": T - 3.0, "suggest_s": 2.5})

    (stages, choice) = report.timeline_rows(study)

    assert (choice["lane"], choice["began_s"], choice["ended_s"]) == ("search", 0.0, 2.5)
    assert (stages["began_s"], stages["ended_s"]) == (3.0, 7.0)


def test_a_trial_that_did_not_record_its_calls_is_one_bar():
    rows = report.timeline_rows(study_of({"value": 1.0, "took_s": 3.0}))

    assert columns(rows, "stage", "lane", "began_s", "ended_s") == [(None, 1, 0.0, 3.0)]
    [bars] = report.timeline_figure(study_of({"value": 1.0, "took_s": 3.0})).data
    assert bars.name == "whole trial"


def test_training_has_the_colour_of_its_stage():
    study = study_of({"value": 1.0, "ran": [["fit@8", T, T + 1], ["fit@evaluation", T + 1, T + 2]]})

    assert len({trace.marker.color for trace in report.timeline_figure(study).data}) == 1


# --- models


def test_importance_is_that_of_the_function(searched):
    rows = {(row["stage"], row["param"]): row["share"] for row in report.importance_rows(searched)}

    # Var of 0.2 x is 0.04 / 12, and of (y - 0.5)^2 it is 1 / 180.
    of_x = (0.04 / 12) / (0.04 / 12 + 1 / 180)
    assert rows["prep", "x"] == pytest.approx(of_x, abs=0.05)
    assert rows["fit", "y"] == pytest.approx(1.0 - of_x, abs=0.05)
    assert rows["prep", None] == pytest.approx(rows["prep", "x"])
    assert len(report.importance_figure(searched).data) == 2


def test_importance_of_a_constant_is_nothing():
    study = study_of(*({"value": 1.0, "x": k / 9, "y": 1 - k / 9} for k in range(10)))

    assert all(row["share"] == 0.0 for row in report.importance_rows(study))


def test_smooth_functions_are_predicted(searched):
    rows = report.prediction_rows(searched)

    for stage in (None, "prep", "fit"):
        own = [row for row in rows if row["stage"] == stage]
        assert [row["number"] for row in own] == list(range(30))
        assert all(row["low"] <= row["predicted"] <= row["high"] for row in own)
        errors = [abs(row["predicted"] - row["observed"]) for row in own]
        spread = max(row["observed"] for row in own) - min(row["observed"] for row in own)
        assert sorted(errors)[15] < 0.05 * spread
    assert [row["observed"] for row in rows[:2]] == pytest.approx(
        [trial.value for trial in searched.trials[:2]]
    )
    assert rows[30]["observed"] == pytest.approx(1.0)  # seconds, not their logarithms


def test_values_to_minimise_keep_their_sign(searched):
    study = study_of(direction="minimize")
    for trial in searched.trials:
        add(study, -trial.value, x=trial.params["prep.x"], y=trial.params["fit.y"])

    mirrored, rows = report.prediction_rows(study), report.prediction_rows(searched)

    assert mirrored[3]["observed"] == pytest.approx(-rows[3]["observed"])
    assert mirrored[3]["low"] == pytest.approx(-rows[3]["high"], abs=1e-3)
    assert all(row["low"] <= row["high"] for row in mirrored)


def test_coverage_is_the_share_inside():
    rows = [{"observed": 1.0, "low": low, "high": 2.0} for low in (0.0, 1.0, 1.5, 1.7)]

    assert coverage(rows) == 0.5


def test_predictions_are_drawn_of_values_and_of_costs(searched):
    of_value = report.prediction_figure(searched)
    of_cost = report.prediction_figure(searched, "prep")

    assert of_value.layout.xaxis.type is None
    assert of_cost.layout.xaxis.type == "log"
    note = of_cost.layout.title.subtitle.text
    assert re.fullmatch(r"\d+ of 30 lie in their 90 % intervals", note)
    with pytest.raises(ConfigurationError, match="no cost of a stage 'other'"):
        report.prediction_figure(searched, "other")


def test_bad_values_that_the_model_compresses_are_said_to_be():
    values = [0.0235, 0.0219, 100.0, 0.0168, 0.0177, 70.0, 0.0182, 0.0168, 0.0185, 0.0167]
    places = [((k * 0.618) % 1.0, (k * 0.755) % 1.0) for k in range(10)]
    study = study_of(
        *({"value": v, "x": x, "y": y} for v, (x, y) in zip(values, places, strict=True)),
        direction="minimize",
    )

    note = report.prediction_figure(study).layout.title.subtitle.text

    assert max(row["observed"] for row in report.prediction_rows(study)) < 1.0
    assert note.endswith("intervals; bad values are drawn nearer, as the model takes them")


# --- choices

CHOSEN = {
    "by": "models",
    "reuses": ["prep"],
    "improvement": 0.25,
    "mean": 1.0,
    "std": 0.5,
    "cost": 2.0,
    "instead": [
        {"reuses": [], "improvement": 0.5, "mean": 2.0, "std": 0.1, "cost": 9.0, "score": -1.0}
    ],
}


def test_choices_are_told_with_what_came_of_them():
    study = study_of(
        {"value": 0.5, "chosen": {"by": "warm-up"}},
        {"value": 1.5, **paid(None, 3.0), "chosen": CHOSEN},
    )

    rows = report.choice_rows(study)

    assert columns(rows, "number", "is_chosen", "reuses", "improvement", "score", "value") == [
        (1, True, ["prep"], 0.25, 0.0, 1.5),
        (1, False, [], 0.5, -1.0, None),
    ]
    predicted, came = report.choice_figure(study).data
    assert (list(predicted.y), list(came.y)) == ([1.0], [1.5])


def test_a_far_value_of_a_choice_is_counted():
    values = {1.0: 1.1, 1.1: 1.0, 1.2: 1.3, 1.3: 1.2, 1.4: -1000.0}
    study = study_of(
        *({"value": v, "chosen": CHOSEN | {"mean": mean}} for mean, v in values.items())
    )

    figure = report.choice_figure(study)

    assert figure.layout.title.subtitle.text == "1 far value is left out"


def test_why_a_trial_was_chosen_is_a_bar_for_each_alternative():
    study = study_of({"value": 1.5, "chosen": CHOSEN})

    figure = report.why_figure(study, 0)

    assert list(figure.data[0].x) == pytest.approx([math.exp(-1.0), 1.0])
    texts = [note.text for note in figure.layout.annotations]
    assert texts[1] == "<b>reuse prep</b><br>EI 0.25 · cost 2 s"
    with pytest.raises(ConfigurationError, match="not noted why trial 5"):
        report.why_figure(study, 5)


# --- learning curves


def test_learning_curves_come_from_reports():
    study = study_of(
        {"value": 1.0, "reports": {2: 0.5, 1: 0.25}},
        {"state": TrialState.PRUNED, "reports": {1: 0.1, 2: 0.0}},
    )

    rows = report.learning_rows(study)

    assert columns(rows, "number", "state", "step", "value") == [
        (0, "complete", 1, 0.25),
        (0, "complete", 2, 0.5),
        (1, "pruned", 1, 0.1),
        (1, "pruned", 2, 0.0),
    ]
    stopped, best = report.learning_figure(study).data
    assert (stopped.line.dash, best.name) == ("dot", "trial 0, the best")


# --- all of them

FIGURES = [
    report.best_figure,
    report.cost_figure,
    report.savings_figure,
    report.timeline_figure,
    report.importance_figure,
    report.prediction_figure,
    report.choice_figure,
    report.learning_figure,
]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_study_without_trials_has_nothing_to_draw(figure):
    with pytest.raises(ConfigurationError, match="'by hand'"):
        figure(study_of())


@pytest.mark.parametrize("figure", FIGURES)
def test_a_missing_plotly_is_told_with_the_extra_to_install(figure, searched, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    study = searched
    if figure in (report.choice_figure, report.learning_figure):
        study = study_of({"value": 1.0, "chosen": CHOSEN, "reports": {1: 1.0, 2: 1.0}})

    with pytest.raises(MissingExtraError, match=r'pip install "eeipu\[report\]"'):
        figure(study)


def test_rows_are_plain(searched):
    record = report.StudyRecord.of(searched)

    for rows in (
        report.best_rows(record),
        report.cost_rows(record),
        report.savings_rows(record),
        report.timeline_rows(record),
        report.importance_rows(record),
        report.prediction_rows(record),
    ):
        assert json.loads(json.dumps(rows)) == rows


def test_importing_the_report_loads_neither_plotly_nor_torch():
    code = """
import sys, eeipu.report, eeipu.__main__
assert not {"plotly", "torch", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@pytest.mark.parametrize("values", [[math.inf], [math.inf, 1.0, 2.0, -math.inf], []])
def test_infinite_values_leave_room_for_the_others(values):
    study = study_of(*({"value": value} for value in [*values, 3.0]))

    bounds = report.best_figure(study).layout.yaxis.range

    assert bounds is None or all(map(math.isfinite, bounds))
