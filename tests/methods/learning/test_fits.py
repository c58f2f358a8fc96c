"""When models are fitted again, and from where."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from histories import models_of

from eeipu.methods.learning.fits import Fits, Refits
from eeipu.methods.search_models import SearchModels


def test_a_model_is_fitted_once_from_where_the_last_fit_ended():
    begun, asked = Fits({"one": torch.ones(1)}, {"one": "fewer"}), []

    def fit(start, grown_from):
        asked.append((start, grown_from))
        return object()

    first = begun.get("one", fit)
    assert begun.get("one", fit) is first
    assert begun.get("other", fit) is not first
    assert asked == [(torch.ones(1), "fewer"), (None, None)]


def grown(count, seed=0):
    """Histories of a study after each of its trials, up to `count`."""
    points = np.random.default_rng(seed).random((count, 2))
    whole = models_of([(x, y, float(np.sin(5 * x) + y)) for x, y in points]).history
    return [replace(whole, ended=whole.ended[:n]) for n in range(count + 1)]


def is_fitted(refits, history):
    """Whether the models of a history are fitted, and whether that starts at the priors."""
    begun = refits.start(history)
    assert SearchModels(history, begun).objective is not None
    refits.note(history, begun)
    return begun.grown_from is None, not begun.starts


def test_models_are_fitted_when_trials_have_grown_by_a_twentieth():
    histories, refits = grown(70), Refits()

    fitted = [n for n in range(40, 71) if is_fitted(refits, histories[n])[0]]

    # At 50 and 63 because a fit from the priors was due.
    assert fitted == [40, 42, 45, 48, 50, 53, 56, 59, 62, 63, 67]


def test_fits_start_from_the_priors_when_trials_have_grown_by_a_quarter():
    histories, refits = grown(70), Refits()

    afresh = [n for n in range(40, 71) if is_fitted(refits, histories[n])[1]]

    assert afresh == [40, 50, 63]


@pytest.mark.parametrize("offset", range(3))
def test_every_driver_fits_as_often(offset):
    """Each of three drivers makes every third suggestion."""
    histories, refits = grown(70), Refits()

    fitted = [is_fitted(refits, histories[n])[0] for n in range(40 + offset, 71, 3)]

    assert fitted.count(True) in range(8, 12)


def test_another_study_is_fitted_anew():
    refits = Refits()
    is_fitted(refits, grown(40)[40])

    assert is_fitted(refits, grown(41, seed=1)[41]) == (True, True)


def test_between_fits_trials_count_all_the_same():
    histories, refits = grown(41), Refits()
    is_fitted(refits, histories[40])
    begun = refits.start(histories[41])
    earlier, model = begun.grown_from["objective"], SearchModels(histories[41], begun).objective

    X = torch.from_numpy(histories[41].X[-1:])
    assert torch.equal(model.hyperparameters, earlier.hyperparameters)
    before, after = (m.gp.posterior(X)[1].item() for m in (earlier, model))
    assert after < before


def test_earlier_models_are_let_go_of():
    histories, refits = grown(44), Refits()
    is_fitted(refits, histories[40])
    first = weakref.ref(refits.start(histories[41]).grown_from["objective"])
    assert first() is not None

    for history in histories[41:]:
        is_fitted(refits, history)

    gc.collect()
    assert first() is None
