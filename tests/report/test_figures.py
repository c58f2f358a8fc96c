"""Figures of hand-made studies."""

import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from eeipu import ConfigurationError, MissingExtraError
from eeipu.report.figures import plot_best_over_budget


def study_of(*trials, direction="maximize"):
    """A study of trials given as (value, charged); no value is a failure."""
    study = optuna.create_study(direction=direction)
    for value, charged in trials:
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, user_attrs={"charged": charged}))
    return study


def curve(axes, label):
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return np.column_stack(line.get_data()).tolist()


def marks(axes, marker):
    """The points drawn with a marker, of which the legend's own has none."""
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [np.column_stack(line.get_data()).tolist()[0] for line in lines if len(line.get_xdata())]


def test_the_curve_is_the_best_value_over_what_was_spent():
    study = study_of((1.0, 2.0), (3.0, 1.0), (2.0, 4.0), (5.0, 0.5))

    axes = plot_best_over_budget({"mine": study})

    assert curve(axes, "mine") == [[2.0, 1.0], [3.0, 3.0], [7.0, 3.0], [7.5, 5.0]]


def test_where_less_is_better_the_curve_falls():
    study = study_of((4.0, 1.0), (5.0, 1.0), (3.0, 1.0), direction="minimize")

    axes = plot_best_over_budget({"mine": study})

    assert curve(axes, "mine") == [[1.0, 4.0], [2.0, 4.0], [3.0, 3.0]]


def test_a_failed_trial_counts_by_its_cost():
    study = study_of((1.0, 1.0), (None, 2.0), (2.0, 3.0))

    axes = plot_best_over_budget({"mine": study})

    assert curve(axes, "mine") == [[1.0, 1.0], [3.0, 1.0], [6.0, 2.0]]


def test_nothing_is_drawn_before_the_first_success():
    axes = plot_best_over_budget({"mine": study_of((None, 2.0), (1.0, 3.0))})

    (_, before), (spent, after) = curve(axes, "mine")
    assert np.isnan(before)
    assert (spent, after) == (5.0, 1.0)


def test_a_running_trial_is_left_out():
    study = study_of((1.0, 1.0))
    study.ask().set_user_attr("charged", 100.0)

    assert curve(plot_best_over_budget({"mine": study}), "mine") == [[1.0, 1.0]]


def test_the_value_changes_where_the_trial_ends_and_not_before():
    [line, *_] = plot_best_over_budget({"mine": study_of((1.0, 1.0), (2.0, 1.0))}).get_lines()

    assert line.get_drawstyle() == "steps-post"


def test_the_final_points_are_annotated():
    axes = plot_best_over_budget({"a": study_of((0.95, 1.0)), "b": study_of((0.5, 2.0))})

    assert [(text.get_text(), text.xy) for text in axes.texts] == [
        ("0.9500", (1.0, 0.95)),
        ("0.5000", (2.0, 0.5)),
    ]
    assert marks(axes, "o") == [[1.0, 0.95], [2.0, 0.5]]


def test_equal_final_values_are_written_one_above_the_other():
    axes = plot_best_over_budget({"a": study_of((1.0, 1.0)), "b": study_of((1.0, 1.0))})

    assert [text.get_verticalalignment() for text in axes.texts] == ["bottom", "top"]


def test_the_end_of_the_warm_up_is_marked_on_each_curve():
    studies = {
        "a": study_of((1.0, 1.0), (3.0, 1.0), (4.0, 1.0)),
        "b": study_of((2.0, 5.0), (1.0, 5.0), (3.0, 1.0)),
    }

    axes = plot_best_over_budget(studies, warm_up=2)

    assert marks(axes, "D") == [[2.0, 3.0], [10.0, 2.0]]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["a", "b", "end of warm-up"]


@pytest.mark.parametrize("warm_up", [None, 0])
def test_without_a_warm_up_nothing_is_marked(warm_up):
    axes = plot_best_over_budget({"a": study_of((1.0, 1.0))}, warm_up=warm_up)

    assert marks(axes, "D") == []
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a"]


def test_curves_differ_in_colour_and_in_dashes():
    studies = {name: study_of((1.0, 1.0), (2.0, 1.0)) for name in "abcd"}

    lines = [
        line for line in plot_best_over_budget(studies).get_lines() if line.get_label()[0] in "abcd"
    ]

    assert len({line.get_color() for line in lines}) == 4
    assert len({line.get_linestyle() for line in lines}) == 4


def test_it_draws_on_the_axes_it_is_given():
    from matplotlib.figure import Figure

    given = Figure().add_subplot()

    assert plot_best_over_budget({"a": study_of((1.0, 1.0))}, ax=given) is given
    assert given.get_lines()


def test_several_studies_of_a_label_are_drawn_with_their_mean():
    seeds = [study_of((1.0, 1.0), (3.0, 2.0)), study_of((2.0, 2.0), (6.0, 3.0))]

    axes = plot_best_over_budget({"a": seeds})

    (_, before), *mean = curve(axes, "a, mean of 2")
    assert np.isnan(before)  # one of them has no value yet
    assert mean == [[2.0, 1.5], [3.0, 2.5], [5.0, 4.5]]
    thin = [line for line in axes.get_lines() if line.get_linewidth() < 1.0]
    assert [np.column_stack(line.get_data()).tolist() for line in thin] == [
        [[1.0, 1.0], [3.0, 3.0]],
        [[2.0, 2.0], [5.0, 6.0]],
    ]
    assert [text.get_text() for text in axes.texts] == ["4.500"]


def test_a_new_figure_can_be_saved_without_pyplot(tmp_path):
    code = f"""
import sys, optuna
from optuna.trial import create_trial
from eeipu.report.figures import plot_best_over_budget
study = optuna.create_study()
study.add_trial(create_trial(value=1.0, user_attrs={{"charged": 1.0}}))
plot_best_over_budget({{"a": study}}, warm_up=1).figure.savefig({str(tmp_path / "a.png")!r})
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_there_must_be_a_study():
    with pytest.raises(ConfigurationError, match="nothing to plot"):
        plot_best_over_budget({})


@pytest.mark.parametrize(
    "trials", [[], [(None, 1.0)], [(1.0, 0.0)]], ids=["no trial", "no success", "no charge"]
)
def test_a_study_without_a_curve_is_named(trials):
    with pytest.raises(ConfigurationError, match="'mine' has no successful trial"):
        plot_best_over_budget({"mine": study_of(*trials)})


def test_a_missing_matplotlib_is_told_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(MissingExtraError, match=r'pip install "eeipu\[plots\]"'):
        plot_best_over_budget({"a": study_of((1.0, 1.0))})
