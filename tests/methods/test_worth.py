"""When a search stops because no trial is worth its cost, or the budget does not cover one."""

import numpy as np
import optuna
import pytest
from toys import declared

from eeipu import ConfigurationError, Float, NothingWorthwhile, Pipeline, Stage, Tuner


def run_of(price=None, method="eeipu", budget=400.0, direction="maximize", **arguments):
    """A search for the top of a hill of height 1, at 8 or less a trial."""
    sign = 1.0 if direction == "maximize" else -1.0
    pipeline = Pipeline(
        [
            Stage("prep", {"x": Float(0, 1)}, lambda data, x: x, version="1", cost=lambda x: 5.0),
            Stage(
                "fit",
                {"y": Float(0, 1)},
                lambda x, y: sign * (1.0 - (x - 0.3) ** 2 - (y - 0.7) ** 2),
                version="1",
                cost=lambda y: 3.0,
            ),
        ]
    )
    tuner = Tuner(
        pipeline,
        budget=budget,
        price=price,
        method=method,
        direction=direction,
        seed=0,
        **arguments,
    )
    return tuner, tuner.run(0.0, progress=False)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_search_with_a_price_ends_when_nothing_is_worth_it(direction, caplog):
    tuner, study = run_of(price=1e-4, direction=direction)

    assert tuner.remaining > 0
    assert "worth its expected cost at a price of 0.0001" in caplog.text
    assert abs(study.best_value) > 0.99
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)


def test_the_higher_the_price_the_earlier_it_ends():
    spent = [run_of(price=price)[0].spent for price in (1e-2, 1e-4)]

    assert spent[0] < spent[1]


def test_a_price_ends_no_warm_up_and_holds_back_no_enqueued_configuration():
    tuner, study = run_of(price=1e3, n_initial=4)
    assert len(study.trials) == 4

    tuner.enqueue({"prep.x": 0.1, "fit.y": 0.1})
    tuner.run(0.0, progress=False)

    assert len(study.trials) == 5


def test_ask_says_when_nothing_is_worth_its_price():
    tuner, _ = run_of(price=1e3, n_initial=4)

    with pytest.raises(NothingWorthwhile, match="price of 1000"):
        tuner.ask()


@pytest.mark.parametrize("price", [0.0, -1.0, float("inf"), True, "1"])
def test_a_price_is_a_positive_number(price):
    with pytest.raises(ConfigurationError, match=f"price.*positive.*{price!r}"):
        Tuner(declared(), budget=1.0, price=price)


def test_what_has_run_is_not_worth_a_price_again():
    """With a last stage that has nothing to choose, the incumbent itself would be all but free."""
    noise = np.random.default_rng(0)
    pipeline = Pipeline(
        [
            Stage("fit", {"x": Float(0, 1)}, lambda data, x: x, version="1", cost=lambda x: 1.0),
            Stage(
                "score",
                {},
                lambda x: -((x - 0.3) ** 2) + 0.1 * noise.normal(),
                version="1",
                cost=lambda: 0.01,
            ),
        ]
    )
    tuner = Tuner(pipeline, budget=100.0, price=0.1, n_initial=5, seed=0)

    assert len(tuner.run(0.0, progress=False).trials) < 30


def test_a_price_needs_a_method_that_models_costs():
    with pytest.raises(ConfigurationError, match=r"price needs .* RandomSampler does not"):
        Tuner(declared(), budget=1.0, price=1.0, method=optuna.samplers.RandomSampler())


def test_a_careful_search_stays_within_its_budget(caplog):
    careful, _ = run_of(method="eeipu-careful", budget=100.0, cache=None)
    careless, _ = run_of(method="eeipu", budget=100.0, cache=None)

    assert careful.spent == 96.0
    assert careless.spent == 104.0
    assert "pays for the next candidate with a chance of 0%" in caplog.text


# --- when nothing is left to find


def test_a_search_ends_when_it_is_done_if_asked_to(caplog):
    tuner, study = run_of(stop_when_done=True)

    assert tuner.remaining > 0.0
    assert "stopped: no configuration is left of which the models expect more" in caplog.text
    assert study.best_value > 0.995
    with pytest.raises(NothingWorthwhile, match="stop_when_done=False"):
        tuner.ask()


def test_otherwise_it_says_so_once_and_goes_on(caplog):
    done, _ = run_of(stop_when_done=True)
    tuner, _ = run_of(budget=done.spent + 40.0)

    assert tuner.remaining == 0.0
    assert caplog.text.count("Tuner(stop_when_done=True) ends a search here") == 1


def test_a_search_at_random_is_never_done():
    tuner, study = run_of(method="random", stop_when_done=True, budget=80.0)

    assert tuner.remaining == 0.0
    assert len(study.trials) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stop_when_done": 1}, "stop_when_done must be True or False, not 1"),
        (
            {"stop_when_done": True, "method": optuna.samplers.RandomSampler()},
            "stop_when_done needs one of eeipu's methods.*RandomSampler",
        ),
    ],
)
def test_stopping_needs_a_truth_value_and_a_method_with_models(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Tuner(declared(), budget=1.0, **arguments)
