"""Branches of converted pipelines: their values are those of scikit-learn, and they are reused."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
from agreement import agree, configuration, configured, table
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st
from own_transformers import Centred, Named
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)

from eeipu import StageCache, Tuner
from eeipu.sklearn import from_pipeline

FRAME, Y = table(72)
NUMBERS = FRAME[["age", "price"]].fillna(30.0).assign(days=np.arange(72.0) % 9)
ARRAY = NUMBERS.to_numpy()


def numbers():
    return Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])


def columns(**options):
    return ColumnTransformer(
        [
            ("text", TfidfVectorizer(), "text"),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("number", numbers(), ["age", "price"]),
        ],
        **options,
    )


def before_a_model(*steps):
    return Pipeline([*steps, ("model", Ridge())])


def no_columns(frame):
    return []


def two_columns(frame):
    return list(frame.columns[:2])


# --- values are scikit-learn's ------------------------------------------------------------------

SHAPES = {
    "three branches": (before_a_model(("columns", columns())), {"columns__text__min_df": 3}),
    "a nested pipeline": (
        before_a_model(("columns", columns())),
        {"columns__number__impute__strategy": "median", "columns__number__scale__with_std": False},
    ),
    "dense": (
        before_a_model(("columns", columns(sparse_threshold=0.0))),
        {"columns__text__min_df": 3},
    ),
    "threshold and weights": (
        before_a_model(("columns", columns(remainder="passthrough"))),
        {
            "columns__sparse_threshold": 0.9,
            "columns__transformer_weights": {"text": 0.5, "number": 3.0},
            "columns__n_jobs": 1,
        },
    ),
    "fixed weights": (
        before_a_model(("columns", columns(transformer_weights={"text": 0.25, "city": 2}))),
        {"columns__text__norm": "l1"},
    ),
    "steps before and behind": (
        before_a_model(
            ("first", FunctionTransformer(lambda frame: frame[frame.columns[::-1]])),
            ("columns", columns()),
            ("select", SelectKBest(k=5)),
        ),
        {"columns__city__min_frequency": 3, "select__k": 4},
    ),
    "a branch replaced": (
        before_a_model(("columns", columns())),
        {"columns__text": CountVectorizer(), "columns__text__min_df": 2},
    ),
    "a branch dropped": (before_a_model(("columns", columns())), {"columns__text": "drop"}),
    "a nested branch replaced": (
        before_a_model(("columns", columns())),
        {"columns__number": make_pipeline(SimpleImputer(strategy="median"), MinMaxScaler())},
    ),
    "a nested step passing on": (
        before_a_model(("columns", columns())),
        {"columns__number__scale": "passthrough", "columns__text__min_df": 2},
    ),
    "all columns replaced": (
        before_a_model(("columns", columns())),
        {"columns": ColumnTransformer([("city", OneHotEncoder(), ["city"])])},
    ),
    "all branches dropped but one": (
        before_a_model(("columns", columns())),
        {"columns__text": "drop", "columns__city": "drop"},
    ),
}

NUMERIC = {
    "remainder passes on": (
        before_a_model(
            (
                "columns",
                ColumnTransformer(
                    [("a", KBinsDiscretizer(3), [0]), ("b", StandardScaler(), [1])],
                    remainder="passthrough",
                ),
            )
        ),
        {"columns__a__n_bins": 4, "columns__b__with_mean": False},
    ),
    "remainder is an estimator": (
        before_a_model(
            (
                "columns",
                ColumnTransformer([("a", KBinsDiscretizer(3), [1])], remainder=StandardScaler()),
            )
        ),
        {"columns__a__n_bins": 4, "columns__remainder__with_std": False},
    ),
    "remainder is replaced": (
        before_a_model(
            (
                "columns",
                ColumnTransformer([("a", KBinsDiscretizer(3), [1])], remainder=StandardScaler()),
            )
        ),
        {"columns__a__n_bins": 4, "columns__remainder": "passthrough"},
    ),
    "remainder comes in": (
        before_a_model(
            (
                "columns",
                ColumnTransformer([("a", KBinsDiscretizer(3), [1]), ("b", PCA(1), [0, 1])]),
            )
        ),
        {"columns__a__n_bins": 4, "columns__remainder": MinMaxScaler()},
    ),
    "slices and masks": (
        before_a_model(
            (
                "columns",
                ColumnTransformer(
                    [
                        ("a", PCA(1), slice(0, 2)),
                        ("b", StandardScaler(), [False, True, True]),
                        ("c", "passthrough", [-1]),
                        ("d", "drop", [0]),
                    ],
                ),
            )
        ),
        {"columns__a__whiten": True, "columns__b__with_mean": False},
    ),
    "no columns": (
        before_a_model(
            (
                "columns",
                ColumnTransformer(
                    [
                        ("a", StandardScaler(), no_columns),
                        ("b", numbers(), []),
                        ("c", MinMaxScaler(), slice(0, 3)),
                    ]
                ),
            )
        ),
        {"columns__a__with_mean": False, "columns__b__scale__with_std": False},
    ),
    "a union": (
        before_a_model(("union", FeatureUnion([("pca", PCA(2)), ("poly", PolynomialFeatures())]))),
        {"union__pca__n_components": 1, "union__poly__degree": 3},
    ),
    "a union with weights": (
        before_a_model(
            (
                "union",
                FeatureUnion(
                    [("pca", PCA(2)), ("all", "passthrough"), ("not", "drop"), ("n", numbers())],
                    transformer_weights={"pca": 0.5},
                ),
            )
        ),
        {"union__pca__whiten": True, "union__n__scale__with_mean": False, "union__all": "drop"},
    ),
    "columns in a union in columns": (
        before_a_model(
            ("scale", MinMaxScaler()),
            (
                "outer",
                ColumnTransformer(
                    [
                        (
                            "left",
                            FeatureUnion(
                                [
                                    (
                                        "inner",
                                        ColumnTransformer(
                                            [
                                                ("bins", KBinsDiscretizer(3), [0]),
                                                ("scale", StandardScaler(), [1]),
                                            ],
                                            remainder="passthrough",
                                        ),
                                    ),
                                    ("pca", PCA(1)),
                                ]
                            ),
                            [2, 0],
                        ),
                        ("right", make_pipeline(PolynomialFeatures(), PCA(2)), [1, 2]),
                    ]
                ),
            ),
        ),
        {
            "outer__left__inner__bins__n_bins": 4,
            "outer__left__inner__scale__with_mean": False,
            "outer__left__pca__whiten": True,
            "outer__right__polynomialfeatures__degree": 3,
        },
    ),
    "pipelines in a pipeline": (
        Pipeline(
            [
                ("prepare", make_pipeline(MinMaxScaler(), make_union(PCA(1), PCA(2)))),
                ("model", make_pipeline(VarianceThreshold(), Ridge())),
            ]
        ),
        {
            "prepare__minmaxscaler__clip": True,
            "prepare__featureunion__pca-1__whiten": True,
            "prepare__featureunion__pca-2__n_components": 1,
            "model__variancethreshold__threshold": 0.01,
            "model__ridge__alpha": 3.0,
        },
    ),
    "transformers of the user's own": (
        before_a_model(
            (
                "columns",
                ColumnTransformer([("a", Centred(), [0, 1]), ("b", SelectKBest(k=1), [1, 2])]),
            )
        ),
        {"columns__a__shift": 0.1, "columns__b__k": 2},
    ),
}


def of(shape, X):
    estimator, values = shape
    space = {name: [value] for name, value in values.items()}
    search = from_pipeline(estimator, space)
    stored = {key: search.pipeline.space[key].choices[0] for key in search.hyper_parameters}
    return agree(estimator, space, stored, X, Y, cv=3)


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_has_the_scores_of_scikit_learn(name):
    of(SHAPES[name], FRAME)


@pytest.mark.parametrize("name", NUMERIC)
def test_numbers_have_the_scores_of_scikit_learn(name):
    of(NUMERIC[name], ARRAY)


@pytest.mark.parametrize("kind", ["frame", "lists", "memory order"])
@pytest.mark.parametrize("name", ["remainder is an estimator", "columns in a union in columns"])
def test_other_containers_have_the_scores_of_scikit_learn(name, kind):
    estimator, values = NUMERIC[name]
    X = {
        "frame": NUMBERS,
        "lists": ARRAY.tolist(),
        "memory order": np.asfortranarray(ARRAY),
    }[kind]
    of((estimator, values), X)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array"])
def test_sparse_data_has_the_scores_of_scikit_learn(kind):
    first = ColumnTransformer(
        [
            ("a", StandardScaler(with_mean=False), [0]),
            ("b", TruncatedSVD(1, random_state=0), [2, 1]),
        ],
        remainder="passthrough",
    )
    space = {"columns__a__with_std": [False], "columns__b__n_components": [2]}
    search, _ = agree(
        before_a_model(("columns", first)),
        space,
        {"columns__a__with_std": False, "columns__b__n_components": 2},
        getattr(scipy.sparse, kind)(ARRAY),
        Y,
        cv=3,
    )
    assert search.pipeline.stage_names[0] == "folds"


def test_texts_in_a_list_go_into_each_branch_of_a_union():
    words = make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char", ngram_range=(1, 2)))
    name = "featureunion__tfidfvectorizer"
    values = {f"{name}-1__min_df": 2, f"{name}-2__max_features": 40}
    of((make_pipeline(words, Ridge()), values), FRAME["text"].tolist())


@pytest.mark.parametrize("verbose", [True, False, "{transformer_name}/{feature_name}"])
def test_names_of_columns_are_those_that_scikit_learn_makes(verbose):
    first = ColumnTransformer(
        [("a", StandardScaler(), ["age"]), ("b", Named(), make_column_selector("price"))],
        remainder="passthrough",
        verbose_feature_names_out=verbose,
    )
    names = {
        True: ["b__price^2", "remainder__days"],
        False: ["price^2", "days"],
    }.get(verbose, ["b/price^2", "remainder/days"])
    second = ColumnTransformer(
        [("c", MinMaxScaler(), names), ("d", PCA(1), make_column_selector("a.*age|^age"))]
    )
    steps = before_a_model(("first", first), ("second", second)).set_output(transform="pandas")
    values = {
        "first__a__with_mean": False,
        "first__b__power": 2,
        "second__c__clip": True,
        "second__d__whiten": True,
    }
    search, _ = of((steps, values), NUMBERS)
    assert len(search.pipeline.stages) == 8


def test_a_union_names_columns_as_scikit_learn_does():
    union = FeatureUnion([("a", Named()), ("b", StandardScaler()), ("c", "passthrough")])
    steps = before_a_model(
        ("union", union), ("select", make_column_transformer((PCA(1), ["a__age^3", "c__days"])))
    ).set_output(transform="pandas")
    of((steps, {"union__a__power": 3, "union__b__with_mean": False}), NUMBERS)


def test_what_a_branch_makes_has_names_also_if_its_transformer_tells_none():
    doubled = FunctionTransformer(lambda frame: frame * 2)
    first = ColumnTransformer(
        [("a", doubled, ["age"]), ("b", numbers(), ["price"])], verbose_feature_names_out=False
    )
    steps = before_a_model(
        ("first", first), ("second", ColumnTransformer([("x", PCA(1), ["age"])]))
    )
    steps.set_output(transform="pandas")
    of((steps, {"first__a__check_inverse": False, "first__b__scale__with_std": False}), NUMBERS)


def test_types_of_columns_that_pandas_has_beside_those_of_numpy():
    frame = FRAME.astype({"text": "string", "city": "category", "price": "Float64"})
    frame["days"] = pd.array(np.arange(72) % 9, dtype="Int64")
    frame.index = pd.Index([f"row {i}" for i in range(72)])[::-1]
    first = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (CountVectorizer(), "text"),
    )
    values = {
        "columntransformer__onehotencoder__drop": "first",
        "columntransformer__standardscaler__with_mean": False,
        "columntransformer__countvectorizer__min_df": 2,
    }
    # Without missing values, which Ridge does not take.
    frame["age"] = frame["age"].fillna(40.0)
    of((make_pipeline(first, Ridge()), values), frame)


def test_frames_of_polars():
    polars = pytest.importorskip("polars")
    steps = before_a_model(("columns", columns(remainder="drop")))
    of((steps, {"columns__text__min_df": 2}), polars.from_pandas(FRAME))


def test_scorers_of_the_users_own_get_the_whole_estimator_with_all_its_parts():
    seen = []

    def score(estimator, frame, y):
        first = estimator.named_steps["columns"]
        seen.append((list(first.get_feature_names_out()), repr(estimator)))
        assert first.named_transformers_["number"].named_steps["scale"].mean_.shape == (2,)
        assert [name for name, *_ in first.transformers_] == ["text", "city", "number"]
        assert first.transformers[0][1].get_params()["min_df"] == 3
        half = frame.sample(frac=0.5, random_state=0)  # it predicts for what no stage has seen
        return float(np.mean(estimator.predict(half)))

    values = {"columns__text__min_df": 3, "columns__number__scale__with_std": False}
    steps = before_a_model(("columns", columns()))
    space = {name: [each] for name, each in values.items()}
    agree(steps, space, values, FRAME, Y, cv=3, scoring=score)
    assert seen[:3] == seen[3:]


def test_groups_and_folds_that_are_drawn_at_random():
    class Drawn:
        """A splitter that does not tell that it is random."""

        def split(self, X, y=None, groups=None):
            rows = np.random.default_rng().permutation(len(X))
            yield rows[:40], rows[40:]

        def get_n_splits(self, *_):
            return 1

    steps = before_a_model(("columns", columns()))
    groups, values = np.arange(72) % 5, {"columns__text__min_df": 3}
    agree(steps, {"columns__text__min_df": [3]}, values, FRAME, Y, groups, cv=GroupKFold(3))
    search = from_pipeline(steps, {"columns__text__min_df": [3]}, cv=Drawn())
    run = search.pipeline.run({"columns__text.min_df": 3}, FRAME, Y)
    rows = run.outputs["folds"]
    joined, numbers_alone = run.outputs["columns"], run.outputs["columns__number"]
    assert joined[0].y_train.tolist() == Y[rows[0][0]].tolist()
    assert numbers_alone[0].y_train.tolist() == Y[rows[0][0]].tolist()


def first_columns(X):
    return list(range((X.shape[1] + 1) // 2))


LEAVES = {
    "scale": (StandardScaler, "with_std", [True, False]),
    "range": (MinMaxScaler, "clip", [True, False]),
    "sparse": (partial(FunctionTransformer, scipy.sparse.csr_matrix), "check_inverse", [False]),
    "pca": (partial(PCA, 1), "whiten", [True, False]),
}


@st.composite
def transformers(draw, depth, name, searched, alone=True):
    """A transformer, of others down to a depth; what is searched is added to `searched`."""
    kind = draw(st.sampled_from(["leaf", "pipeline", "columns", "union"] if depth else ["leaf"]))
    if kind == "leaf":
        leaf = draw(st.sampled_from(["passthrough", *([] if alone else ["drop"]), *LEAVES]))
        if leaf not in LEAVES:
            return leaf
        make, param, choices = LEAVES[leaf]
        if draw(st.booleans()):
            searched[f"{name}__{param}"] = draw(st.sampled_from(choices))
        elif draw(st.integers(0, 3)) == 0:
            searched[name] = draw(st.sampled_from(["passthrough", MinMaxScaler()]))
        return make()
    parts = [
        (part, draw(transformers(depth - 1, f"{name}__{part}", searched, kind == "pipeline")))
        for part in "abc"[: draw(st.integers(1, 3))]
    ]
    if kind == "pipeline":
        return Pipeline(parts)
    weights = draw(st.sampled_from([None, {"a": 0.5}]))
    if kind == "union":
        return FeatureUnion(parts, transformer_weights=weights)
    given = st.sampled_from([[0], [-1], slice(0, 2), first_columns])
    remainder = draw(transformers(depth - 1, f"{name}__remainder", searched, alone=False))
    listed = [(part, each, draw(given)) for part, each in parts]
    return ColumnTransformer(listed, remainder=remainder, transformer_weights=weights)


@given(st.data())
@settings(max_examples=12, phases=(Phase.explicit, Phase.generate))
def test_whatever_is_put_together_has_the_scores_of_scikit_learn(data):
    searched = {}
    made = data.draw(transformers(3, "made", searched))
    steps = Pipeline([("made", made), ("model", KNeighborsRegressor(3))])
    try:
        whole = sklearn.base.clone(steps)
        for name in sorted(searched, key=lambda name: name.count("__")):
            whole.set_params(**{name: searched[name]})
        whole.fit(ARRAY, Y)
    except (ValueError, TypeError, IndexError):
        reject()  # nothing is left, or it has no second column
    of((steps, searched), ARRAY)


# --- what is a stage ----------------------------------------------------------------------------


def names_of(estimator, *searched, **options):
    values = estimator.get_params(deep=True)
    space = {name: [values[name]] for name in searched}
    return from_pipeline(estimator, space, **options).pipeline.stage_names


def test_each_transformer_is_a_stage_and_a_pipeline_in_it_one_for_each_step():
    steps = before_a_model(("columns", columns(remainder=StandardScaler())))
    search = from_pipeline(
        steps, {"columns__number__scale__with_mean": [True], "model__alpha": [1.0]}
    )
    graph = search.pipeline.layout.source_names
    assert graph == {
        "folds": ("INPUTS",),
        "columns__text": ("folds", "INPUTS"),
        "columns__city": ("folds", "INPUTS"),
        "columns__number__impute": ("folds", "INPUTS"),
        "columns__number__scale": ("columns__number__impute",),
        "columns__remainder": ("folds", "INPUTS"),
        "columns": (
            "columns__text",
            "columns__city",
            "columns__number__scale",
            "columns__remainder",
            "folds",
            "INPUTS",
        ),
        "model": ("columns",),
    }
    assert list(search.pipeline.space) == ["columns__number__scale.with_mean", "model.alpha"]


def test_what_has_no_hyper_parameters_stays_one_stage():
    steps = before_a_model(("columns", columns()))
    assert names_of(steps, "model__alpha") == ("columns", "model")
    assert names_of(steps, "columns__text__min_df") == (
        *("folds", "columns__text", "columns__city", "columns__number", "columns", "model"),
    )
    assert names_of(steps, "columns__sparse_threshold")[1:4] == (
        *("columns__text", "columns__city", "columns__number"),
    )


class Doubled(ColumnTransformer):
    """What a class of the user's own does with its transformers is not known."""

    def fit_transform(self, X, y=None, **params):
        return 2 * super().fit_transform(X, y, **params)


