"""The maximisation of an acquisition over a pool of what candidates reuse."""

import numpy as np
import pytest
import torch

from eeipu import Categorical, Float, Int
from eeipu.methods.climbing.maximisation import maximize, quasi_random
from eeipu.methods.reuse.candidates import Reuse
from eeipu.space import Space

SPACE = Space({"x": Float(0, 1), "k": Int(1, 7), "c": Categorical(list("abcdef"))})


def bowl(X, memoized):
    """Best at x=0.3, k=5 and "d"."""
    best = torch.from_numpy(SPACE.encode([{"x": 0.3, "k": 5, "c": "d"}]))[0]
    distance = (X[:, 0, :2] - best[:2]).square().sum(-1) + (X[:, 0, 2] != best[2])
    return -distance + memoized[:, 0] * 0.01


EMPTY = Reuse({}, (False, False))


def test_the_best_of_a_mixed_space_is_found():
    best = next(maximize(bowl, SPACE, [EMPTY], seed=0))

    assert best.params["x"] == pytest.approx(0.3, abs=1e-3)
    assert (best.params["k"], best.params["c"]) == (5, "d")
    assert best.score == pytest.approx(0.0, abs=1e-6)


def test_what_is_fixed_is_taken_to_the_bit():
    x = 0.1 + 0.2  # not the float nearest to 0.3
    pool = [Reuse({"x": x}, (True, False))]

    best = next(maximize(bowl, SPACE, pool, seed=0))

    assert best.params["x"] == x
    assert (best.params["k"], best.params["c"]) == (5, "d")


def test_entries_compete_with_their_own_masks():
    """The entry near the best point wins for what it saves; the one far from it does not."""
    near, far = Reuse({"x": 0.31}, (True, False)), Reuse({"x": 0.9}, (True, False))

    found = list(maximize(bowl, SPACE, [EMPTY, far, near], seed=0))

    assert found[0].reuse is near
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)


def test_candidates_know_where_they_lie_in_the_cube():
    pool = [EMPTY, Reuse({"x": 0.1 + 0.2}, (True, False))]

    for candidate in maximize(bowl, SPACE, pool, seed=0):
        expected = SPACE.encode([candidate.params])[0]
        np.testing.assert_allclose(candidate.point, expected, rtol=0, atol=1e-12)


def test_scores_are_those_of_the_values_that_will_run():
    for candidate in maximize(bowl, SPACE, [EMPTY], seed=0):
        X = torch.from_numpy(SPACE.encode([candidate.params])).unsqueeze(1)
        assert candidate.score == pytest.approx(bowl(X, torch.zeros(1, 2)).item(), abs=1e-9)


@pytest.mark.parametrize("word", ["w0", "w123", "w321", "w399"])
def test_hundreds_of_choices_are_searched(word):
    space = Space({"word": Categorical([f"w{i}" for i in range(400)]), "x": Float(0, 1)})
    target = space.encode([{"word": word, "x": 0.5}])[0]

    def score(X, memoized):
        hit = (X[:, 0, 0] - float(target[0])).abs() < 1e-9
        return hit * 1.0 - (X[:, 0, 1] - 0.5).square()

    assert next(maximize(score, space, [EMPTY], seed=0)).params["word"] == word


def test_thousands_of_choices_do_not_explode():
    space = Space({"word": Categorical(list(range(5000))), "x": Float(0, 1)})
    scored = []

    def score(X, memoized):
        scored.append(len(X))
        return -(X[:, 0, 1] - 0.5).square()

    next(maximize(score, space, [EMPTY], seed=0))

    assert sum(scored) < 50_000


def test_a_box_bounds_every_kind_of_column():
    space = Space({"x": Float(0, 1), "n": Int(1, 4), "c": Categorical(["a", "b", "c", "d"])})
    bounds = np.array([[0.25, 0.5, 0.0], [0.5, 1.0, 0.5]])

    for candidate in maximize(lambda X, _: X[:, 0].sum(-1), space, [EMPTY], seed=0, bounds=bounds):
        assert candidate.params["n"] in (3, 4)
        assert candidate.params["c"] in ("a", "b")
        assert 0.25 <= candidate.params["x"] <= 0.5
    best = next(maximize(lambda X, _: X[:, 0].sum(-1), space, [EMPTY], seed=0, bounds=bounds))
    assert best.params == {"x": 0.5, "n": 4, "c": "b"}


def test_long_pools_share_the_effort():
    scored = []

    def score(X, memoized):
        scored.append(len(X))
        return -(X[:, 0, 0] - 0.3).square()

    pool = [Reuse({"x": i / 500}, (True, False)) for i in range(500)]
    best = next(maximize(score, SPACE, [EMPTY, *pool], seed=0))

    assert best.params["x"] == pytest.approx(0.3, abs=1e-3)
    assert scored[0] <= 512


