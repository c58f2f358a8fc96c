"""The steps of a scikit-learn pipeline as what stages call: each works on all folds in one call.

A step is fitted for each fold, on that fold's training part alone, and what it makes of both parts
goes on to the next step. Values are those of `sklearn.model_selection.cross_val_score`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, indexable

from eeipu.sklearn.hyper_parameters import choice

__all__ = ["STEP", "FirstStep", "Fold", "FoldScore", "FoldTransform", "Splitting", "Step"]

STEP = "use"
"""The name of the hyper-parameter that stands for a whole step."""


@dataclass(frozen=True, eq=False)
class Fold:
    """A fold of the data, as far as the steps up to now have transformed it.

    Attributes:
        X_train: The part to fit on.
        y_train: Its targets; `None` without targets.
        X_test: The part to score on.
        y_test: Its targets.
        fitted: The transformers that were fitted on this fold, by the names of their steps.
        raw_test: The part to score on as it was given, where the scorer is one that may look at it.
    """

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any
    fitted: tuple[tuple[str, Any], ...] = ()
    raw_test: Any = None


@dataclass(frozen=True)
class Splitting:
    """How the data is split.

    Attributes:
        cv: As for `sklearn.model_selection.cross_val_score`.
        is_classifier: Whether a number of folds means stratified ones.
        is_pairwise: Whether columns of the data are its rows, as of a precomputed kernel.
        keeps_raw: Whether folds keep the part to score on as it was given.
    """

    cv: Any
    is_classifier: bool
    is_pairwise: bool = False
    keeps_raw: bool = False

    def folds(self, X: Any, y: Any, groups: Any) -> list[Fold]:
        """Split the data."""
        X, y, groups = indexable(X, y, groups)
        # A copy: a splitter with a generator of its own would split anew the next time.
        cv = check_cv(copy.deepcopy(self.cv), y, classifier=self.is_classifier)
        return [self._fold(X, y, train, test) for train, test in cv.split(X, y, groups)]

    def _fold(self, X: Any, y: Any, train: Any, test: Any) -> Fold:
        X_train, X_test = self._rows(X, train, train), self._rows(X, test, train)
        y_train, y_test = (None if y is None else _safe_indexing(y, rows) for rows in (train, test))
        return Fold(X_train, y_train, X_test, y_test, (), X_test if self.keeps_raw else None)

    def _rows(self, X: Any, rows: Any, train: Any) -> Any:
        return X[np.ix_(rows, train)] if self.is_pairwise else _safe_indexing(X, rows)


@dataclass(frozen=True)
class Step:
    """A step. What is here counts in content keys, so its spaces are not.

    Attributes:
        name: Its name.
        estimator: Its estimator, or `"passthrough"` or `None`.
        labelled: Hyper-parameter -> label -> choice, for choices that a study cannot store.
    """

    name: str
    estimator: Any
    labelled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def configured(self, params: Mapping[str, Any]) -> Any:
        """The estimator with these hyper-parameters, not fitted; `None` for one that passes on."""
        values = {name: choice(self.labelled.get(name, {}), each) for name, each in params.items()}
        estimator = values.pop(STEP, self.estimator)
        if estimator is None or estimator == "passthrough":
            return None
        estimator = clone(estimator)
        if values:
            # Cloned like scikit-learn's own searches do, so that no two fits share an object.
            estimator.set_params(**{n: clone(each, safe=False) for n, each in values.items()})
        return estimator


@dataclass(frozen=True)
class FoldTransform:
    """Fits a transformer on each fold and transforms it."""

    step: Step

    def __call__(self, folds: Sequence[Fold], /, **params: Any) -> list[Fold]:
        """The folds with their data transformed."""
        transformer = self.step.configured(params)
        if transformer is None:
            return list(folds)
        return [self._transformed(each, clone(transformer)) for each in folds]

    def _transformed(self, fold: Fold, transformer: Any) -> Fold:
        if hasattr(transformer, "fit_resample"):  # of imbalanced-learn, for training alone
            X_train, y_train = transformer.fit_resample(fold.X_train, fold.y_train)
            return replace(fold, X_train=X_train, y_train=y_train)
        if hasattr(transformer, "fit_transform"):
            X_train = transformer.fit_transform(fold.X_train, fold.y_train)
        else:
            X_train = transformer.fit(fold.X_train, fold.y_train).transform(fold.X_train)
        return replace(
            fold,
            X_train=X_train,
            X_test=transformer.transform(fold.X_test),
            fitted=(*fold.fitted, (self.step.name, transformer)),
        )


@dataclass(frozen=True)
class FoldScore:
    """Fits the last step on each fold and scores it.

    Attributes:
        step: The step.
        scorers: Metric -> scorer; `None` stands for the estimator's own `score`.
        whole: The metrics whose scorers get the whole pipeline and the data as it was given.
    """

    step: Step
    scorers: Mapping[str, Any]
    whole: frozenset[str] = frozenset()

    def __call__(self, folds: Sequence[Fold], /, **params: Any) -> dict[str, float]:
        """Each metric's mean, standard deviation, and value on each fold."""
        estimator = self.step.configured(params)
        scores: dict[str, list[float]] = {name: [] for name in self.scorers}
        for fold in folds:
            fitted = clone(estimator)
            fitted.fit(fold.X_train, fold.y_train)
            for name in self.scorers:
                scores[name].append(self._score(name, fitted, fold))
        summary = {}
        for name, values in scores.items():
            summary[f"mean_test_{name}"] = float(np.mean(values))
            summary[f"std_test_{name}"] = float(np.std(values))
            summary |= {f"split{i}_test_{name}": value for i, value in enumerate(values)}
        return summary

    def _score(self, name: str, estimator: Any, fold: Fold) -> float:
        scorer, X = self.scorers[name], fold.X_test
        if name in self.whole:
            X = fold.raw_test
            estimator = Pipeline([*fold.fitted, (self.step.name, estimator)])
        given = (X,) if fold.y_test is None else (X, fold.y_test)
        return float(estimator.score(*given) if scorer is None else scorer(estimator, *given))


@dataclass(frozen=True)
class FirstStep:
    """Splits the run's inputs, and does the first step.

    Attributes:
        splitting: How the data is split.
        step: What the first step does with the folds.
    """

    splitting: Splitting
    step: FoldTransform | FoldScore

    def __call__(self, X: Any, y: Any = None, groups: Any = None, /, **params: Any) -> Any:
        """What the step makes of the folds of these data."""
        return self.step(self.splitting.folds(X, y, groups), **params)
