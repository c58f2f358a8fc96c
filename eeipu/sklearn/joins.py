"""Where the branches of a `ColumnTransformer` or a `FeatureUnion` come together again.

The join is made by scikit-learn's own class, in which each branch is a transformer that gives what
the branch's stages have made. So sparse or dense, the order and the names of columns, weights,
what is passed on and what is dropped are scikit-learn's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone
from sklearn.compose import ColumnTransformer

from eeipu.sklearn.assembly import assembled, below
from eeipu.sklearn.fold_stages import Step
from eeipu.sklearn.folds import Fold

__all__ = ["REMAINDER", "Composition", "FoldJoin"]

Composition = Any
"""A `ColumnTransformer` or a `FeatureUnion`; scikit-learn has no types."""

REMAINDER = "remainder"
"""What a `ColumnTransformer` calls the transformer of the columns that no other one gets."""


class _Made:
    """Stands in a composition for a transformer whose work has been done on one fold.

    In all else it is like the transformer, such as in the names of the columns that it makes.
    """

    def __init__(self, fitted: Any, fold: Fold) -> None:
        self.fitted = fitted
        self.train = fold.X_train
        self.test = fold.X_test

    def fit_transform(self, *_: Any) -> Any:
        made, self.train = self.train, None  # it must not be kept beside the joined output
        return made

    def transform(self, *_: Any) -> Any:
        made, self.test = self.test, None
        return made

    def __sklearn_clone__(self) -> "_Made":
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "fitted":  # of an object that is being unpickled
            raise AttributeError(name)
        return getattr(self.fitted, name)


@dataclass(frozen=True)
class FoldJoin:
    """Puts together what the branches have made of each fold.

    Attributes:
        step: The step with the `ColumnTransformer` or `FeatureUnion`.
        branches: The names of its transformers that are branches. It does the others itself.
    """

    step: Step
    branches: tuple[str, ...]

    def __call__(
        self, folds: Iterable[Fold], /, *branches: Iterable[Fold], **params: Any
    ) -> list[Fold]:
        """The folds with what the branches have made of their data."""
        composition = self.step.configured(params)
        return [
            self._joined(fold, clone(composition), dict(zip(self.branches, made, strict=True)))
            for fold, *made in zip(folds, *branches, strict=True)
        ]

    def _joined(self, fold: Fold, composition: Composition, made: Mapping[str, Fold]) -> Fold:
        if fold.X_train is None:
            return fold
        originals = _transformers(composition)
        n_jobs, verbose = composition.n_jobs, composition.verbose
        parts: dict[str, Any] = {}
        for name, branch in made.items():
            whole = below(self.step.name, name)
            fitted = assembled(originals[name], whole, dict(branch.fitted))
            parts[name] = fitted if isinstance(fitted, str) else _Made(fitted, branch)
        _replace(composition, parts)
        # There is nothing to compute or to tell of, and for other processes outputs were copied.
        composition.n_jobs, composition.verbose = None, False
        X_train = composition.fit_transform(fold.X_train, fold.y_train)
        X_test = composition.transform(fold.X_test)
        composition.n_jobs, composition.verbose = n_jobs, verbose
        if isinstance(composition, ColumnTransformer):
            composition.transformers_ = [
                (name, _itself(each), columns) for name, each, columns in composition.transformers_
            ]
            # Not fitted, as scikit-learn leaves them, and with the branches' hyper-parameters.
            unfitted = {name: clone(_itself(each), safe=False) for name, each in parts.items()}
            _replace(composition, {**originals, **unfitted})
        else:
            _replace(composition, {n: _itself(t) for n, t in composition.transformer_list})
        fitted = (*fold.fitted, (self.step.name, composition))
        return replace(fold, X_train=X_train, X_test=X_test, fitted=fitted)


def _itself(transformer: Any) -> Any:
    return transformer.fitted if isinstance(transformer, _Made) else transformer


def _transformers(composition: Composition) -> dict[str, Any]:
    """The transformers of a composition by their names, with that of the remainder."""
    if isinstance(composition, ColumnTransformer):
        named = {name: each for name, each, _ in composition.transformers}
        return {**named, REMAINDER: composition.remainder}
    return dict(composition.transformer_list)


def _replace(composition: Composition, parts: Mapping[str, Any]) -> None:
    """Put transformers in the places of those with the same names."""
    if isinstance(composition, ColumnTransformer):
        composition.transformers = [
            (name, parts.get(name, each), columns)
            for name, each, columns in composition.transformers
        ]
        composition.remainder = parts.get(REMAINDER, composition.remainder)
    else:
        composition.transformer_list = [
            (name, parts.get(name, each)) for name, each in composition.transformer_list
        ]
