"""Converted pipelines of scikit-learn, against scikit-learn itself."""

import importlib
import subprocess
import sys

import numpy as np
import optuna
import pytest
import scipy.stats
from agreement import agree, table
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import make_classification, make_regression
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from eeipu import Categorical, Float, Int, StageCache, Tuner
from eeipu.errors import ConfigurationError, MissingExtraError, SpaceError
from eeipu.sklearn import from_pipeline

X, Y = make_classification(150, 12, n_informative=6, random_state=0)
XR, YR = make_regression(120, 8, noise=20.0, random_state=0)


def columns():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [
            ("text", TfidfVectorizer(), "text"),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("number", numbers, ["age", "price"]),
        ]
    )


class Shift(BaseEstimator):
    """The user's own transformer: drawn at random, and without `fit_transform`."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y=None):
        draw = self.random_state
        self.shift_ = draw.normal(size=X.shape[1])
        self.rows_ = X.shape[0]
        return self

    def transform(self, X):
        return X + self.shift_


# --- equal values -------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["roc_auc", "neg_log_loss", "f1", None])
@pytest.mark.parametrize("C", [0.01, 3.0])
def test_scores_are_those_of_cross_val_score(scoring, C):
    steps = make_pipeline(StandardScaler(), PCA(random_state=0), LogisticRegression())
    space = {
        "standardscaler__with_std": [True, False],
        "pca__n_components": range(2, 9),
        "logisticregression__C": Float(1e-3, 1e3, log=True),
    }
    params = {"standardscaler.with_std": False, "pca.n_components": 5, "logisticregression.C": C}
    cv = StratifiedKFold(4, shuffle=True, random_state=1)
    agree(steps, space, params, X, Y, scoring=scoring, cv=cv)


@pytest.mark.parametrize(("min_df", "depth"), [(1, 3), (4, None)])
def test_a_table_of_texts_and_numbers_through_a_column_transformer(min_df, depth):
    steps = SklearnPipeline(
        [
            ("columns", columns()),
            ("clf", RandomForestClassifier(20, random_state=0)),
        ]
    )
    space = {
        "columns__text__min_df": Int(1, 5),
        "columns__number__simpleimputer__strategy": ["mean", "median"],
        "clf__max_depth": [3, None],
    }
    params = {
        "columns__text.min_df": min_df,
        "columns__number__simpleimputer.strategy": "median",
        "clf.max_depth": depth,
    }
    agree(steps, space, params, *table(), scoring="roc_auc", cv=3)


def test_a_regression_with_transformed_targets():
    model = TransformedTargetRegressor(Ridge(), transformer=StandardScaler())
    steps = make_pipeline(MinMaxScaler(), model)
    name = "transformedtargetregressor"
    agree(
        steps,
        {f"{name}__regressor__alpha": scipy.stats.loguniform(1e-3, 1e2)},
        {f"{name}.regressor__alpha": 0.5},
        XR,
        YR,
        scoring=make_scorer(mean_absolute_error, greater_is_better=False),
        cv=KFold(5, shuffle=True, random_state=3),
    )


def test_steps_that_pass_on_are_replaced_and_chosen_by_a_label():
    steps = SklearnPipeline(
        [
            ("off", "passthrough"),
            ("scale", StandardScaler()),
            ("select", SelectKBest(k=4)),
            ("clf", MLPClassifier((4,), max_iter=15, random_state=0)),
        ]
    )
    space = {
        "scale": ["passthrough", StandardScaler(), MinMaxScaler()],
        "select__score_func": [f_classif, mutual_info_classif],
        "clf__hidden_layer_sizes": [(4,), (3, 3)],
    }
    for scale in ("passthrough", "MinMaxScaler()"):
        params = {"scale.use": scale, "select.score_func": "f_classif"}
        params["clf.hidden_layer_sizes"] = "(3, 3)"
        with pytest.warns(UserWarning, match="converged yet"):
            search, _ = agree(steps, space, params, X, Y, cv=3)
    assert search.pipeline.stage_names == ("scale", "select", "clf")
    assert repr(search).startswith("PipelineSearch(Pipeline('scale -> select -> clf'")
    assert search.sklearn_params(params)["clf__hidden_layer_sizes"] == (3, 3)


def test_a_whole_step_may_have_hyper_parameters_of_its_own():
    steps = SklearnPipeline([("scale", StandardScaler()), ("clf", LogisticRegression())])
    space = {"clf": [LogisticRegression(), SVC()], "clf__C": Float(0.1, 9.0)}
    _, run = agree(steps, space, {"clf.use": "SVC()", "clf.C": 2.0}, X, Y, cv=3)
    assert run.value > 0.5


def test_a_single_estimator_is_one_stage():
    params = {"svc.C": 2.0, "svc.kernel": "rbf"}
    search, _ = agree(SVC(), {"C": Float(0.1, 9.0), "kernel": ["rbf"]}, params, X, Y, cv=3)
    assert search.refit(params, X, Y).C == 2.0


def test_data_without_targets_and_with_groups():
    steps = make_pipeline(StandardScaler(), KMeans(n_init=2, random_state=0))
    agree(steps, {"kmeans__n_clusters": Int(2, 5)}, {"kmeans.n_clusters": 3}, X, cv=3)
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    space, params = {"logisticregression__C": [1.0, 2.0]}, {"logisticregression.C": 2.0}
    agree(steps, space, params, X, Y, groups=np.arange(150) % 7, cv=GroupKFold(3))


def test_splits_that_are_listed_and_a_precomputed_kernel():
    splits = [(np.arange(100), np.arange(100, 150)), (np.arange(50, 150), np.arange(50))]
    agree(SVC(kernel="precomputed"), {"C": Float(0.1, 9.0)}, {"svc.C": 2.0}, X @ X.T, Y, cv=splits)


def test_a_scorer_of_the_users_own_gets_the_pipeline_and_the_data_as_given():
    def of_old_people(estimator, frame, y):
        old = (frame["age"] > 40).to_numpy()
        assert list(estimator.named_steps) == ["columns", "clf"]
        return float((estimator.predict(frame)[old] == y[old]).mean())

    steps = SklearnPipeline([("columns", columns()), ("clf", LogisticRegression())])
    agree(steps, {"clf__C": [1.0]}, {"clf.C": 1.0}, *table(), scoring=of_old_people, cv=3)


def test_names_of_columns_reach_the_next_step():
    frame, y = table()
    steps = make_pipeline(StandardScaler(), PCA(1), LogisticRegression())
    steps.set_output(transform="pandas")
    numbers = frame[["price", "age"]].fillna(0.0)
    agree(steps, {"pca__whiten": [True, False]}, {"pca.whiten": True}, numbers, y, cv=3)


def test_a_generator_of_the_users_own_is_copied_for_each_fold_and_trial():
    steps = make_pipeline(Shift(np.random.RandomState(0)), LogisticRegression())
    cv = ShuffleSplit(3, random_state=np.random.RandomState(5))
    space, params = {"logisticregression__C": [1.0, 2.0]}, {"logisticregression.C": 1.0}
    search = from_pipeline(steps, space, cv=cv)
    runs = [search.pipeline.run(params, X, Y) for _ in range(2)]
    expected = cross_val_score(
        steps, X, Y, cv=ShuffleSplit(3, random_state=np.random.RandomState(5))
    )
    assert [run.value for run in runs] == [expected.mean()] * 2


def test_nothing_is_fitted_on_the_test_part():
    steps = make_pipeline(Shift(np.random.RandomState(0)), LogisticRegression())
    search = from_pipeline(steps, {"logisticregression__C": [1.0]}, cv=5)
    folds = search.pipeline.run({"logisticregression.C": 1.0}, X, Y).outputs["shift"]
    assert [dict(fold.fitted)["shift"].rows_ for fold in folds] == [120] * 5
    assert [len(fold.X_test) for fold in folds] == [30] * 5


def test_several_scorers_are_metrics_and_one_of_them_is_optimised():
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    search = from_pipeline(
        steps,
        {"logisticregression__C": [1.0]},
        scoring=["f1", "roc_auc"],
        objective="roc_auc",
        cv=3,
    )
    run = search.pipeline.run({"logisticregression.C": 1.0}, X, Y)
    for name in ("f1", "roc_auc"):
        scores = cross_val_score(steps, X, Y, scoring=name, cv=3)
        assert run.metrics[f"mean_test_{name}"] == scores.mean()
        assert run.metrics[f"std_test_{name}"] == scores.std()
    assert run.value == run.metrics["mean_test_roc_auc"]


class Twice(BaseEstimator):
    """A sampler, as imbalanced-learn's pipelines have them."""

    def fit_resample(self, X, y):
        return np.concatenate([X, X[:40]]), np.concatenate([y, y[:40]])


