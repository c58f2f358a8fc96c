"""Scores of candidates that leave stages out."""

import numpy as np
import pytest
import torch

from eeipu import Categorical, Float, OneOf, Optional, Pipeline, stage
from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.climbing.scores import RanksCompletions
from eeipu.methods.climbing.skipping import free_at, skipping
from eeipu.methods.reuse.candidates import Reuse


def named(name, **space):
    return stage(lambda x, **_: x, name=name, space=space)


FOREST = named("forest", depth=Float(0, 1), kind=Categorical(["u", "v", "w"]))
PIPELINE = Pipeline(
    [
        named("prep", a=Float(0, 1)),
        Optional(named("scale")),
        OneOf("model", [FOREST, named("linear", c=Float(0, 1)), named("mean")]),
        named("last", t=Float(0, 1)),
    ]
)


class Costs:
    """A score with gradients, which depends on what candidates get for free."""

    def __init__(self):
        self.prices = torch.tensor([0.3, 0.7, 1.1, 0.5, 0.2, 0.4], dtype=torch.double)
        self.target = torch.linspace(0.2, 0.9, len(PIPELINE.cube), dtype=torch.double)

    def __call__(self, X, memoized):
        near = -(X.squeeze(-2) - self.target).square().sum(-1)
        return near - (~memoized * self.prices).sum(-1)

    def value_and_gradient(self, X, memoized):
        return self(X, memoized).detach(), 2 * (self.target - X)


class Ranks(Costs):
    """The same, which also ranks completions. It takes one mask for all of them."""

    ranked = 0

    def rank_completions(self, points, fixed, memoized, X):
        self.ranked += len(points) * len(X)
        completed = [torch.where(fixed, point, X).unsqueeze(1) for point in points]
        return torch.stack([self(each, memoized) for each in completed])


NONE = (False,) * len(PIPELINE.stages)
PREP = (True, *NONE[1:])
POOL = [
    Reuse({}, NONE),
    Reuse({"prep.a": 0.25}, PREP),
    Reuse({"prep.a": 0.75}, PREP),
    Reuse({"prep.a": 0.25, "scale": "scale"}, (True, True, *NONE[2:])),
    Reuse({"prep.a": 0.25, "scale": "nothing"}, PREP),
]


def test_completions_are_ranked_with_what_they_leave_out():
    plain, quick = Costs(), Ranks()
    scores = skipping(plain, PIPELINE), skipping(quick, PIPELINE)
    assert isinstance(scores[1], RanksCompletions)

    found, expected = (
        [(c.params, pytest.approx(c.score)) for c in maximize(s, PIPELINE.cube, POOL, seed=0)]
        for s in scores
    )

    assert quick.ranked > 0
    assert found == expected


def test_ranks_are_the_scores_that_candidates_have():
    rng = np.random.default_rng(0)
    cube = PIPELINE.cube
    X = torch.from_numpy(cube.snap(rng.random((40, len(cube)))))
    points = torch.from_numpy(cube.snap(rng.random((7, len(cube)))))
    fixed = torch.tensor([name in ("prep.a", "model") for name in cube.names])
    memoized = torch.tensor([True, False, False, False, False, False])
    score = skipping(Ranks(), PIPELINE)

    ranks = score.rank_completions(points, fixed, memoized, X)

    for point, row in zip(points, ranks, strict=True):
        whole = torch.where(fixed, point, X).unsqueeze(1)
        free = free_at(whole, memoized, PIPELINE)
        assert torch.allclose(row, Costs()(whole, free))