def test_what_cannot_be_split_faithfully_stays_one_stage():
    parts = columns().transformers
    own = before_a_model(("columns", Doubled(parts)))
    assert names_of(own, "columns__text__min_df") == ("columns", "model")
    agree(own, {"columns__text__min_df": [2]}, {"columns__text__min_df": 2}, FRAME, Y, cv=3)
    one = before_a_model(("columns", ColumnTransformer(parts[:1], remainder="drop")))
    assert names_of(one, "columns__text__min_df") == ("columns", "model")
    twice = before_a_model(("columns", ColumnTransformer([parts[0], parts[0]])))
    assert names_of(twice, "columns__text__min_df") == ("columns", "model")
    replaced = before_a_model(("columns", columns()))
    assert names_of(replaced, "columns__transformers") == ("columns", "model")
    nested = before_a_model(("prepare", Pipeline([("columns", columns())])))
    assert names_of(nested, "prepare__memory") == ("prepare", "model")
    assert names_of(nested, "prepare__columns__text__min_df")[-2:] == ("prepare__columns", "model")


def test_names_with_dots_and_names_that_stages_have_already():
    union = FeatureUnion([("a.b", PCA(1)), ("_c", StandardScaler()), ("folds", MinMaxScaler())])
    steps = Pipeline([("folds", union), ("v1.0", Ridge())])
    values = {"folds__a.b__whiten": True, "folds___c__with_std": False, "v1.0__alpha": 2.0}
    search, _ = of((steps, values), ARRAY)
    assert search.pipeline.stage_names == (
        *("folds_2", "folds__a_b", "folds___c", "folds__folds", "folds", "v1_0"),
    )