def test_a_sampler_resamples_the_training_part_alone():
    steps = SklearnPipeline([("twice", Twice()), ("svc", SVC())])
    cv = StratifiedKFold(3)
    run = from_pipeline(steps, {"svc__C": [2.0]}, cv=cv).pipeline.run({"svc.C": 2.0}, X, Y)
    scores = [
        SVC(C=2.0).fit(*Twice().fit_resample(X[train], Y[train])).score(X[test], Y[test])
        for train, test in cv.split(X, Y)
    ]
    assert run.value == np.mean(scores)


# --- searching ----------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "processes"])
def test_a_search_reuses_steps_and_refits_the_best(executor, tmp_path):
    steps = make_pipeline(StandardScaler(), PCA(random_state=0), LogisticRegression())
    space = {"pca__n_components": [2, 6], "logisticregression__C": [0.01, 1.0]}
    search = from_pipeline(steps, space, cv=3, scoring="roc_auc")
    tuner = Tuner(
        search.pipeline,
        budget=None,
        timeout=120,
        method="random-grid",
        cache=StageCache(tmp_path),
        executor=executor,
        seed=0,
    )
    study = tuner.run(X, Y, max_trials=4, progress=False)
    assert sum(trial.user_attrs["memoized"][0] for trial in study.trials) == 3
    assert sum(trial.user_attrs["memoized"][1] for trial in study.trials) == 2
    best = search.refit(study, X, Y)
    assert best is search.best_estimator_
    values = search.sklearn_params(study.best_params)
    expected = clone(steps).set_params(**values).fit(X, Y)
    assert best.predict_proba(X).tolist() == expected.predict_proba(X).tolist()
    assert not hasattr(steps[0], "mean_")


