"""LaMBO's tree and its slowly moving bandit."""

import branching
import numpy as np
import optuna
import pytest

from eeipu import Categorical, Float, Int, Pipeline, StageCache, Tuner
from eeipu.methods.baselines.lambo import (
    LEAF,
    SIGNS,
    _bounds,
    _first_descent,
    _leaves,
    _losses,
    _splits,
    _updated,
    lambo_region,
)
from eeipu.methods.budget import Budget
from eeipu.methods.history import History
from eeipu.methods.search_state import Search

PIPELINE = Pipeline.declare(
    {
        "prep": {"a": Float(0, 1), "b": Float(0, 1)},
        "train": {"c": Float(0, 1)},
        "score": {"d": Float(0, 1)},
    }
)


def search_of(values, *, pipeline=PIPELINE, seed=0):
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(seed)
    for value in values:
        params = pipeline.cube.decode(rng.random(len(pipeline.cube)))
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=pipeline.space, value=float(value)
            )
        )
    return Search(History.of(study, pipeline), Budget(1e3), 0, len(values), seed)


def test_the_first_stages_splits_are_the_trees_top():
    splits = _splits(PIPELINE)

    assert [(split.stage, split.column, split.level) for split in splits] == [
        (0, 0, 0),
        (0, 1, 0),
        (1, 2, 0),
        (1, 2, 1),
    ]


@pytest.mark.parametrize("leaf", range(16))
def test_a_leaf_is_the_box_of_its_points(leaf):
    splits = _splits(PIPELINE)
    X = np.random.default_rng(0).random((2000, 4))
    low, high = _bounds(splits, leaf, 4)

    inside = ((low <= X) & (high > X)).all(axis=1)

    assert np.array_equal(_leaves(splits, X) == leaf, inside)
    assert inside.any()
    assert (low[3], high[3]) == (0.0, 1.0)


def test_the_upper_wall_of_the_cube_belongs_to_the_last_cells():
    assert _leaves(_splits(PIPELINE), np.ones((1, 4))).tolist() == [15]


def test_discrete_columns_are_not_split_finer_than_their_values():
    pipeline = Pipeline.declare(
        {
            "one": {"only": Categorical(["x"])},
            "two": {"flag": Categorical([False, True])},
            "three": {"n": Int(1, 3)},
            "last": {"d": Float(0, 1)},
        }
    )

    splits = _splits(pipeline)

    assert [(split.column, split.level) for split in splits] == [(1, 0), (2, 0)]
    for leaf in range(4):
        low, high = _bounds(splits, leaf, 4)
        for column in (1, 2):
            values = pipeline.cube.values(column)
            assert ((low[column] <= values) & (values < high[column])).any()


def test_long_pipelines_have_at_most_256_leaves():
    stages = {f"s{k}": {"x": Float(0, 1)} for k in range(12)}

    assert len(_splits(Pipeline.declare(stages))) == 8


def test_losses_run_from_the_best_to_the_worst_and_failures_are_worst():
    assert _losses(np.array([3.0, 1.0, np.nan, 2.0])).tolist() == [0.0, 1.0, 1.0, 0.5]
    assert _losses(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("signs", "height"), [([-1, 1, 1], 0), ([1, -1, -1], 1), ([1, 1, 1], 3), ([], 0)]
)
def test_the_height_is_that_of_the_first_descent(signs, height):
    assert _first_descent(np.array(signs, dtype=int)) == height


def direct_update(p, leaf, loss, signs, eta):
    """The published recursion, written out leaf by leaf."""
    n = len(p)
    level = [loss / p[j] if j == leaf else 0.0 for j in range(n)]
    total = list(level)
    for h, sign in enumerate(signs):
        if h > 0:
            passed = []
            for j in range(n):
                group = [i for i in range(n) if i >> h == j >> h]
                mass = sum(p[i] for i in group)
                inner = sum(
                    p[i] / mass * np.exp(-eta * (1 + signs[h - 1]) * level[i]) for i in group
                )
                passed.append(-np.log(inner) / eta)
            level = passed
        total = [t + sign * each for t, each in zip(total, level, strict=True)]
    updated = [q * np.exp(-eta * t) for q, t in zip(p, total, strict=True)]
    return np.array(updated) / sum(updated)


@pytest.mark.parametrize("signs", [[-1, 1, 1], [1, -1, 1], [1, 1, -1], [1, 1, 1]])
def test_probabilities_follow_the_published_recursion(signs):
    p = np.random.default_rng(0).dirichlet(np.ones(8))

    ours = _updated(p, 5, 0.7, np.array(signs), 0.2)

    np.testing.assert_allclose(ours, direct_update(p, 5, 0.7, signs, 0.2), rtol=1e-9)


