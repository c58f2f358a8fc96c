"""The warm-up designs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from eeipu import Categorical, Float, Int, Pipeline
from eeipu.methods.budget import PAID_BY, STUDY_ID, Budget
from eeipu.methods.climbing.maximisation import quasi_random
from eeipu.methods.history import History
from eeipu.methods.search_state import Search
from eeipu.methods.warm_up import (
    INITIAL_SHARE,
    LARGEST_SHARE,
    LEAST_SUCCESSES,
    LEAST_TRIALS,
    USUAL_TRIALS,
    _cheap_and_far,
    _distances,
    cost_effective,
    design_for,
    in_order,
    independent,
    next_point,
    no_design,
    prefix_sharing,
    spread_out,
    within_budget,
)
from eeipu.stages.declaration import Stage

PIPELINE = Pipeline.declare(
    {
        "prep": {"a": Float(0, 1), "b": Int(1, 50)},
        "split": {},
        "train": {"c": Float(0, 1)},
        "score": {"d": Categorical(["x", "y"]), "e": Float(0, 1)},
    }
)


def search_of(
    points=(),
    *,
    number=0,
    n_initial=10,
    seed=0,
    cost=lambda x: 1.0,
    budget=1e3,
    free=False,
    pipeline=PIPELINE,
):
    """A search whose trials so far ran at these points of the cube."""
    study = optuna.create_study()
    for point in points:
        params = pipeline.cube.decode(point)
        costs = [0.0] * 4 if free else [cost(point), 1.0, 1.0, 1.0]
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=pipeline.space,
                value=0.0,
                user_attrs={"stage_costs": costs, "charged": sum(costs)},
            )
        )
    return Search(History.of(study, pipeline), Budget(budget), n_initial, number, seed)


def pipeline_of(sizes, not_kept=()):
    """Stages with so many hyper-parameters each; the outputs of some are not kept."""
    stages = [
        Stage(f"s{k}", {f"x{i}": Float(0, 1) for i in range(size)}, memoize=k not in not_kept)
        for k, size in enumerate(sizes)
    ]
    return Pipeline(stages)


def design_of(design, n, **arguments):
    return np.array([design(search_of(number=i, **arguments)) for i in range(n)])


def test_independent_points_are_a_scrambled_sobol_sequence():
    points = design_of(independent, 8, seed=3)

    assert np.array_equal(points, quasi_random(5, 8, seed=3))


@pytest.mark.parametrize("design", [independent, prefix_sharing])
def test_it_is_over_after_its_trials(design):
    ended = quasi_random(5, 3, seed=0)

    assert design(search_of(ended[:2], number=2, n_initial=3)) is not None
    assert design(search_of(ended, number=3, n_initial=3)) is None


def test_early_stages_get_fewer_settings_than_late_ones():
    points = design_of(prefix_sharing, 12)
    settings = [
        len(np.unique(points[:, list(columns)], axis=0))
        for columns in PIPELINE.columns.of_stages
        if columns
    ]

    assert settings == [6, 9, 12]  # the stage without hyper-parameters has no settings


@pytest.mark.parametrize(("stages", "expected"), [(2, [8, 16]), (5, [8, 10, 12, 14, 16])])
def test_the_number_of_settings_grows_evenly_from_stage_to_stage(stages, expected):
    pipeline = pipeline_of([1] * stages)
    points = design_of(prefix_sharing, 16, pipeline=pipeline)

    assert [len(np.unique(column)) for column in points.T] == expected


@pytest.mark.parametrize("stages", [4, 5])
def test_settings_of_different_stages_are_not_confounded(stages):
    pipeline = pipeline_of([2] * stages)
    correlations = [
        np.corrcoef(design_of(prefix_sharing, 32, pipeline=pipeline, seed=seed).T)
        for seed in range(20)
    ]
    between = np.kron(np.eye(stages), np.ones((2, 2))) == 0  # columns of two stages

    # With a sequence for each stage, those of neighbours are .74 on average.
    assert np.abs(correlations).mean(axis=0)[between].max() < 0.35


def test_a_stage_whose_output_is_not_kept_moves_with_the_next_one():
    points = design_of(prefix_sharing, 16, pipeline=pipeline_of([1, 1, 1], not_kept=(1,)))

    assert [len(np.unique(column)) for column in points.T] == [8, 16, 16]


def test_no_configuration_repeats_where_the_last_stage_has_no_hyper_parameters():
    points = design_of(prefix_sharing, 16, pipeline=pipeline_of([1, 1, 0]))

    assert len(np.unique(points, axis=0)) == 16


def test_trials_with_the_same_prefix_follow_one_another():
    points = design_of(prefix_sharing, 12)

    for end in (2, 3):
        new = (np.diff(points[:, :end], axis=0) != 0).any(axis=1)
        assert len(np.unique(points[:, :end], axis=0)) == 1 + new.sum()


def test_every_start_of_a_longer_design_is_the_shorter_one():
    assert np.array_equal(design_of(prefix_sharing, 12)[:7], design_of(prefix_sharing, 7))


def test_the_settings_of_each_stage_fill_its_space():
    first = np.unique(design_of(prefix_sharing, 32)[:, :2], axis=0)

    assert len(first) == 16
    quarters = {tuple(row) for row in (first * 2).astype(int)}
    assert len(quarters) == 4


def test_seeds_give_different_points():
    one, two = (design_of(prefix_sharing, 4, seed=seed) for seed in (0, 1))

    assert not np.isclose(one, two).any()


# --- CArBO's cost-effective design


def test_without_known_costs_the_design_starts_at_a_quasi_random_point():
    point = cost_effective(search_of())

    assert np.array_equal(point, PIPELINE.cube.snap(quasi_random(5, 1, seed=0))[0])


def test_it_is_over_when_an_eighth_of_the_budget_is_spent():
    ended = quasi_random(5, 4, seed=0)  # 16 in all

    assert cost_effective(search_of(ended, budget=16 / INITIAL_SHARE + 1)) is not None
    assert cost_effective(search_of(ended, budget=16 / INITIAL_SHARE)) is None


def test_the_costliest_and_the_nearest_are_dropped_in_turn():
    costs = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    distance = np.array([0.9, 0.1, 0.5, 0.2, 0.8])

    # 0 is the costliest, 1 the nearest; then 2 the costliest, 3 the nearest; 4 is left.
    assert _cheap_and_far(costs, distance) == 4


def test_categories_are_one_apart():
    A, B = np.array([[0.1, 0.25]]), np.array([[0.4, 0.75], [0.1, 0.25], [0.1, 0.75]])

    assert _distances(A, B, [1])[0].tolist() == pytest.approx([np.hypot(0.3, 1.0), 0.0, 1.0])


def test_trials_that_cost_nothing_end_it_by_their_number():
    ended = quasi_random(5, 10, seed=0)

    free = search_of(ended, free=True)
    assert cost_effective(free) is None
    assert cost_effective(search_of(ended[:9], free=True)) is not None


def test_it_prefers_what_is_cheap_and_far_from_what_has_run():
    def cost(point):
        return 1.0 + 99.0 * point[0]

    ended = list(quasi_random(5, 12, seed=5))
    chosen = []
    for _ in range(6):
        search = search_of([*ended, *chosen], cost=cost, number=1, budget=1e6)
        chosen.append(cost_effective(search))

    def distances(points):
        return np.linalg.norm(np.array(points)[:, None] - np.array(ended), axis=-1).min(axis=1)

    assert np.mean([cost(point) for point in chosen]) < 0.5 * np.mean([cost(p) for p in ended])
    assert distances(chosen).mean() > distances(quasi_random(5, 512, seed=9)).mean()


# --- which design a search gets


def test_a_design_of_the_methods_own_comes_first():
    assert design_for(independent, PIPELINE, keeps_last=True) is independent


def test_prefixes_are_shared_if_their_outputs_are_kept():
    score_alone = Pipeline.declare({"score": {"d": Float(0, 1)}})

    assert design_for(None, PIPELINE, keeps_last=True) is prefix_sharing
    assert design_for(None, PIPELINE, keeps_last=False) is independent
    assert design_for(None, score_alone, keeps_last=True) is independent


def test_models_need_two_values_before_a_warm_up_ends():
    one = search_of(quasi_random(5, 1, seed=0), number=1)

    assert next_point(one, no_design, fits_models=False) is None
    expected = quasi_random(5, 2, seed=0)[1]
    assert np.array_equal(next_point(one, no_design, fits_models=True), expected)
    two = search_of(quasi_random(5, 2, seed=0), number=2)
    assert next_point(two, no_design, fits_models=True) is None


def test_until_enough_has_succeeded_the_warm_up_goes_where_it_probably_does():
    """Only a small part of the first column succeeds."""
    X = quasi_random(5, 12, seed=0)
    study = optuna.create_study(direction="maximize")
    for point in X:
        fine = point[0] < 0.25
        study.add_trial(
            optuna.trial.create_trial(
                params=PIPELINE.cube.decode(point),
                distributions=PIPELINE.space,
                value=1.0 if fine else None,
                state=TrialState.COMPLETE if fine else TrialState.FAIL,
                user_attrs={"error": f"ValueError: {point[0]}"},
            )
        )
    assert 0 < sum(X[:, 0] < 0.25) < LEAST_SUCCESSES

    def point(number):
        search = Search(History.of(study, PIPELINE), Budget(1e3), 10, number, 0)
        return next_point(search, independent, fits_models=True)

    assert point(12)[0] < 0.25
    assert not np.array_equal(point(12), point(13))


# --- how long it is


def test_a_warm_up_has_its_usual_length_where_the_budget_is_large_or_endless():
    ended = quasi_random(5, 12, seed=0)  # 4 each

    for budget in (1e3, float("inf")):
        search = search_of(ended, budget=budget)
        assert within_budget(search.history, search.budget) == USUAL_TRIALS


@pytest.mark.parametrize(("paying", "expected"), [(1, 3), (3, 3), (4, 4), (9, 9), (11, 10)])
def test_a_warm_up_ends_early_once_it_has_cost_its_share_of_the_budget(paying, expected):
    ended = quasi_random(5, 12, seed=0)  # 4 each
    budget = Budget(4.0 * paying / LARGEST_SHARE)

    for count in range(len(ended) + 1):
        history = search_of(ended[:count], budget=budget.total).history
        length = within_budget(history, budget)
        # What it says never moves to before a trial that it has already let into the warm-up.
        assert length == (expected if count >= paying else USUAL_TRIALS)
    assert LEAST_TRIALS == 3


def test_trials_from_elsewhere_do_not_pay_for_the_warm_up():
    study = optuna.create_study()
    study.set_user_attr(STUDY_ID, "this")
    for point in quasi_random(5, 8, seed=0):
        study.add_trial(
            optuna.trial.create_trial(
                params=PIPELINE.cube.decode(point),
                distributions=PIPELINE.space,
                value=0.0,
                user_attrs={"charged": 100.0, PAID_BY: "another"},
            )
        )

    assert within_budget(History.of(study, PIPELINE), Budget(40.0)) == USUAL_TRIALS


# --- a whole grid


@pytest.mark.parametrize("size", [1, 2, 9, 13, 27])
def test_a_spread_out_grid_has_every_configuration_once_and_neighbours_far_apart(size):
    pipeline = Pipeline.declare({"train": {"lr": Categorical(list(range(size)))}})

    def drawn(design):
        search = search_of(pipeline=pipeline, n_initial=0)
        points = [design(replace(search, number=number)) for number in range(size)]
        return [pipeline.cube.decode(point)["train.lr"] for point in points]

    assert drawn(in_order) == list(range(size))
    spread = drawn(spread_out)
    assert sorted(spread) == list(range(size))
    if size >= 9:
        best_so_far = sum(lr == max(spread[: k + 1]) for k, lr in enumerate(spread))
        assert best_so_far <= size / 2
        assert min(abs(a - b) for a, b in pairwise(spread)) >= size // 4