def test_the_memory_of_a_pipeline_inside_is_ignored_with_a_word(tmp_path):
    inside = make_pipeline(MinMaxScaler(), PCA(1), memory=str(tmp_path))
    steps = before_a_model(("inside", inside))
    with pytest.warns(RuntimeWarning, match="memory= of the scikit-learn pipeline is not used"):
        from_pipeline(steps, {"inside__pca__whiten": [True]})
    from_pipeline(steps, {"model__alpha": [1.0]})  # it is one stage, and keeps what it likes


# --- reuse --------------------------------------------------------------------------------------


def test_a_change_in_one_branch_leaves_the_others_where_they_are():
    steps = before_a_model(("columns", columns()))
    space = {
        "columns__text__min_df": [1, 3],
        "columns__number__scale__with_std": [True, False],
        "columns__sparse_threshold": [0.3, 0.9],
    }
    search, cache = from_pipeline(steps, space, cv=3), StageCache()
    values = {name: choices[0] for name, choices in space.items()}
    search.pipeline.run(configuration(search, values), FRAME, Y, cache=cache)

    def ran(**changed):
        params = configuration(search, {**values, **changed})
        run = search.pipeline.run(params, FRAME, Y, cache=cache)
        names = search.pipeline.stage_names
        return [name for name, free in zip(names, run.memoized, strict=True) if not free]

    assert ran(columns__text__min_df=3) == ["columns__text", "columns", "model"]
    assert ran(columns__number__scale__with_std=False) == [
        *("columns__number__scale", "columns", "model"),
    ]
    assert ran(columns__sparse_threshold=0.9) == ["columns", "model"]
    both = {"columns__text__min_df": 3, "columns__number__scale__with_std": False}
    assert ran(**both) == ["columns", "model"]


