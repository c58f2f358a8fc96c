"""Search spaces, and their map to and from the unit cube."""

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from eeipu import Pipeline, Tuner
from eeipu.errors import SpaceError
from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.reuse.candidates import Reuse
from eeipu.space import Categorical, Float, Int, Space, cell_count

bounds = st.floats(-1e6, 1e6, allow_subnormal=False)
units = st.floats(0.0, 1.0)


@st.composite
def floats(draw):
    low, width = draw(bounds), draw(st.floats(1e-3, 1e6))
    return Float(low, low + width)


@st.composite
def log_floats(draw):
    low, ratio = draw(st.floats(1e-8, 1e3)), draw(st.floats(1.01, 1e6))
    return Float(low, low * ratio, log=True)


@st.composite
def stepped_floats(draw):
    # Eighths add up without rounding, so that Optuna does not move `high`.
    low, step, count = draw(st.integers(-800, 800)), draw(st.integers(1, 80)), draw(small)
    return Float(low / 8, (low + step * count) / 8, step=step / 8)


@st.composite
def ints(draw):
    low, step, count = draw(st.integers(-1000, 1000)), draw(st.integers(1, 10)), draw(small)
    return Int(low, low + step * count, step=step)


@st.composite
def log_ints(draw):
    low = draw(st.integers(1, 1000))
    return Int(low, low + draw(st.integers(0, 5000)), log=True)


small = st.integers(0, 40)
decimals = st.sampled_from([(0.0, 0.3, 0.1), (0.0, 1.0, 0.1), (-1.0, 1.0, 0.05), (0.1, 0.7, 0.2)])
decimal_floats = decimals.map(lambda grid: Float(grid[0], grid[1], step=grid[2]))
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3)
categoricals = st.lists(scalars, min_size=1, max_size=9, unique=True).map(Categorical)
constants = bounds.map(lambda value: Float(value, value)) | st.floats(1e-8, 1e6).map(
    lambda value: Float(value, value, log=True)
)
even_cells = stepped_floats() | decimal_floats | ints() | categoricals | constants
discrete = even_cells | log_ints()
continuous = floats() | log_floats()


def decoded(distribution, unit):
    return Space({"p": distribution}).decode(np.array([unit]))["p"]


# --- making distributions -------------------------------------------------------------------


def test_short_names_make_optuna_distributions():
    assert Float(0.1, 1.0, log=True) == FloatDistribution(0.1, 1.0, log=True)
    assert Int(1, 9, step=2) == IntDistribution(1, 9, step=2)
    assert Categorical(["a", None]).choices == ("a", None)


@pytest.mark.parametrize(
    ("low", "high", "options", "message"),
    [
        (2.0, 1.0, {}, r"Float\(2.0, 1.0.*low <= high"),
        (0.0, 1.0, {"log": True}, "low > 0"),
        (0.1, 1.0, {"log": True, "step": 0.1}, "step"),
        (0.0, 1.0, {"step": 0.0}, "step > 0"),
        (-math.inf, 1.0, {}, "low=-inf"),
        (0.0, math.inf, {}, "high=inf"),
        (math.nan, 1.0, {}, "low=nan"),
        (0.0, 1.0, {"step": math.nan}, "step=nan"),
        ("0", 1.0, {}, "low='0'"),
        (0.0, None, {}, "high=None"),
    ],
)
def test_a_float_of_no_use_is_refused_by_name(low, high, options, message):
    with pytest.raises(SpaceError, match=message):
        Float(low, high, **options)


@pytest.mark.parametrize(
    ("low", "high", "options", "message"),
    [
        (2, 1, {}, r"Int\(2, 1.*low <= high"),
        (0, 9, {"log": True}, "low >= 1"),
        (1, 9, {"log": True, "step": 2}, "step"),
        (1, 9, {"step": 0}, "step > 0"),
        (0.5, 9, {}, "low=0.5"),
        (0, math.inf, {}, "high=inf"),
        (0, math.nan, {}, "high=nan"),
        (0, "9", {}, "high='9'"),
        (0, 9, {"step": 1.5}, "step=1.5"),
    ],
)
def test_an_int_of_no_use_is_refused_by_name(low, high, options, message):
    with pytest.raises(SpaceError, match=message):
        Int(low, high, **options)