def test_a_range_that_grows_leaves_keys_as_they_are():
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    cache, params = StageCache(), {"logisticregression.C": 1.0}
    for high in (2.0, 9.0):
        search = from_pipeline(steps, {"logisticregression__C": Float(0.1, high)}, cv=3)
        run = search.pipeline.run(params, X, Y, cache=cache)
    assert run.memoized == [True, True]
    other = from_pipeline(steps, {"logisticregression__C": [1.0]}, cv=3, scoring="f1")
    assert other.pipeline.run(params, X, Y, cache=cache).memoized == [True, False]


def test_a_best_step_that_passes_on_is_refitted_without_its_hyper_parameters():
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    space = {"standardscaler": ["passthrough", StandardScaler()]}
    search = from_pipeline(steps, {**space, "standardscaler__with_mean": [True, False]}, cv=3)
    params = {"standardscaler.use": "passthrough", "standardscaler.with_mean": False}
    assert search.pipeline.run(params, X, Y).error is None
    best = search.refit(params, X, Y)
    assert best.named_steps["standardscaler"] == "passthrough"


def test_the_code_of_the_users_own_steps_counts():
    steps = make_pipeline(Shift(np.random.RandomState(0)), LogisticRegression())
    search = from_pipeline(steps, {"logisticregression__C": [1.0]}, cv=3)
    first = search.pipeline.stages[0]
    assert first.fingerprint
    assert any(each.code is Shift for each in first.known_code.reading.definitions)


# --- spaces and mistakes ------------------------------------------------------------------------