def test_another_default_in_one_branch_leaves_the_keys_of_the_others():
    cache = StageCache()
    for norm, expected in (("l2", 0), ("l1", 4)):
        steps = before_a_model(("columns", columns()))
        steps.set_params(columns__text__norm=norm)
        search = from_pipeline(steps, {"columns__text__min_df": [1]}, cv=3)
        run = search.pipeline.run({"columns__text.min_df": 1}, FRAME, Y, cache=cache)
        assert sum(run.memoized) == (3 if expected else 0)


def test_what_is_kept_of_a_join_does_not_have_its_branches_beside_it():
    steps = before_a_model(("columns", columns(remainder=StandardScaler())))
    search = from_pipeline(steps, {"columns__text__min_df": [1]}, cv=3)
    run = search.pipeline.run({"columns__text.min_df": 1}, NUMBERS.join(FRAME[["text", "city"]]), Y)
    (fold, *_) = run.outputs["columns"]
    whole = dict(fold.fitted)["columns"]
    left = [each for each in vars(whole).values() if type(each).__name__ == "_Made"]
    left += [each for each in whole._remainder if type(each).__name__ == "_Made"]
    assert all(each.train is None and each.test is None for each in left)
    assert [name for name, _ in fold.fitted] == ["columns"]
    assert type(whole.transformers_[0][1]) is TfidfVectorizer