def test_wide_integers_are_searched():
    space = Space({"n": Int(1, 100_000, log=True)})
    target = space.encode([{"n": 777}])[0, 0]

    def score(X, memoized):
        return -(X[:, 0, 0] - target).square()

    assert next(maximize(score, space, [EMPTY], seed=0)).params["n"] == pytest.approx(777, rel=0.02)


def test_more_effort_finds_no_worse():
    def rough(X, memoized):
        return torch.sin(20 * X[:, 0, 0]) * X[:, 0, 0] + X[:, 0, 1]

    scores = [next(maximize(rough, SPACE, [EMPTY], seed=1, effort=e)).score for e in (1, 10)]

    assert scores[1] >= scores[0] - 1e-9


def test_scores_that_are_not_numbers_are_never_chosen():
    def broken(X, memoized):
        values = bowl(X, memoized)
        return torch.where(X[:, 0, 0] < 0.5, torch.nan, values)

    assert next(maximize(broken, SPACE, [EMPTY], seed=0)).params["x"] >= 0.5


class Hills:
    """A log score with gradients: a narrow hill of height 0 and a curved ridge far below it."""

    space = Space({"x": Float(0, 1), "y": Float(0, 1)})

    def __init__(self, depth):
        self.depth = depth
        self.calls = {"hill": 0, "ridge": 0}

    def __call__(self, X, memoized):
        x, y = X[:, 0, 0], X[:, 0, 1]
        hill = -50 * ((x - 0.2).square() + (y - 0.7).square())
        ridge = -self.depth - 100 * (y - x.square()).square() - (1 - x).square()
        return torch.where(x < 0.5, hill, ridge)

    def value_and_gradient(self, X, memoized):
        with torch.enable_grad():
            point = X.clone().requires_grad_(True)
            values = self(point, memoized)
            (gradient,) = torch.autograd.grad(values.sum(), point)
        self.calls["hill"] += int((X[:, 0, 0] < 0.5).any())
        self.calls["ridge"] += int((X[:, 0, 0] >= 0.5).any())
        return values.detach(), gradient


def test_gradients_that_a_score_offers_are_used():
    score = Hills(depth=0.5)

    best = next(maximize(score, score.space, [EMPTY], seed=0))

    assert score.calls["hill"] > 0
    assert best.params == pytest.approx({"x": 0.2, "y": 0.7}, abs=1e-2)
    assert best.score == pytest.approx(0.0, abs=1e-4)


def test_hopeless_ascents_end_early():
    near, far = Hills(depth=0.5), Hills(depth=30.0)

    for score in (near, far):
        assert next(maximize(score, score.space, [EMPTY], seed=0)).point[0] < 0.5

    assert far.calls["ridge"] <= 10 < near.calls["ridge"]


def test_quasi_random_points_go_on_where_they_were():
    whole = quasi_random(3, 8, seed=1)

    assert np.array_equal(whole[5:], quasi_random(3, 3, seed=1, skip=5))
    assert not np.array_equal(whole, quasi_random(3, 8, seed=2))


class Slopes(Hills):
    """The same for a pool, of which the deeper one fixes `x`."""

    def __init__(self, is_quick):
        super().__init__(depth=0.5)
        self.ranked = []
        if is_quick:
            self.rank_completions = self._rank

    def _rank(self, points, fixed, memoized, X):
        self.ranked.append((points.tolist(), fixed.tolist(), memoized.tolist(), len(X)))
        return torch.stack([self(torch.where(fixed, p, X).unsqueeze(1), None) for p in points])


def test_a_score_may_rank_the_completions_of_a_depth_at_once():
    pool = [EMPTY, *(Reuse({"x": x}, (True, False)) for x in (0.2, 0.3, 0.8))]
    quick, plain = Slopes(is_quick=True), Slopes(is_quick=False)

    found, expected = (
        [c.params for c in maximize(s, s.space, pool, seed=0)] for s in (quick, plain)
    )

    assert found == expected
    kinds = {tuple(fixed): (len(p), memoized, m) for p, fixed, memoized, m in quick.ranked}
    assert kinds == {
        (False, False): (1, [False, False], 256),
        (True, False): (3, [True, False], 128),
    }


def test_an_entry_that_fixes_everything_has_one_completion():
    params = {"x": 0.25, "k": 2, "c": "b"}

    found = list(maximize(bowl, SPACE, [Reuse(params, (True, True))], seed=0))

    assert [candidate.params for candidate in found] == [params]