def test_a_region_keeps_the_first_stages_and_moves_the_rest_inside_a_leaf():
    kept = []
    for n in range(2, 60):
        search = search_of(np.random.default_rng(n).random(n))
        region = lambo_region(search)
        last = search.history.ended[-1].params
        fixed = list(region.reuse.params)
        assert fixed == list(PIPELINE.space)[: len(fixed)]
        assert region.reuse.params.items() <= last.items()
        assert region.reuse.memoized == (False,) * 3
        assert (region.bounds[0] < region.bounds[1]).all()
        kept.append(len(fixed))

    # h = 0 half of the time: both early stages stay; h = 1 or 2 three times in eight: the first.
    assert set(kept) == {0, 2, 3}
    assert kept.count(3) > kept.count(2) > kept.count(0)


def test_leaves_with_little_loss_gain_probability():
    p = np.full(4, 0.25)
    for number in range(300):
        leaf = number % 4
        signs = np.random.default_rng(number).choice([-1, 1], size=2)
        p = _updated(p, leaf, 0.0 if leaf == 2 else 1.0, signs, 0.02)

    assert p.argmax() == 2
    assert p[2] > 0.5


def test_the_next_leaf_agrees_with_the_last_above_the_height():
    for n in range(2, 40):
        search = search_of(np.random.default_rng(n).random(n), seed=n)
        splits = _splits(PIPELINE)
        last = int(_leaves(splits, search.history.X)[-1])
        signs = search.random(n - 1, SIGNS).choice([-1, 1], size=len(splits))
        region = lambo_region(search)
        inside = region.bounds.mean(axis=0)
        kept = len(region.reuse.params)
        inside[:kept] = search.history.X[-1, :kept]
        chosen = int(_leaves(splits, inside[None])[0])
        height = _first_descent(signs)
        assert chosen >> height == last >> height


def test_signs_do_not_depend_on_the_leaf_that_was_drawn():
    search = search_of([1.0, 2.0])
    draws = [search.random(t, LEAF).random() for t in range(2000)]
    signs = np.array([search.random(t, SIGNS).choice([-1, 1], size=4) for t in range(2000)])

    assert np.abs(np.corrcoef(draws, signs.T)[0, 1:]).max() < 0.1


def test_log_integers_are_split_only_where_every_part_holds_a_value():
    pipeline = Pipeline.declare({"a": {"n": Int(1, 4, log=True)}, "b": {"x": Float(0, 1)}})
    tuner = Tuner(pipeline, budget=1e3, method="lambo", n_initial=3, seed=0)
    for _ in range(10):
        suggestion = tuner.ask()
        tuner.tell(suggestion, suggestion.params["b.x"], stage_costs=[1.0, 1.0])

    assert [(split.column, split.level) for split in _splits(pipeline)] == [(0, 0)]


def test_a_pipeline_of_one_stage_is_searched_everywhere():
    pipeline = Pipeline.declare({"only": {"x": Float(0, 1)}})

    region = lambo_region(search_of([1.0, 2.0], pipeline=pipeline))

    assert region.reuse.params == {}
    assert region.bounds.tolist() == [[0.0], [1.0]]


def test_candidates_lie_in_their_leaf_and_repeat_prefixes():
    tuner = Tuner(PIPELINE, budget=1e3, method="lambo", cache=StageCache(), n_initial=4, seed=0)
    configurations = []
    for _ in range(16):
        suggestion = tuner.ask()
        x = suggestion.params
        tuner.tell(
            suggestion, -sum((v - 0.3) ** 2 for v in x.values()), stage_costs=[1.0, 1.0, 1.0]
        )
        configurations.append(tuple(x.values()))

    assert len(set(configurations)) == 16
    assert len({each[:2] for each in configurations[4:]}) < 8


def test_on_a_graph_what_stays_is_closed_under_what_leads_to_it():
    pipeline = branching.pipeline_of(branching.TWO_LEVELS)
    some = {
        len(lambo_region(search_of([1.0, 2.0, 0.5], pipeline=pipeline, seed=seed)).reuse.params)
        for seed in range(12)
    }
    assert len(some) > 1

    for seed in range(12):
        fixed = lambo_region(search_of([1.0, 2.0, 0.5], pipeline=pipeline, seed=seed)).reuse.params
        for k, name in enumerate(pipeline.space):  # one hyper-parameter a stage
            if name in fixed:
                leading = pipeline.graph.ancestors[k]
                assert {list(pipeline.space)[j] for j in leading} <= fixed.keys()
