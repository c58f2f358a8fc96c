"""What observed stages add to the numbers before them."""

import math

import numpy as np
import pytest
import torch

from eeipu.models.observed_stages.increments import (
    Form,
    forms_of,
    increments,
    most_telling,
    nodes_of,
)

RNG = np.random.default_rng(0)


def test_a_stage_that_shows_nothing_is_part_of_the_next_one_that_does():
    nodes = nodes_of({1: 0}, [[0], [1, 2], [], [3], [4]], [(), (0,), (1,), (2,), (3,)])

    assert [node.stage for node in nodes] == [1, 4]
    assert [node.own for node in nodes] == [(0, 1, 2), (3, 4)]
    assert [node.columns for node in nodes] == [(0, 1, 2), (0, 1, 2, 3, 4)]
    assert [node.parents for node in nodes] == [(), (0,)]


def test_a_branch_that_shows_nothing_leads_back_to_what_does():
    nodes = nodes_of({0: 0, 1: 0}, [[0], [1], [2], [3]], [(), (0,), (0,), (1, 2)])

    assert nodes[-1].parents == (0, 1)
    assert nodes[-1].own == (2, 3)


def test_of_several_numbers_the_one_counts_that_goes_with_the_objective():
    values = RNG.random(20)
    loss, epochs = -np.exp(3 * values), RNG.integers(1, 50, 20).astype(float)

    found = most_telling([(0, epochs), (0, loss), (1, epochs)], values, unit=1.0)

    assert set(found) == {0, 1}
    np.testing.assert_allclose(found[0], loss - np.median(loss))
    np.testing.assert_allclose(found[1], epochs - np.median(epochs))


@pytest.mark.parametrize(
    "numbers",
    [np.ones(20), np.repeat([0.0, 1.0], 10), np.where(np.arange(20) < 9, RNG.random(20), math.nan)],
)
def test_numbers_that_hardly_vary_or_are_seldom_known_do_not_count(numbers):
    assert most_telling([(0, numbers)], RNG.random(20), unit=1.0) == {}


def test_too_few_trials_that_show_everything_are_nothing():
    values, numbers = RNG.random(20), RNG.random((2, 20))
    numbers[0, :8], numbers[1, 12:] = math.nan, math.nan

    assert most_telling([(0, numbers[0]), (1, numbers[1])], values, unit=1.0) == {}


@pytest.mark.parametrize(("size", "expected"), [(1.0, 1.0), (1e300, 1e-300), (1e-300, 1e300)])
def test_numbers_of_quite_another_size_have_a_unit_of_their_own(size, expected):
    numbers = size * np.linspace(-1.0, 1.0, 21)

    (found,) = most_telling([(0, numbers)], RNG.random(21), unit=1.0).values()

    np.testing.assert_allclose(found, expected * numbers)


def test_of_heavy_tails_there_is_a_form_that_compresses_them():
    nodes = nodes_of({}, [[0]], [()])
    Z = torch.from_numpy(np.concatenate([RNG.random(19), [-1e4]])[None])

    forms = forms_of(nodes, torch.rand(20, 1, dtype=torch.double), Z)
    U, _ = increments(nodes, forms, Z)

    assert forms == [Form(0, ()), Form(0, (), tail=-1)]
    assert U[0, -1] == -1e4
    assert -30 < U[1, -1] < 0
    good = Z[0] > Z.median()
    torch.testing.assert_close(U[1, good], Z[0, good])


def test_the_bad_side_is_above_where_less_is_better():
    nodes = nodes_of({0: 0}, [[0], [1]], [(), (0,)])
    first = torch.from_numpy(np.concatenate([RNG.random(19), [1e4]]))
    Z = torch.stack([first, -first.log()])

    forms = forms_of(nodes, torch.rand(20, 2, dtype=torch.double), Z)

    assert Form(0, (), tail=1) in forms


def test_of_a_number_that_is_mostly_the_same_the_others_tell_the_slope():
    """A choice that leaves a stage's output as it is in most trials."""
    nodes = nodes_of({0: 0, 1: 0}, [[0], [1], [2]], [(), (0,), (1,)])
    X = torch.rand(24, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    first = torch.where(torch.arange(24) % 3 == 0, X[:, 0], 0.0)
    Z = torch.stack([first, first, 3.0 * first - X[:, 2]])

    forms = forms_of(nodes, X, Z)

    assert {form.slopes for form in forms if form.node == 1} == {(1.0,)}
    (slopes,) = {form.slopes for form in forms if form.node == 2 and form.is_estimated}
    assert slopes == pytest.approx((3.0,), abs=0.3)
