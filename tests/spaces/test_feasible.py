"""Points that satisfy constraints, found by trying."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eeipu import Categorical, Float, Int, SpaceError
from eeipu.space import Space
from eeipu.spaces import feasible
from eeipu.spaces.feasible import FeasiblePoints

MIXED = {
    "a.x": Float(0.0, 1.0),
    "a.lr": Float(1e-5, 1.0, log=True),
    "b.k": Int(0, 20),
    "b.n": Int(1, 1024, log=True),
    "b.kind": Categorical(["u", "v", "w"]),
    "c.y": Float(0.0, 1.0, step=0.05),
}
KINDS = [
    lambda p: p["a.x"] + p["c.y"] <= 0.5,
    lambda p: p["a.lr"] * p["b.n"] < 0.01,
    lambda p: p["b.k"] == 7 or p["b.kind"] != "u",
    lambda p: p["b.k"] % 3 == 0,
    lambda p: abs(p["a.x"] - p["c.y"]) < 0.02,
]
CUBE4 = {f"a.x{i}": Float(0.0, 1.0) for i in range(4)}


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    "constraints",
    [
        [lambda p: p["a.x0"] < 0.03 and p["a.x1"] < 0.03],  # .09 % of the volume, a corner
        [lambda p: abs(p["a.x0"] - p["a.x1"]) < 0.0005],  # .1 %, a thin slab
        [lambda p: abs(p["a.x0"] - p["a.x1"]) < 0.002, lambda p: abs(p["a.x2"] - 0.3) < 0.002],
    ],
)
def test_rare_points_are_found(constraints):
    points = FeasiblePoints(Space(CUBE4, constraints))
    drawn = points.draw(rng(), 50)

    assert len(drawn) == 50
    assert points.space.allows(drawn).all()
    assert len(np.unique(drawn, axis=0)) > 30
    # The whole of a slab, and not the neighbourhood of what was found first.
    assert np.ptp(drawn[:, 3]) > 0.5


def test_sums_of_whole_numbers_are_kept():
    space = Space({f"a.k{i}": Int(0, 100) for i in range(4)}, [lambda p: sum(p.values()) == 100])
    points = FeasiblePoints(space)
    drawn = points.draw(rng(), 40)
    under = points.draw(rng(), 10, fixed={"a.k1": 90})

    assert len(drawn) == 40
    assert space.allows(drawn).all()
    assert len(under) > 0
    assert {p["a.k1"] for p in space.decode_all(under, {"a.k1": 90})} == {90}
    assert space.allows(under, {"a.k1": 90}).all()


@settings(max_examples=40, deadline=None)
@given(
    chosen=st.sets(st.integers(0, len(KINDS) - 1), min_size=1, max_size=3),
    names=st.sets(st.sampled_from(sorted(MIXED)), max_size=4),
    seed=st.integers(0, 1000),
)
def test_draws_are_allowed_and_have_the_fixed_values_to_the_bit(chosen, names, seed):
    space = Space(MIXED, [KINDS[k] for k in sorted(chosen)])
    points, random = FeasiblePoints(space), np.random.default_rng(seed)
    # A configuration that is allowed gives the fixed values, so that something completes them.
    whole = space.decode(points.draw(random, 1)[0])
    fixed = {name: whole[name] for name in names}
    drawn = points.draw(random, 5, fixed=fixed, around=space.encode([whole]))

    assert len(drawn) > 0
    for params in space.decode_all(drawn, fixed):
        assert space.misfit(params) is None
        assert {name: params[name] for name in names} == fixed
    np.testing.assert_array_equal(space.snap(drawn), drawn)


@settings(max_examples=25, deadline=None)
@given(low=st.lists(st.floats(0.0, 0.7), min_size=6, max_size=6), seed=st.integers(0, 99))
def test_draws_lie_in_the_box(low, seed):
    space = Space(MIXED, [KINDS[2]])
    box = np.array([low, np.array(low) + 0.3])
    drawn = FeasiblePoints(space).draw(np.random.default_rng(seed), 8, fixed={"a.x": 0.5}, box=box)
    free = [column for column, name in enumerate(space.names) if name != "a.x"]

    assert (drawn[:, free] >= box[0, free]).all()
    assert (drawn[:, free] <= box[1, free]).all()
    assert (drawn[:, 0] == 0.5).all()


def test_without_constraints_draws_are_uniform():
    drawn = FeasiblePoints(Space(MIXED)).draw(rng(), 20, fixed={"b.k": 3})
    assert len(drawn) == 20
    assert {p["b.k"] for p in Space(MIXED).decode_all(drawn)} == {3}


def test_a_whole_configuration_has_one_completion_or_none():
    points = FeasiblePoints(Space({"a.k": Int(1, 9)}, [lambda p: p["a.k"] > 3]))
    assert len(points.draw(rng(), 5, fixed={"a.k": 4})) == 1
    assert len(points.draw(rng(), 5, fixed={"a.k": 3})) == 0


@pytest.mark.parametrize(
    ("distributions", "constraints", "tried"),
    [
        ({"a.k": Int(1, 9)}, [lambda p: p["a.k"] > 9], "all 9 combinations of values"),
        (
            {"a.x": Float(0, 1), "a.y": Float(0, 1)},
            [lambda p: p["a.x"] + p["a.y"] == 1],
            "2,048 at",
        ),
        ({"a.x": Float(0, 1)}, [lambda p: p["a.x"] < 0.5, lambda p: p["a.x"] > 0.5], "at random"),
    ],
)
def test_where_nothing_is_allowed_the_error_says_what_was_tried(
    monkeypatch, distributions, constraints, tried
):
    monkeypatch.setattr(feasible, "MOST_TRIED", 2048)
    points = FeasiblePoints(Space(distributions, constraints))

    assert len(points.draw(rng(), 3)) == 0
    message = str(points.error())
    assert tried in message
    assert "constraints[0] (<lambda>" in message
    assert "Widen" in message
    assert isinstance(points.error(), SpaceError)


def test_a_known_point_leads_where_trying_does_not(monkeypatch):
    monkeypatch.setattr(feasible, "MOST_TRIED", 1024)
    monkeypatch.setattr(feasible, "LAST_TRIED", 64)
    space = Space(CUBE4, [lambda p: all(abs(p[name] - 0.3) < 0.001 for name in p)])
    points = FeasiblePoints(space)

    assert len(points.draw(rng(), 5)) == 0
    assert len(points.draw(rng(), 5, around=np.full((1, 4), 0.3))) == 5


# --- repairing


def test_an_allowed_point_is_left_as_it_is():
    space = Space(CUBE4, [lambda p: p["a.x0"] <= p["a.x1"]])
    point = np.array([0.1, 0.2, 0.3, 0.4])
    assert FeasiblePoints(space).repaired(point, [[0, 1], [2, 3]], 0) == space.decode(point)


@settings(max_examples=30, deadline=None)
@given(first=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), last=st.floats(0.0, 1.0))
def test_points_that_share_their_first_parts_still_do(first, last):
    space = Space(CUBE4, [lambda p: p["a.x0"] + p["a.x2"] <= 0.7, lambda p: p["a.x1"] > p["a.x3"]])
    points, parts = FeasiblePoints(space), [[0, 1], [2], [3]]
    one, other = np.array(first), np.array([*first[:3], last])
    repaired = [points.repaired(point, parts, 0) for point in (one, other)]

    assert all(space.misfit(params) is None for params in repaired)
    is_repaired = [
        params != space.decode(p) for params, p in zip(repaired, (one, other), strict=True)
    ]
    if all(is_repaired):
        shared = ["a.x0", "a.x1", "a.x2"]
        assert [repaired[0][name] for name in shared] == [repaired[1][name] for name in shared]


def test_given_values_stay():
    space = Space(CUBE4, [lambda p: p["a.x0"] + p["a.x1"] <= 0.5])
    repaired = FeasiblePoints(space).repaired(np.full(4, 0.9), [[0], [1], [2, 3]], 0, {"a.x1": 0.1})
    assert repaired["a.x1"] == 0.1
    assert space.misfit(repaired) is None
    assert (
        FeasiblePoints(space).repaired(np.full(4, 0.9), [[0], [1, 2, 3]], 0, {"a.x1": 0.6}) is None
    )


def test_what_nothing_completes_is_soon_given_up():
    asked = []

    def at_most_half(p):
        asked.append(p)
        return p["a.x0"] + p["a.x1"] <= 0.5

    points = FeasiblePoints(Space(CUBE4, [at_most_half]))
    points.pool  # noqa: B018 - found once for all draws
    asked.clear()

    assert len(points.draw(rng(), 1, fixed={"a.x0": 0.53})) == 0
    assert len(asked) < 10_000
    assert len(points.draw(rng(), 1, fixed={"a.x0": 0.4999})) == 1


def test_no_more_points_are_tried_than_it_takes():
    asked = []

    def half(params):
        asked.append(params)
        return params["x"] < 0.5

    feasible = FeasiblePoints(Space({"x": Float(0.0, 1.0)}, [half]))
    asked.clear()
    drawn = feasible.draw(np.random.default_rng(0), 200)

    assert len(drawn) == 200
    assert (drawn < 0.5).all()
    assert len(asked) < 500
