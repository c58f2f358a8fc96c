"""Standardised observations with gaps."""

import math

import pytest
import torch

from eeipu.models.observations import Observations

X = torch.linspace(0.0, 1.0, 5, dtype=torch.double).unsqueeze(-1)
Y = torch.tensor([[1.0, 2.0, math.nan, 4.0, 5.0], [3.0, 3.0, 3.0, 3.0, 3.0]], dtype=torch.double)


def test_observations_are_standardised_and_gaps_are_zero():
    data = Observations.standardised(X, Y)

    assert data.mean.squeeze(-1).tolist() == [3.0, 3.0]
    assert data.std.squeeze(-1).tolist() == pytest.approx([math.sqrt(10 / 3), 1.0])
    assert data.is_known.tolist() == [[True, True, False, True, True], [True] * 5]
    torch.testing.assert_close(data.mean + data.std * data.y, Y.nan_to_num(3.0))


def test_some_rows_and_some_points_can_be_selected():
    data = Observations.standardised(X, Y)

    assert data.select(torch.tensor([1, 0])).mean.tolist() == data.mean.flip(0).tolist()
    some = data.at(torch.tensor([0, 2, 4]))
    assert some.X.squeeze(-1).tolist() == [0.0, 0.5, 1.0]
    assert some.is_known.tolist() == [[True, False, True], [True] * 3]


def test_representative_points_are_spread_over_time():
    data = Observations.standardised(X[[0] * 100], torch.arange(100.0)[None].double())

    assert data.representative(100).tolist() == list(range(100))
    assert data.representative(4).tolist() == [0, 33, 66, 99]
    assert set(data.representative(8, focus=[57, 58, 59]).tolist()) >= {57, 58, 0, 99}


def test_what_was_seldom_observed_is_represented_in_full():
    """Of 1,200 trials, a stage was executed in 60, and another in every third."""
    Y = torch.ones(3, 1200, dtype=torch.double)
    Y[1, torch.arange(1200) % 20 != 7] = math.nan
    Y[2, torch.arange(1200) % 3 != 0] = math.nan
    data = Observations.standardised(torch.zeros(1200, 1), Y)

    rows = data.representative(400)

    assert len(rows.unique()) == 400
    assert data.is_known[:, rows].sum(-1).tolist()[1] == 60
    assert data.is_known[2, rows].sum() > 150
    assert rows.diff().max() < 12


def test_further_observations_keep_the_scale():
    data = Observations.standardised(X, Y)
    more = data.extended(X[:1], torch.tensor([[9.0], [8.0]], dtype=torch.double))

    assert len(more.X) == 6
    assert torch.equal(more.mean, data.mean)
    assert (more.mean + more.std * more.y)[:, -1].tolist() == pytest.approx([9.0, 8.0])


def test_points_without_an_observation_are_independent_of_all_others():
    data = Observations.standardised(X, Y)
    kernel = torch.full((2, 5, 5), 0.5, dtype=torch.double)
    noise = torch.full((2,), 0.1, dtype=torch.double)

    factor = data.factor(kernel, noise)

    covariance = factor @ factor.transpose(-1, -2)
    assert covariance[0, 2].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(covariance[1], kernel[1] + 0.1 * torch.eye(5, dtype=torch.double))


def test_points_close_together_count_as_one_in_the_mean():
    """A search crowds around the best value, 1, while it is -1 in the rest of the space."""
    near = 0.5 + 1e-3 * torch.linspace(-1.0, 1.0, 30, dtype=torch.double)
    crowded = torch.cat([torch.tensor([0.0, 1.0], dtype=torch.double), near]).unsqueeze(-1)
    values = torch.cat([torch.tensor([-1.0, -1.0]), torch.ones(30)]).double()

    data = Observations.standardised(crowded, values[None])

    assert -0.6 < data.mean.item() < 0.1


def test_the_mean_of_a_gp_that_none_of_the_weighted_points_belongs_to(monkeypatch):
    monkeypatch.setattr("eeipu.models.observations.MAX_WEIGHTED", 3)
    values = torch.tensor([[math.nan, 2.0, math.nan, 4.0, math.nan]], dtype=torch.double)

    assert Observations.standardised(X, values).mean.item() == pytest.approx(3.0)
