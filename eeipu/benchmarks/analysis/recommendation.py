"""Results told by the configuration that a model believes best, not by the one that looked best.

With noise, the best value of many is a lucky one. All methods are told alike: whatever chose the
trials, a Gaussian process of the objective (`eeipu.models.objective`) learns their configurations
and values, and after each trial the one with the highest mean counts. It does not see what stages
show, which result files do not have.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from eeipu.benchmarks.registry import load
from eeipu.benchmarks.runs.results import Result
from eeipu.methods.history import History
from eeipu.methods.learning.fits import Refits
from eeipu.methods.recommendation import best_believed
from eeipu.methods.search_models import SearchModels
from eeipu.pipeline import Pipeline

__all__ = ["as_recommended"]

# Fewer values than this are no data for a model, and the best of them counts.
LEAST_VALUES = 3


def as_recommended(result: Result) -> Result:
    """The same run, with the trial that is recommended after each trial; see `Result`."""
    options = result.options
    problem = load(options.problem, options.preset, cost=options.cost, seed=options.seed)
    trials = [_trial(row, problem.pipeline) for row in result.trials]
    study = optuna.create_study(direction=result.problem["direction"])
    refits, rows, values = Refits(), [], 0
    for count, row in enumerate(result.trials, start=1):
        values += row["value"] is not None
        if values < LEAST_VALUES:
            rows.append(row)
            continue
        history = History.of(study, problem.pipeline, trials[:count])
        fits = refits.start(history)
        number = best_believed(SearchModels(history, fits)).number
        refits.note(history, fits)
        rows.append({**row, "recommended": number})
    return replace(result, trials=tuple(rows))


def _trial(row: Mapping[str, Any], pipeline: Pipeline) -> FrozenTrial:
    """A row of a result as a trial."""
    state = TrialState.FAIL if row["state"] == "interrupted" else TrialState[row["state"].upper()]
    trial = create_trial(
        state=state,
        value=row["value"],
        params=row["params"],
        distributions={name: pipeline.space[name] for name in row["params"]},
        user_attrs={"interrupted": True} if row["state"] == "interrupted" else {},
    )
    trial.number = row["number"]
    return trial