@pytest.mark.parametrize("configuration", [{}, {"transform_output": "pandas"}])
def test_branches_run_in_worker_processes_as_scikit_learn_is_configured(configuration, tmp_path):
    first = ColumnTransformer([("a", StandardScaler(), ["age"]), ("b", Named(), ["price", "days"])])
    names = ["a__age"] if configuration else [0]
    second = ColumnTransformer([("c", MinMaxScaler(), names)], remainder="passthrough")
    steps = before_a_model(("first", first), ("second", second))
    space = {"first__a__with_std": [True, False], "first__b__power": [1, 2]}
    with sklearn.config_context(**configuration):
        search = from_pipeline(steps, space, cv=3)
        tuner = Tuner(
            search.pipeline,
            budget=None,
            timeout=300,
            method="random-grid",
            cache=StageCache(tmp_path),
            executor="processes",
            seed=0,
        )
        study = tuner.run(NUMBERS, Y, max_trials=4, progress=False)
        values = [
            sklearn.model_selection.cross_val_score(
                configured(search, trial.params), NUMBERS, Y, cv=3
            ).mean()
            for trial in study.trials
        ]
        assert [trial.value for trial in study.trials] == values
        best = search.refit(study, NUMBERS, Y)
        expected = configured(search, study.best_params).fit(NUMBERS, Y).predict(NUMBERS)
        assert best.predict(NUMBERS).tolist() == expected.tolist()