def test_an_int_takes_whole_floats():
    assert Int(1e0, 1e3) == IntDistribution(1, 1000)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "one or more"),
        ("abc", "'abc'"),
        ({"a"}, "list of choices"),
        (7, "7"),
        (["a", "b", "a"], "'a' and 'a'"),
        ([0, 1, True], "1 and True"),
        ([1, 1.0], r"1 and 1\.0"),
    ],
)
def test_a_categorical_of_no_use_is_refused_by_name(choices, message):
    with pytest.raises(SpaceError, match=message):
        Categorical(choices)


@pytest.mark.parametrize(
    ("distribution", "count"),
    [
        (Categorical(["a", "b", "c"]), 3),
        (Int(3, 7), 5),
        (Int(0, 10, step=5), 3),
        (Int(1, 100, log=True), 100),
        (Float(0.0, 1.0, step=0.1), 11),
        (Float(2.0, 2.0), 1),
        (Float(2.0, 2.0, log=True), 1),
        (Float(0.0, 1.0), None),
    ],
)
def test_cell_count_is_the_number_of_values(distribution, count):
    assert cell_count(distribution) == count


# --- the map to and from the cube -----------------------------------------------------------


@given(discrete, units)
def test_round_trip_is_identity_on_discrete_values(distribution, unit):
    space = Space({"p": distribution})
    stored = space.canonical(space.decode(np.array([unit])))
    again = space.decode(space.encode([stored])[0])
    assert again == stored
    assert type(again["p"]) is type(stored["p"])


@given(continuous, units)
def test_round_trip_keeps_continuous_values_but_for_rounding(distribution, unit):
    space = Space({"p": distribution})
    stored = space.decode(np.array([unit]))
    again = space.decode(space.encode([stored])[0])
    tolerance = 1e-12 * max(1.0, abs(distribution.low), abs(distribution.high))
    assert again["p"] == pytest.approx(stored["p"], rel=1e-12, abs=tolerance)


@given(discrete | continuous, units)
def test_decoded_values_are_stored_as_they_are(distribution, unit):
    space = Space({"p": distribution})
    params = space.decode(np.array([unit]))
    stored = space.canonical(params)
    assert stored == params
    assert type(stored["p"]) is type(params["p"])


@given(discrete | continuous, st.floats(-3.0, 4.0))
def test_points_outside_of_the_cube_decode_to_its_edge(distribution, unit):
    edge = min(max(unit, 0.0), 1.0)
    expected = decoded(distribution, edge)
    if cell_count(distribution) is None:
        expected = pytest.approx(expected, rel=1e-12)
    assert decoded(distribution, unit) == expected


@given(discrete, st.lists(units, min_size=1, max_size=5))
def test_snap_is_idempotent(distribution, column):
    space = Space({"p": distribution})
    snapped = space.snap(np.array(column)[:, None])
    np.testing.assert_array_equal(space.snap(snapped), snapped)


@given(discrete, st.lists(units, min_size=1, max_size=5))
def test_snap_is_encode_after_decode(distribution, column):
    space = Space({"p": distribution})
    X = np.array(column)[:, None]
    expected = space.encode([space.decode(x) for x in X])
    np.testing.assert_allclose(space.snap(X), expected, rtol=0, atol=1e-14)


@given(continuous, units)
def test_snap_leaves_continuous_columns_alone(distribution, unit):
    assert Space({"p": distribution}).snap(np.array([[unit]])) == unit


def test_snap_does_not_change_its_argument():
    X = np.array([[0.1], [0.9]])
    Space({"p": Int(0, 1)}).snap(X)
    np.testing.assert_array_equal(X, [[0.1], [0.9]])


