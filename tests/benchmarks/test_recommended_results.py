"""Results told by the configuration that a model believes best."""

from dataclasses import replace

import numpy as np
import pytest
from benchmark_toys import options, result
from optuna.trial import TrialState

from eeipu.benchmarks.analysis.recommendation import as_recommended
from eeipu.benchmarks.registry import load
from eeipu.benchmarks.runs.results import noise_free


def noisy_hill(contender="ei"):
    """A run on `noisy` along one input, whose best value is lucky and far from the hill."""
    space = load("noisy", "smoke", cost="declared", seed=0).pipeline.space
    middle = {name: 0.5 * (each.low + each.high) for name, each in space.items()}
    moving = next(iter(space))
    shares = np.random.default_rng(0).permutation(np.linspace(0.0, 1.0, 25))
    free = 10.0 - 40.0 * (shares - 0.5) ** 2
    values = free + 0.2 * np.random.default_rng(1).standard_normal(25)
    lucky = int(np.argmin(abs(shares - 0.9)))
    values[lucky] = 12.0
    made = result(values.tolist(), contender=contender, problem="noisy", optimum=10.0)
    rows = [
        row | {"params": middle | {moving: space[moving].low + share * span}} | {"metrics": metrics}
        for row, share, metrics in zip(
            made.trials, shares, [{"noise_free": value} for value in free], strict=True
        )
        for span in [space[moving].high - space[moving].low]
    ]
    return replace(made, trials=tuple(rows)), lucky


def test_a_lucky_value_counts_as_what_the_model_believes():
    made, lucky = noisy_hill()

    told = as_recommended(made)

    assert made.improvement == pytest.approx(noise_free(made.trials[lucky]))
    assert told.improvement > 9.0 > made.improvement
    assert told.improvements[:2] == made.improvements[:2]
    assert all(row["recommended"] <= row["number"] for row in told.trials[2:])


def test_all_methods_are_told_alike():
    improvements = {as_recommended(noisy_hill(each)[0]).improvements for each in ("ei", "tpe")}

    assert len(improvements) == 1


def test_failures_and_interruptions_are_passed_over():
    made, _ = noisy_hill()
    states = {3: "fail", 4: "interrupted", 5: TrialState.PRUNED.name.lower()}
    rows = [
        row | {"state": states[k], "value": None} if k in states else row
        for k, row in enumerate(made.trials)
    ]

    told = as_recommended(replace(made, trials=tuple(rows)))

    assert told.improvement > 9.0
    assert not {row["recommended"] for row in told.trials[6:]} & states.keys()


def test_options_stay_as_they_are():
    made, _ = noisy_hill()

    assert as_recommended(made).options == made.options == options("ei", problem="noisy")