def test_spaces_of_every_kind():
    space = {
        "C": scipy.stats.loguniform(0.1, 10.0),
        "gamma": scipy.stats.uniform(0.5, 1.0),
        "degree": scipy.stats.randint(2, 5),
        "cache_size": range(100, 301, 100),
        "kernel": ("rbf", "poly"),
        "tol": np.logspace(-4, -2, 3),
        "coef0": optuna.distributions.FloatDistribution(0.0, 1.0),
        "max_iter": optuna.distributions.IntDistribution(100, 200),
        "shrinking": optuna.distributions.CategoricalDistribution([True, False]),
        "class_weight": [None, {0: 1.0, 1: 2.0}],
    }
    found = from_pipeline(SVC(), space).pipeline.space
    assert found == {
        "svc.C": Float(0.1, 10.0, log=True),
        "svc.gamma": Float(0.5, 1.5),
        "svc.degree": Int(2, 4),
        "svc.cache_size": Int(100, 300, step=100),
        "svc.kernel": Categorical(["rbf", "poly"]),
        "svc.tol": Categorical([1e-4, 1e-3, 1e-2]),
        "svc.coef0": Float(0.0, 1.0),
        "svc.max_iter": Int(100, 200),
        "svc.shrinking": Categorical([True, False]),
        "svc.class_weight": Categorical([None, "{0: 1.0, 1: 2.0}"]),
    }


def test_choices_that_look_alike_have_labels_of_their_own():
    class Alike(LogisticRegression):
        def __repr__(self):
            return "Alike()"

    steps = make_pipeline(StandardScaler(), LogisticRegression())
    space = {"logisticregression": [Alike(C=0.1), Alike(C=9.0)]}
    search = from_pipeline(steps, space)
    assert (
        search.sklearn_params({"logisticregression.use": "Alike() (2)"})["logisticregression"].C
        == 9.0
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"svc__D": [1.0]}, r"'svc__D' is not a hyper-parameter.*'svc__C'"),
        ({"swc__C": [1.0]}, r"'swc__C' is not a hyper-parameter"),
        ({"svc__C": 1.0}, r"'svc__C' must be a Float.*1\.0"),
        ({"svc__C": scipy.stats.norm(0, 1)}, r"'norm' of scipy\.stats"),
        ({"svc__C": range(3, 1)}, r"range of 'svc__C' must ascend"),
        ([{"svc__C": [1.0]}], r"must be one dict.*svc__C"),
    ],
)
def test_spaces_that_are_none_are_refused_by_name(space, message):
    with pytest.raises(SpaceError, match=message):
        from_pipeline(make_pipeline(StandardScaler(), SVC()), space)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cv": KFold(3, shuffle=True)}, "random_state"),
        ({"cv": ShuffleSplit(3)}, "random_state"),
        ({"scoring": ["f1"], "objective": "roc_auc"}, r"\['f1'\].*'roc_auc'"),
    ],
)
def test_folds_and_objectives_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        from_pipeline(SVC(), {"C": [1.0]}, **options)


def test_a_pipeline_without_an_estimator_at_its_end_is_refused():
    with pytest.raises(ConfigurationError, match="last step"):
        from_pipeline(SklearnPipeline([("a", StandardScaler()), ("b", "passthrough")]), {})


def test_a_configuration_with_another_name_is_refused():
    with pytest.raises(SpaceError, match=r"'svc__C'; it has \['svc\.C'\]"):
        from_pipeline(SVC(), {"C": [1.0]}).sklearn_params({"svc__C": 1.0})


def test_the_memory_of_the_pipeline_is_ignored_with_a_word(tmp_path):
    steps = make_pipeline(StandardScaler(), SVC(), memory=str(tmp_path))
    with pytest.warns(RuntimeWarning, match="memory= of the scikit-learn pipeline is not used"):
        search = from_pipeline(steps, {"svc__C": [1.0]}, cv=3)
    search.pipeline.run({"svc.C": 1.0}, X, Y)
    assert not list(tmp_path.iterdir())


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "eeipu.sklearn")
    with pytest.raises(MissingExtraError, match=r'pip install "eeipu\[sklearn\]"'):
        importlib.import_module("eeipu.sklearn")


def test_eeipu_does_not_import_scikit_learn():
    code = "import sys, eeipu, eeipu.tuner; print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
