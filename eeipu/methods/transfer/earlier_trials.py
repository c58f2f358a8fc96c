"""The trials of earlier studies, from which the models of a search begin.

Notation:
    S: earlier studies; m: their trials that count; d: hyper-parameters; K: stages; M: objectives.
    X: `m x (d + S)`, configurations, with a column for each study: it is `APART` for trials of that
        study, and 0 for all others, those of the present study included.

The models are Gaussian processes over configurations and studies. A term of their kernel that also
depends on the columns of studies makes the function of an earlier study correlate with the present
one, by as much as the lengthscales of these columns say, and those are fitted: a study that
disagrees is discounted. This is multi-task Bayesian optimisation (Swersky, Snoek and Adams 2013)
with a correlation of its own for each study and each term. Of costs, a further term over the
columns of studies alone is a factor between studies, such as that of another machine.

The correlation does not guard against a study whose function has other lengthscales, which are
shared. Therefore each model is also fitted to the trials of the present study alone, and whichever
predicts left-out values of this study better is taken: a wrong source is dropped.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from eeipu.errors import ConfigurationError
from eeipu.methods.history import History
from eeipu.models.objective import middle_value
from eeipu.pipeline import Pipeline

__all__ = ["EarlierTrials"]

logger = logging.getLogger("eeipu")

Array = NDArray[np.float64]

# How far trials of an earlier study are from those of the present one, in the unit of the cube. At
# the prior's lengthscales, the functions then have a correlation of about .75; one of .95 or of .2
# is within what the prior deems usual.
APART = 0.5

# At most so many trials of all earlier studies count: a fit takes the cube of their number. A third
# of them are the best ones, the others are spread evenly over time.
MOST_TRIALS = 100


@dataclass(frozen=True)
class EarlierTrials:
    """What earlier studies know.

    Attributes:
        X: `m x (d + S)`.
        values: `m x M`, the objectives, maximised, with 0 at the middle and 1 at the best of each
            study; NaN where there is none.
        stage_costs: `m x K`; NaN where a stage was not executed.
        best: The best trial of each study that has one.
    """

    X: Array
    values: Array
    stage_costs: Array
    best: tuple[FrozenTrial, ...]

    @classmethod
    def in_studies(
        cls, given: optuna.Study | Iterable[optuna.Study], pipeline: Pipeline
    ) -> "EarlierTrials | None":
        """What earlier studies tell about a pipeline; a warning names each that tells nothing.

        Raises:
            ConfigurationError: Something is no study.
        """
        named: Any = given  # which users may have given as a text, too
        is_list = isinstance(named, Iterable) and not isinstance(named, str)
        studies: list[Any] = list(named) if is_list else [named]
        for each in studies:
            if not isinstance(each, optuna.Study):
                raise ConfigurationError(
                    f"learn_from takes studies, but got {each!r:.200}; load one with "
                    f"optuna.load_study(study_name=..., storage=...), and of a Tuner give "
                    f"tuner.study."
                )
        histories = [History.of(study, pipeline) for study in studies]
        for study, history in zip(studies, histories, strict=True):
            if not len(history):
                logger.warning("nothing is learnt from the study %r: %s", *_why_not(study, history))
        return cls.of(histories, len(pipeline.objectives))

    @classmethod
    def of(cls, histories: Sequence[History], objectives: int) -> "EarlierTrials | None":
        """What the trials of earlier studies tell about a pipeline; `None` if there are none.

        Args:
            histories: The trials of each study that are configurations of the pipeline.
            objectives: How many objectives the present study has. Of a study with another number,
                costs alone are learnt.
        """
        used = [history for history in histories if len(history)]
        if not used:
            return None
        most = MOST_TRIALS // len(used)
        X, values, costs = [], [], []
        for s, history in enumerate(used):
            rows = _chosen(history, most)
            apart = np.zeros((len(rows), len(used)))
            apart[:, s] = APART
            X.append(np.concatenate([history.X[rows], apart], axis=1))
            values.append(_standard(history, objectives)[rows])
            costs.append(history.stages.costs[rows])
        return cls(
            np.concatenate(X),
            np.concatenate(values),
            np.concatenate(costs),
            tuple(trial for history in used for trial in history.top(1)),
        )

    def __len__(self) -> int:
        return len(self.X)

    @property
    def know_values(self) -> bool:
        """Whether any of them has an objective to learn from, and not costs alone."""
        return bool(np.isfinite(self.values).any())

    def followed_by(self, X: Array) -> Array:
        """These configurations and then others, of the present study (`n x d`)."""
        here = np.zeros((len(X), self.X.shape[1] - X.shape[1]))
        return np.concatenate([self.X, np.concatenate([X, here], axis=1)])


def _why_not(study: optuna.Study, history: History) -> tuple[str, str]:
    """The name of a study of which no trial counts, and why that is so."""
    reasons = Counter(why for _, why in history.left_out).most_common()
    if not reasons:
        return study.study_name, "it has no trial that has ended."
    why = "; ".join(f"{reason} ({count})" for reason, count in reasons)
    return study.study_name, f"its trials do not fit the space: {why}."


def _chosen(history: History, most: int) -> NDArray[np.intp]:
    """The trials of a study that count, by their places."""
    count = len(history)
    if count <= most:
        return np.arange(count)
    best = history.best_first[: most // 3]
    others = np.setdiff1d(np.arange(count), best)
    even = others[np.linspace(0, len(others) - 1, most - len(best)).astype(np.intp)]
    return np.sort(np.concatenate([best, even]))


def _standard(history: History, objectives: int) -> Array:
    """The objectives of a study, `n x M`, with 0 at their middle and 1 at the best."""
    known = history.objectives.values
    if known.shape[1] != objectives or not history.objectives.succeeded.any():
        return np.full((len(history), objectives), np.nan)
    columns = []
    for column in known.T:
        middle = middle_value(column)
        span = np.nanmax(column) - middle or middle - np.nanmin(column) or 1.0
        columns.append((column - middle) / span)
    return np.stack(columns, axis=1)
