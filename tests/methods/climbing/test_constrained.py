"""Maxima under constraints: never outside, and as high as an exhaustive search finds them."""

import numpy as np
import pytest
import torch

from eeipu.methods.climbing.constrained import WithinConstraints
from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.reuse.candidates import Reuse, with_given
from eeipu.space import Categorical, Float, Int, Space
from eeipu.spaces.feasible import FeasiblePoints

SQUARE = {"a.x": Float(0.0, 1.0), "b.y": Float(0.0, 1.0)}
NOTHING = Reuse({}, (False, False))


def near(*peak):
    """A score whose maximum is at a point of the cube."""
    target = torch.tensor(peak, dtype=torch.double)
    return lambda X, memoized: -(X.squeeze(-2) - target).square().sum(-1)


def first(score, space, pool=(NOTHING,), **options):
    return next(maximize(score, space, list(pool), seed=0, **options), None)


@pytest.mark.parametrize(
    ("constraint", "peak", "best"),
    [
        (lambda p: p["a.x"] + p["b.y"] <= 1, (0.9, 0.7), (0.6, 0.4)),
        (lambda p: p["a.x"] ** 2 + p["b.y"] ** 2 <= 0.25, (0.6, 0.8), (0.3, 0.4)),
        (lambda p: abs(p["a.x"] - p["b.y"]) <= 0.001, (0.2, 0.6), (0.3995, 0.4005)),
        (lambda p: p["a.x"] > 0.5 or p["b.y"] > 0.9, (0.3, 0.4), (0.5, 0.4)),
        (lambda p: p["a.x"] < 0.02 and p["b.y"] > 0.97, (0.7, 0.7), (0.02, 0.97)),
    ],
)
def test_the_maximum_lies_on_the_wall(constraint, peak, best):
    space = Space(SQUARE, [constraint])
    found = first(near(*peak), space)

    assert constraint(found.params)
    ideal = -float(np.square(np.subtract(best, peak)).sum())
    assert found.score == pytest.approx(ideal, abs=2e-3)


def test_discrete_columns_move_together_where_they_must():
    names = ["a.i", "a.j", "b.k"]
    space = Space({name: Int(0, 30) for name in names}, [lambda p: sum(p.values()) == 30])
    found = first(near(0.9, 0.1, 0.5), space)
    every = space.encode(list(space.configurations()))
    best = near(0.9, 0.1, 0.5)(torch.from_numpy(every).unsqueeze(1), None).max().item()

    assert sum(found.params.values()) == 30
    assert found.score == pytest.approx(best, abs=1e-9)


def test_every_candidate_is_allowed_under_every_prefix():
    distributions = {**SQUARE, "b.k": Int(1, 64, log=True), "b.kind": Categorical(["u", "v", "w"])}
    space = Space(
        distributions,
        [
            lambda p: p["a.x"] * p["b.k"] < 8,
            lambda p: p["b.kind"] == "u" or p["b.y"] > p["a.x"],
        ],
    )
    pool = [NOTHING, *(Reuse({"a.x": x}, (True, False)) for x in (0.1, 0.3, 0.97))]
    found = list(maximize(near(0.5, 0.2, 0.9, 0.5), space, pool, seed=0))

    assert {c.reuse.params.get("a.x") for c in found} == {None, 0.1, 0.3, 0.97}
    for candidate in found:
        assert space.misfit(candidate.params) is None
        assert candidate.params.items() >= candidate.reuse.params.items()
    assert found == sorted(found, key=lambda c: -c.score)


def test_a_prefix_under_which_nothing_is_allowed_is_not_offered():
    space = Space(SQUARE, [lambda p: p["a.x"] < 0.5])
    dead = Reuse({"a.x": 0.75}, (True, False))

    found = list(maximize(near(0.75, 0.5), space, [NOTHING, dead], seed=0))
    assert found
    assert all(candidate.reuse is NOTHING for candidate in found)
    assert list(maximize(near(0.75, 0.5), space, [dead], seed=0)) == []


def test_a_fixed_value_counts_as_stored_and_not_as_the_cube_has_it():
    # On the way through the cube this value loses bits, and would be allowed or not by luck.
    lr = Float(1e-5, 1.0, log=True)
    value = 0.0012345678901234567
    space = Space({"a.lr": lr, "b.y": Float(0.0, 1.0)}, [lambda p: p["a.lr"] == value])
    found = first(near(0.5, 0.25), space, [Reuse({"a.lr": value}, (True, False))])

    assert found.params["a.lr"] == value
    assert found.params["b.y"] == pytest.approx(0.25, abs=1e-3)


def test_a_prefix_whose_completions_are_rare_is_completed_from_what_is_known():
    space = Space(
        {f"a.x{i}": Float(0.0, 1.0) for i in range(4)},
        [lambda p: all(abs(p[f"a.x{i}"] - 0.2 * i) < 0.001 for i in range(4))],
    )
    known = {f"a.x{i}": 0.2 * i for i in range(4)}
    pool = [Reuse({"a.x0": 0.0}, (True, False))]
    target = near(1.0, 1.0, 1.0, 1.0)

    found = first(target, space, pool, incumbents=space.encode([known]))
    assert found is not None
    assert found.score > target(torch.from_numpy(space.encode([known])), None).item()


def test_a_box_bounds_what_is_drawn_and_moved():
    space = Space(SQUARE, [lambda p: p["a.x"] + p["b.y"] <= 1])
    bounds = np.array([[0.6, 0.1], [0.8, 0.3]])
    for candidate in maximize(near(0.9, 0.9), space, [NOTHING], seed=0, bounds=bounds):
        assert (candidate.point >= bounds[0]).all()
        assert (candidate.point <= bounds[1]).all()
        assert candidate.params["a.x"] + candidate.params["b.y"] <= 1


def test_what_has_left_is_taken_back_to_the_wall():
    space = Space(SQUARE, [lambda p: p["a.x"] <= 0.5])
    box = np.array([[0.0, 0.0], [1.0, 1.0]])
    within = WithinConstraints(FeasiblePoints(space), [{}], box, 0)
    inside, index = np.array([[0.1, 0.1], [0.2, 0.2], [0.5, 0.5]]), np.zeros(3, dtype=np.intp)
    went = np.array([[0.3, 0.3], [0.8, 0.5], [0.9, 0.5]])
    back = within.taken_back(index, inside, went)

    np.testing.assert_allclose(back, [[0.3, 0.3], [0.5, 0.35], [0.5, 0.5]], atol=1e-5)
    assert space.allows(back).all()


def test_given_values_leave_the_prefixes_that_agree():
    pool = [NOTHING, Reuse({"a.x": 0.1}, (True, False)), Reuse({"a.x": 0.2}, (True, False))]
    found = with_given(pool, {"b.y": 0.5, "a.x": 0.2})

    assert [prefix.params for prefix in found] == [
        {"b.y": 0.5, "a.x": 0.2},
        {"a.x": 0.2, "b.y": 0.5},
    ]
    assert [prefix.memoized for prefix in found] == [(False, False), (True, False)]
    space = Space({**SQUARE, "c.z": Float(0.0, 1.0)})
    best = first(near(0.9, 0.9, 0.9), space, with_given([NOTHING], {"b.y": 0.5}))
    assert best.params == pytest.approx({"a.x": 0.9, "b.y": 0.5, "c.z": 0.9}, abs=1e-3)
    assert best.params["b.y"] == 0.5