@given(even_cells)
def test_a_uniform_point_is_a_uniform_choice(distribution):
    cells, per_cell = cell_count(distribution), 4
    points = (np.arange(cells * per_cell) + 0.5) / (cells * per_cell)
    counts = Counter(repr(decoded(distribution, unit)) for unit in points)
    assert list(counts.values()) == [per_cell] * cells


@given(even_cells)
def test_values_lie_at_the_centres_of_their_cells(distribution):
    cells = cell_count(distribution)
    centres = (np.arange(cells) + 0.5) / cells
    np.testing.assert_allclose(Space({"p": distribution}).values(0), centres, atol=1e-12)


@given(log_ints())
def test_log_integers_are_as_likely_as_they_are_wide_in_the_logarithm(distribution):
    space = Space({"p": distribution})
    low, high = distribution.low, distribution.high
    walls = np.log(np.arange(low, high + 2) - 0.5)
    walls = (walls - walls[0]) / (walls[-1] - walls[0])
    for i in {0, (high - low) // 2, high - low}:
        inside = walls[i] + (walls[i + 1] - walls[i]) * np.array([0.01, 0.99])
        assert [space.decode(inside[[k]])["p"] for k in (0, 1)] == [low + i, low + i]


@given(log_floats())
def test_log_floats_are_even_in_the_logarithm(distribution):
    geometric_mean = math.sqrt(distribution.low * distribution.high)
    assert decoded(distribution, 0.5) == pytest.approx(geometric_mean)


@given(discrete | continuous)
def test_the_edges_of_the_cube_are_the_declared_bounds(distribution):
    values = [decoded(distribution, 0.0), decoded(distribution, 1.0)]
    if hasattr(distribution, "choices"):
        assert values == [distribution.choices[0], distribution.choices[-1]]
    else:
        assert values == pytest.approx([distribution.low, distribution.high], rel=1e-12)


@pytest.mark.parametrize("value", [-1e300, 0.0, 1e17])
def test_a_constant_of_any_size_lies_in_the_middle(value):
    space = Space({"p": Float(value, value)})
    assert space.encode([{"p": value}]).item() == 0.5
    assert space.decode(np.array([0.9])) == {"p": value}


def test_decoded_values_are_plain_python_values():
    space = Space({"f": Float(0.0, 1.0), "i": Int(0, 9), "c": Categorical([True, None])})
    assert [type(v) for v in space.decode(np.full(3, 0.2)).values()] == [float, int, bool]


def test_values_of_a_continuous_column_are_none():
    assert Space({"p": Float(0.1, 1.0, log=True)}).values(0).size == 0


# --- spaces ---------------------------------------------------------------------------------

MIXED = Space(
    {
        "a.lr": Float(1e-4, 1e-1, log=True),
        "a.depth": Int(1, 4),
        "b.loss": Categorical(["l1", "l2"]),
    }
)
GRID = Space({"depth": Int(1, 4), "loss": Categorical(["l1", "l2"])})


def test_a_space_has_its_columns_in_the_order_declared():
    assert len(MIXED) == 3
    assert MIXED.names == ("a.lr", "a.depth", "b.loss")
    assert MIXED.cells == (None, 4, 2)
    assert MIXED.categorical_columns == (2,)


def test_the_size_of_a_space_is_its_number_of_configurations():
    assert MIXED.size is None
    assert GRID.size == 8
    assert Space({}).size == 1


def test_configurations_lists_each_configuration_once():
    configurations = list(GRID.configurations())
    assert len(configurations) == 8
    assert {tuple(c.items()) for c in configurations} == {
        (("depth", depth), ("loss", loss)) for depth in range(1, 5) for loss in ("l1", "l2")
    }


def test_configurations_of_an_infinite_space_are_none():
    assert list(MIXED.configurations()) == []


def test_a_space_keeps_its_own_copy_of_the_distributions():
    distributions = {"p": Int(0, 1)}
    space = Space(distributions)
    distributions["q"] = Int(0, 1)
    assert space.names == ("p",)


def test_encode_takes_many_configurations_in_any_order_of_names():
    X = MIXED.encode(
        [
            {"b.loss": "l2", "a.depth": 4, "a.lr": 1e-1},
            {"a.lr": 1e-4, "a.depth": 1, "b.loss": "l1"},
        ]
    )
    np.testing.assert_allclose(X, [[1.0, 0.875, 0.75], [0.0, 0.125, 0.25]])


def test_a_point_must_have_a_coordinate_for_every_column():
    with pytest.raises(ValueError, match="zip"):
        MIXED.decode(np.array([0.5, 0.5]))


def test_an_unknown_kind_of_distribution_is_refused():
    class Strange(BaseDistribution):
        def to_internal_repr(self, param_value_in_external_repr):
            return 0.0

        def single(self):
            return False

        def _contains(self, param_value_in_internal_repr):
            return True

    with pytest.raises(SpaceError, match="Strange"):
        Space({"p": Strange()})


# --- configurations as stored ---------------------------------------------------------------


def test_canonical_orders_the_parameters_and_makes_them_plain():
    stored = MIXED.canonical({"b.loss": "l2", "a.depth": np.int64(2), "a.lr": np.float32(0.5e-2)})
    assert list(stored) == list(MIXED.names)
    assert [type(value) for value in stored.values()] == [float, int, str]
    assert stored["a.lr"] == float(np.float32(0.5e-2))


@pytest.mark.parametrize("value", [0.1, 0.3, 0.1 + 0.2, 1 / 3, 5e-324])
def test_canonical_keeps_every_bit_of_a_float(value):
    assert Space({"p": Float(0.0, 1.0)}).canonical({"p": value})["p"].hex() == value.hex()


def test_canonical_returns_the_declared_choice():
    stored = Space({"p": Categorical([0, 2])}).canonical({"p": False})
    assert type(stored["p"]) is int


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.lr": 1.0}, r"a\.lr=1\.0 lies outside"),
        ({"a.lr": math.nan}, r"a\.lr=nan"),
        ({"a.lr": None}, r"a\.lr=None"),
        ({"a.depth": 5}, r"a\.depth=5 lies outside"),
        ({"a.depth": 1.5}, r"a\.depth=1\.5 is not a whole number"),
        ({"a.depth": "1"}, r"a\.depth='1' is not a whole number"),
        ({"a.depth": math.inf}, r"a\.depth=inf is not a whole number"),
        ({"b.loss": "l3"}, r"b\.loss='l3'"),
        ({"lr": 1e-2}, r"unknown: \['lr'\].*a\.lr"),
    ],
)
def test_a_configuration_outside_of_the_space_is_refused_by_name(change, message):
    params = {"a.lr": 1e-2, "a.depth": 1, "b.loss": "l1", **change}
    with pytest.raises(SpaceError, match=message):
        MIXED.canonical(params)