# --- the best estimator -------------------------------------------------------------------------


def test_a_best_branch_that_is_dropped_is_refitted_without_its_hyper_parameters():
    steps = before_a_model(("columns", columns()))
    space = {"columns__text": [TfidfVectorizer(), "drop"], "columns__text__min_df": [1, 3]}
    search = from_pipeline(steps, space, cv=3)
    params = {"columns__text.use": "drop", "columns__text.min_df": 3}
    run = search.pipeline.run(params, FRAME, Y)
    assert run.error is None
    best = search.refit(params, FRAME, Y)
    assert best.named_steps["columns"].named_transformers_["text"] == "drop"
    kept = {**params, "columns__text.use": search.pipeline.space["columns__text.use"].choices[0]}
    assert search.refit(kept, FRAME, Y)[0].named_transformers_["text"].min_df == 3


def test_an_estimator_that_is_no_pipeline_is_refitted_with_what_lies_in_it():
    wrapped = sklearn.compose.TransformedTargetRegressor(Ridge())
    search = from_pipeline(wrapped, {"regressor__alpha": [1.0, 3.0]}, cv=3)
    best = search.refit({"transformedtargetregressor.regressor__alpha": 3.0}, ARRAY, Y)
    assert best.regressor_.alpha == 3.0


def test_a_step_of_a_pipeline_cannot_be_dropped():
    steps = before_a_model(("columns", columns()))
    space = {"columns__number__scale": [StandardScaler(), "drop"]}
    search = from_pipeline(steps, space, cv=KFold(3))
    run = search.pipeline.run({"columns__number__scale.use": "drop"}, FRAME, Y)
    assert "'columns__number__scale' is 'drop', but a step of a Pipeline must be" in run.error
