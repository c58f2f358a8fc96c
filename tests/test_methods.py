"""The methods by name."""

import numpy as np
import optuna
import pytest
import torch

from eeipu import ConfigurationError, Float, Pipeline
from eeipu.history import History
from eeipu.methods import METHODS, method_named
from eeipu.search import Search

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


@pytest.fixture(scope="module")
def history():
    study = optuna.create_study(direction="minimize")
    rng = np.random.default_rng(0)
    for _ in range(8):
        trial = study.ask(PIPELINE.space)
        x, y = rng.random(2)
        study.tell(trial, x + y)
        del trial
    for trial in study.get_trials(deepcopy=False):
        trial.user_attrs["stage_costs"] = [1.0 + trial.params["prep.x"], None]
    return History.of(study, PIPELINE)


def search_of(history, spent_share=0.0, **arguments):
    """A search that has spent so much of its budget after the warm-up."""
    budget = history.spent / spent_share if spent_share else 1e9
    return Search(history, budget, n_initial=0, number=len(history), seed=0, **arguments)


def points(b=4):
    return torch.rand(b, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"no method 'eipu'.*'eeipu'"):
        method_named("eipu")


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.score is not None])
def test_every_method_scores_a_batch(name, history):
    score = METHODS[name].score(search_of(history))

    values = score(points(), torch.zeros(4, 2, dtype=torch.bool))

    assert values.shape == (4,)
    assert values.isfinite().all()


def test_eeipu_prefers_what_is_memoized_and_ei_does_not_care(history):
    masks = torch.tensor([[False, False], [True, False]])
    X = points(1).expand(2, 1, 2)

    eeipu, ei = (METHODS[name].score(search_of(history))(X, masks) for name in ("eeipu", "ei"))

    assert eeipu[1] > eeipu[0]
    assert ei[1] == ei[0]


def test_models_are_fitted_when_they_are_used_and_go_on_from_there(history):
    search = search_of(history)
    assert search.fitted == {}

    METHODS["ei"].score(search)
    assert set(search.fitted) == {"objective"}

    METHODS["eeipu"].score(search)
    again = search_of(history, warm_start=search.fitted)
    torch.testing.assert_close(
        again.objective.posterior(points()).mean,
        search.objective.posterior(points()).mean,
        rtol=1e-2,
        atol=1e-2,
    )
