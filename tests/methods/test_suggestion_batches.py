"""Batches of suggestions from one maximisation."""

import numpy as np
import pytest
import torch

import eeipu.methods.suggestion_batches
from eeipu.methods.reuse.candidates import Candidate, Reuse
from eeipu.methods.suggestion_batches import in_turn
from eeipu.models.objective import ObjectiveModel
from eeipu.models.pending_improvement import LogPendingEI

RNG = np.random.default_rng(0)
PENDING = torch.tensor([[0.5, 0.5]], dtype=torch.double)
X = torch.from_numpy(np.random.default_rng(1).random((12, 2)))
SEED = 3


@pytest.fixture(scope="module")
def model():
    points = RNG.random((8, 2))
    return ObjectiveModel(points, np.sin(4 * points).sum(-1), [[0], [1]])


def candidates_of(scores, points):
    return [
        Candidate({"i": i}, point.numpy(), Reuse({}, (False,)), float(score))
        for i, (score, point) in enumerate(zip(scores, points, strict=True))
    ]


def batch(model, points, count, extra=0.0, fantasies=64):
    improvement = LogPendingEI(model, model.best_f, PENDING, num_fantasies=fantasies, seed=SEED)
    with torch.no_grad():
        scores = improvement(points.unsqueeze(-2)) + extra
    chosen = in_turn(candidates_of(scores, points), improvement, count)
    return scores, [candidate.params["i"] for candidate in chosen]


def test_the_best_comes_first_whatever_else_is_in_its_score(model):
    for extra in (torch.zeros(12), torch.linspace(0.0, 30.0, 12)):
        scores, chosen = batch(model, X, 3, extra)
        assert chosen[0] == int(scores.argmax())
        assert len(set(chosen)) == len(chosen) == 3


def test_the_second_is_the_best_beside_the_first(model, monkeypatch):
    monkeypatch.setattr(
        eeipu.methods.suggestion_batches, "LEAST_LEFT", 1e-3
    )  # even if it is close to the first
    _, (first, second) = batch(model, X, 2, fantasies=4096)
    others = [i for i in range(len(X)) if i != first]

    running = torch.cat([PENDING, X[[first]]])
    beside = LogPendingEI(model, model.best_f, running, num_fantasies=4096)
    with torch.no_grad():
        scores = beside(X[others].unsqueeze(-2))
    assert scores[others.index(second)] > scores.max() - 0.02


def test_two_of_a_kind_are_chosen_once(model):
    twice = torch.cat([X[:4], X[:4] + 1e-4])
    _, chosen = batch(model, twice, 8)

    assert len({i % 4 for i in chosen}) == len(chosen) <= 4


def test_a_batch_of_one_point_ends_by_itself(model):
    assert batch(model, X[:1], 5)[1] == [0]


def test_the_same_seed_chooses_the_same(model):
    assert batch(model, X, 4)[1] == batch(model, X, 4)[1]
