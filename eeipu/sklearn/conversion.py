"""A scikit-learn pipeline, with a space as its own searches take it, as a pipeline of stages."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring, get_scorer
from sklearn.utils import get_tags

from eeipu.errors import ConfigurationError, SpaceError
from eeipu.pipeline import Pipeline
from eeipu.sklearn.fold_stages import FoldScore
from eeipu.sklearn.folds import Splitting
from eeipu.sklearn.hyper_parameters import HyperParameter, hyper_parameter
from eeipu.sklearn.stage_graph import stages_of
from eeipu.sklearn.step_tree import StepNode, step_tree

__all__ = ["PipelineSearch", "from_pipeline"]


class PipelineSearch:
    """A scikit-learn estimator, and the pipeline of stages that it was converted into.

    Attributes:
        estimator: The estimator.
        pipeline: The pipeline, for a `Tuner`. It is run with `X, y`, or `X, y, groups`, or `X`.
        hyper_parameters: What the pipeline calls a hyper-parameter, `"clf.C"` -> what it is.
        best_estimator_: The estimator that `refit` made last.
    """

    def __init__(
        self, estimator: Any, pipeline: Pipeline, hyper_parameters: Mapping[str, HyperParameter]
    ) -> None:
        self.estimator = estimator
        self.pipeline = pipeline
        self.hyper_parameters = dict(hyper_parameters)
        self.best_estimator_: Any = None

    def sklearn_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration as scikit-learn's `set_params` takes it.

        Args:
            params: A configuration of the pipeline, such as `study.best_params`.

        Raises:
            SpaceError: The pipeline has no hyper-parameter of one of the names.
        """
        unknown = [name for name in params if name not in self.hyper_parameters]
        if unknown:
            raise SpaceError(
                f"the pipeline has no hyper-parameter {unknown[0]!r}; it has "
                f"{list(self.hyper_parameters)}."
            )
        known = ((self.hyper_parameters[name], stored) for name, stored in params.items())
        return {each.name: each.value(stored) for each, stored in known}

    def refit(self, best: Any, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit the estimator to all data, with the best hyper-parameters.

        Args:
            best: A study, a trial, or a configuration of the pipeline.
            X: The data.
            y: The targets.
            fit_params: What the estimator's `fit` takes besides.

        Returns:
            A clone of the estimator, fitted; also as `best_estimator_`.
        """
        params = getattr(best, "best_params", getattr(best, "params", best))
        values = self.sklearn_params(params)
        estimator = clone(self.estimator)
        # What stands for a whole part comes first, as the others may be hyper-parameters of it.
        for name in sorted(values, key=lambda name: name.count("__")):
            if _has(estimator, name):
                estimator.set_params(**{name: clone(values[name], safe=False)})
        self.best_estimator_ = estimator.fit(X, y, **fit_params)
        return self.best_estimator_

    def __repr__(self) -> str:
        return f"PipelineSearch({self.pipeline!r}, {type(self.estimator).__name__})"


def _has(estimator: Any, name: str) -> bool:
    """Whether a hyper-parameter is of use: not where what it lies in passes the data on."""
    known, pieces = estimator.get_params(deep=True), name.split("__")
    above = (known.get("__".join(pieces[:k]), estimator) for k in range(1, len(pieces)))
    return not any(each is None or each in ("passthrough", "drop") for each in above)


def from_pipeline(
    estimator: Any,
    param_distributions: Mapping[str, Any],
    *,
    cv: Any = None,
    scoring: Any = None,
    objective: str | None = None,
    num_cpus: float = 1,
    name: str | None = None,
) -> PipelineSearch:
    """Convert a scikit-learn pipeline into a pipeline of stages, with a stage for each step.

    A stage fits its step for every fold of the cross-validation, on the training part alone, and
    the last one scores. So a trial that differs from an earlier one in its later steps reuses the
    earlier ones' work on all folds. The transformers of a `ColumnTransformer` or a `FeatureUnion`
    are branches, each with stages of its own, and a pipeline inside has a stage for each of its
    steps. The stage with the name of the whole joins them as scikit-learn does.

    A run's value, `mean_test_score`, is that of `cross_val_score(estimator, X, y, cv=cv,
    scoring=scoring).mean()`, and the other metrics have the names that
    `GridSearchCV.cv_results_` has for them.

    Args:
        estimator: A `sklearn.pipeline.Pipeline`, as `make_pipeline` makes it, or a single
            estimator. It is not changed. Its `memory` is not used: a `StageCache` keeps outputs.
            scikit-learn's configuration (`set_config`) is the present one in all stages.
        param_distributions: scikit-learn's name of a hyper-parameter (`"clf__C"`,
            `"columns__text__min_df"`, or a step's name for the whole step) -> a `Float`, `Int` or
            `Categorical`, a distribution of Optuna, a list of choices of any kind, a `range`, or
            `uniform`, `loguniform` or `randint` of `scipy.stats`. In the pipeline of stages a dot
            stands between the stage and its hyper-parameter: `"clf.C"`, `"columns__text.min_df"`.
        cv: A number of folds, a splitter, or a list of splits; `None` for 5 folds.
        scoring: The name of a scorer or a scorer; or a list or dict of several. `None`: the
            estimator's own `score`.
        objective: Which of several scorers to optimise; by default the first.
        num_cpus: CPU cores that a call of a stage takes, for estimators with `n_jobs`.
        name: The name of the pipeline, for people.

    Raises:
        SpaceError: A name is not one of the estimator's hyper-parameters, or its space is none.
        ConfigurationError: The folds would be others in each trial, or there is nothing to score.

    Note:
        Give every `random_state` a number, also that of the splitter. An output that was drawn at
        random once is reused, so without one a step's luck becomes a part of its trials.

        One stage are: a composition, or a pipeline in one, in which no hyper-parameter lies, or
        that a hyper-parameter replaces; one with a single transformer that works; an estimator that
        is of a class of your own derived from these; and estimators made of others in another way,
        such as `VotingClassifier`, `StackingClassifier` and `TransformedTargetRegressor`.
    """
    if not isinstance(param_distributions, Mapping):
        raise SpaceError(
            f"param_distributions must be one dict from names to spaces, but got "
            f"{param_distributions!r:.80}; of a list of dicts, convert each by itself."
        )
    root = step_tree(
        estimator, {name: hyper_parameter(name, each) for name, each in param_distributions.items()}
    )
    scorers = _scorers(scoring, estimator)
    if objective is not None and objective not in scorers:
        raise ConfigurationError(
            f"objective must be one of the scorers {list(scorers)}, but got {objective!r}."
        )
    _check_memory(root)
    whole = frozenset(n for n, scorer in scorers.items() if not _is_plain(scorer))
    splitting = Splitting(
        _checked_cv(cv), is_classifier(estimator), _is_pairwise(estimator), keeps_raw=bool(whole)
    )
    scoring_of = partial(
        FoldScore, scorers=scorers, whole=whole, pipeline=estimator if whole else None
    )
    made = stages_of(root, splitting, scoring_of, num_cpus)
    optimised = next(iter(scorers)) if objective is None else objective
    pipeline = Pipeline(made.stages, objective=f"mean_test_{optimised}", name=name)
    return PipelineSearch(estimator, pipeline, made.hyper_parameters)


def _check_memory(root: StepNode) -> None:
    """Say that a pipeline's own memory is not used."""
    if any(
        getattr(each.estimator, "memory", None) is not None for each in root.nodes() if each.parts
    ):
        warnings.warn(
            "the memory= of the scikit-learn pipeline is not used while it is searched: the "
            "StageCache of the Tuner keeps what its steps make.",
            RuntimeWarning,
            stacklevel=3,
        )


def _scorers(scoring: Any, estimator: Any) -> dict[str, Any]:
    """Metric -> scorer, and `None` for the estimator's own."""
    if isinstance(scoring, list | tuple | set | frozenset):
        scoring = {each: each for each in scoring}
    named = dict(scoring) if isinstance(scoring, Mapping) and scoring else {"score": scoring}
    for each in named.values():
        check_scoring(estimator, scoring=each)  # raises what scikit-learn's own searches raise
    return {
        name: get_scorer(each) if isinstance(each, str) else each for name, each in named.items()
    }


def _is_plain(scorer: Any) -> bool:
    """Whether a scorer only compares predictions with targets, so that the last step will do."""
    return scorer is None or hasattr(scorer, "_score_func")


def _checked_cv(cv: Any) -> Any:
    """A splitter that splits the same data in the same way each time."""
    if cv is None or isinstance(cv, int):
        return cv
    if not hasattr(cv, "split"):
        return list(cv)
    is_random = hasattr(cv, "random_state") and getattr(cv, "shuffle", True)
    if is_random and cv.random_state is None:
        raise ConfigurationError(
            f"{cv!r} would split the data in another way in each trial, so that values could not "
            f"be compared; give it a random_state."
        )
    return cv


def _is_pairwise(estimator: Any) -> bool:
    return bool(get_tags(estimator).input_tags.pairwise)