def test_a_missing_parameter_is_named():
    with pytest.raises(SpaceError, match=r"missing: \['a\.depth', 'b\.loss'\]"):
        MIXED.canonical({"a.lr": 1e-2})


@pytest.mark.parametrize("params", [None, [1, 2], np.zeros(3)])
def test_a_configuration_must_be_a_mapping(params):
    with pytest.raises(SpaceError, match=f"dict.*{type(params).__name__}"):
        MIXED.canonical(params)


def test_values_off_the_grid_are_refused():
    with pytest.raises(SpaceError, match=r"p=0\.25 lies outside"):
        Space({"p": Float(0.0, 1.0, step=0.1)}).canonical({"p": 0.25})


def test_a_range_wider_than_any_float_is_refused():
    with pytest.raises(SpaceError, match="too wide"):
        Float(-1e308, 1e308)


@pytest.mark.parametrize(("low", "step"), [(0.0, 0.1), (0.1, 0.1), (-1.0, 0.05), (1e-3, 1e-3)])
def test_a_step_has_one_value_however_it_was_computed(low, step):
    space = Space({"p": Float(low, low + 20 * step, step=step)})
    for i in range(21):
        computed, written = low + i * step, float(f"{low + i * step:.6f}")
        (decoded,) = space.decode(space.encode([{"p": computed}])[0]).values()
        stored = [space.canonical({"p": value})["p"] for value in (computed, written, decoded)]
        assert stored == [written] * 3 == [decoded] * 3


