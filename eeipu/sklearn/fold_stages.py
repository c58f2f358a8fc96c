"""The steps of a scikit-learn pipeline as what stages call: each works on all folds in one call.

A step is fitted for each fold, on that fold's training part alone, and what it makes of both parts
goes on to the next step. Values are those of `sklearn.model_selection.cross_val_score`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import clone

from eeipu.sklearn.assembly import assembled
from eeipu.sklearn.columns import Selection
from eeipu.sklearn.folds import Fold, Splitting
from eeipu.sklearn.hyper_parameters import choice

__all__ = ["STEP", "FirstStep", "FoldScore", "FoldTransform", "LaterStep", "Step", "Work"]

STEP = "use"
"""The name of the hyper-parameter that stands for a whole step."""

Work = Callable[..., Any]
"""What a stage does with folds and with those of the branches that it joins, by position, and with
hyper-parameters, by name. It returns the folds as they are then, or scores."""


@dataclass(frozen=True)
class Step:
    """A step. What is here counts in content keys, so its spaces are not.

    Attributes:
        name: scikit-learn's name of it, `"columns__text"`; "" for an estimator that is no pipeline.
        estimator: Its estimator, or `"passthrough"` or `None`.
        labelled: Hyper-parameter -> label -> choice, for choices that a study cannot store.
    """

    name: str
    estimator: Any
    labelled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def configured(self, params: Mapping[str, Any]) -> Any:
        """The estimator with these hyper-parameters, not fitted; or `"passthrough"` or `"drop"`."""
        values = {name: choice(self.labelled.get(name, {}), each) for name, each in params.items()}
        estimator = values.pop(STEP, self.estimator)
        if estimator is None or isinstance(estimator, str):
            return estimator or "passthrough"
        estimator = clone(estimator)
        if values:
            # Cloned like scikit-learn's own searches do, so that no two fits share an object.
            estimator.set_params(**{n: clone(each, safe=False) for n, each in values.items()})
        return estimator


@dataclass(frozen=True)
class FoldTransform:
    """Fits a transformer on each fold and transforms it.

    Attributes:
        step: The step with the transformer.
        is_branch: Whether it is all of a branch. If a hyper-parameter puts `"passthrough"` or
            `"drop"` in its place, the join does that.
        resamples: Whether it stands where a sampler of imbalanced-learn may stand.
    """

    step: Step
    is_branch: bool = False
    resamples: bool = False

    def __call__(self, folds: Iterable[Fold], /, **params: Any) -> list[Fold]:
        """The folds with their data transformed."""
        transformer = self.step.configured(params)
        if isinstance(transformer, str):
            return [self._passed_on(each, transformer) for each in folds]
        return [self._transformed(each, clone(transformer)) for each in folds]

    def _passed_on(self, fold: Fold, word: str) -> Fold:
        noted = replace(fold, fitted=(*fold.fitted, (self.step.name, word)))
        if self.is_branch:
            return replace(noted, X_train=None, y_train=None, X_test=None)
        if word != "passthrough":
            raise ValueError(
                f"{self.step.name!r} is {word!r}, but a step of a Pipeline must be a transformer, "
                f"'passthrough' or None."
            )
        return noted

    def _transformed(self, fold: Fold, transformer: Any) -> Fold:
        if fold.X_train is None:
            return fold
        name, y_train = self.step.name, fold.y_train
        if self.resamples and hasattr(transformer, "fit_resample"):  # for training alone
            X_train, y_train = transformer.fit_resample(fold.X_train, y_train)
            fitted = (*fold.fitted, (name, "passthrough"))
            return replace(fold, X_train=X_train, y_train=y_train, fitted=fitted)
        if hasattr(transformer, "fit_transform"):
            X_train = transformer.fit_transform(fold.X_train, y_train)
        else:
            X_train = transformer.fit(fold.X_train, y_train).transform(fold.X_train)
        X_test = transformer.transform(fold.X_test)
        fitted = (*fold.fitted, (name, transformer))
        return replace(fold, X_train=X_train, X_test=X_test, fitted=fitted)


@dataclass(frozen=True)
class FoldScore:
    """Fits the last step on each fold and scores it.

    Attributes:
        step: The step.
        scorers: Metric -> scorer; `None` stands for the estimator's own `score`.
        whole: The metrics whose scorers get the whole pipeline and the data as it was given.
        pipeline: The whole pipeline, where a scorer gets it.
    """

    step: Step
    scorers: Mapping[str, Any]
    whole: frozenset[str] = frozenset()
    pipeline: Any = None

    def __call__(self, folds: Iterable[Fold], /, **params: Any) -> dict[str, float]:
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
            estimator = assembled(
                self.pipeline, "", {**dict(fold.fitted), self.step.name: estimator}
            )
        given = (X,) if fold.y_test is None else (X, fold.y_test)
        return float(estimator.score(*given) if scorer is None else scorer(estimator, *given))


@dataclass(frozen=True)
class FirstStep:
    """Splits the run's inputs, and does the first step.

    Attributes:
        work: What the first step does with the folds.
        splitting: How the data is split.
        config: What of scikit-learn's configuration is not as usual.
    """

    work: Work
    splitting: Splitting
    config: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, X: Any, y: Any = None, groups: Any = None, /, **params: Any) -> Any:
        """What the step makes of the folds of these data."""
        with config_context(**self.config):
            folds = self.splitting.folds(self.splitting.rows(X, y, groups), X, y)
            return self.work(folds, **params)


@dataclass(frozen=True)
class LaterStep:
    """Does a step on the folds that an earlier one has made.

    Attributes:
        work: What the step does with the folds.
        branches: How many branches it joins. Their folds come first.
        splitting: How the data is split, where the rows of folds and the run's inputs come behind
            the branches; `None` where folds come there.
        selections: What it works on: the columns of each branch that it lies in, outermost first.
        config: What of scikit-learn's configuration is not as usual.
    """

    work: Work
    branches: int = 0
    splitting: Splitting | None = None
    selections: tuple[Selection, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, /, *given: Any, **params: Any) -> Any:
        """What the step makes of the folds."""
        branches, (first, *data) = given[: self.branches], given[self.branches :]
        with config_context(**self.config):
            folds = first if self.splitting is None else self.splitting.folds(first, *data)
            return self.work(map(self._selected, folds), *branches, **params)

    def _selected(self, fold: Fold) -> Fold:
        for each in self.selections:
            fold = each.of(fold)
        return fold