def test_a_step_with_many_decimals_keeps_its_values():
    step = 2.0**-20
    space = Space({"p": Float(0.0, 8 * step, step=step)})
    assert [space.canonical({"p": i * step})["p"] for i in range(9)] == [i * step for i in range(9)]


# --- large ranges, whose values are never listed

LARGE = [
    Int(0, 2**32 - 1),
    Int(0, 5e7),
    Float(0, 1e7, step=0.001),
    Int(0, 2**62),
    Int(-(2**62), 2**63 - 1),
    Int(1, 2**62, log=True),
    Int(0, 10**30),
    Int(10**15, 10**15 + 5),
]


@pytest.mark.parametrize("distribution", LARGE, ids=str)
def test_values_of_large_ranges_are_those_that_a_study_accepts(distribution):
    space = Space({"p": distribution})
    units = np.concatenate([[0.0, 1.0], np.random.default_rng(0).random(500)])

    for unit in units:
        (value,) = space.decode([unit]).values()
        assert distribution._contains(distribution.to_internal_repr(value))
        assert space.canonical({"p": value}) == {"p": value}
    assert space.decode([0.0])["p"] == distribution.low
    assert space.decode([1.0])["p"] == pytest.approx(distribution.high, rel=1e-12)


@pytest.mark.parametrize("distribution", LARGE, ids=str)
def test_optuna_stores_what_is_suggested_from_a_large_range(distribution):
    def tuned(seed):
        pipeline = Pipeline.declare({"s": {"p": distribution, "x": Float(0, 1)}})
        tuner = Tuner(pipeline, budget=1e3, n_initial=2, seed=seed)
        for _ in range(5):
            suggestion = tuner.ask()
            value = suggestion.params["s.p"] / (distribution.high or 1) + suggestion.params["s.x"]
            tuner.tell(suggestion, value, stage_costs=[1.0])
        return tuner.study.trials

    (first, *_), again = tuned(0), tuned(0)
    assert len({trial.params["s.p"] for trial in again}) > 1
    assert again[0].params == first.params


def test_an_exchange_in_a_large_range_finds_the_best_value():
    """The best of 2^32 values is told from its neighbours."""
    space, best = Space({"p": Int(0, 2**32 - 1)}), 3_000_000_000
    target = space.encode([{"p": best}])[0, 0]

    def score(X, memoized):
        return -((X[:, 0, 0] - target).abs() * 2.0**32).log1p()

    candidate = next(maximize(score, space, [Reuse({}, (False,))], seed=0))

    assert abs(candidate.params["p"] - best) < 2e5


@pytest.mark.parametrize("low", [10**17, -(10**17) - 5, 2**60])
def test_integers_that_floats_cannot_tell_apart_are_refused(low):
    with pytest.raises(SpaceError, match="tune the difference from"):
        Int(low, low + 5)


@pytest.mark.parametrize("high", [10**400, float("inf"), float("nan")])
def test_bounds_beyond_floats_are_refused(high):
    with pytest.raises(SpaceError):
        Int(0, high)


def test_configurations_come_one_by_one():
    space = Space({"a": Int(0, 2**40), "b": Categorical(["x", "y"])})

    some = list(islice(space.configurations(), 3))

    assert some == [{"a": 0, "b": "x"}, {"a": 0, "b": "y"}, {"a": 1, "b": "x"}]


def test_points_have_fixed_values_of_their_own():
    space = Space({"a": Float(0.0, 1.0), "b": Int(0, 3)}, [lambda p: p["a"] < p["b"]])
    X = np.full((3, 2), 0.5)
    fixed = [{"b": 0}, {}, {"a": 0.25, "b": 1}]

    assert space.decode_all(X, fixed) == [
        {"a": 0.5, "b": 0},
        {"a": 0.5, "b": 2},
        {"a": 0.25, "b": 1},
    ]
    assert space.allows(X, fixed).tolist() == [False, True, True]
