# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Graphs and alternatives: text beside numbers, and one of three models
#
# Pipelines branch and join. Here a table has a column of text and columns of numbers. Each gets
# features of its own, in a branch of its own, and one of three models learns from both. A change in
# one branch leaves the other one's output where it is, in the cache.
#
# Install what this notebook needs with `pip install ".[notebook]"` in a clone.

# %%
import numpy as np
import pandas as pd
from scipy.sparse import hstack
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.preprocessing import KBinsDiscretizer

from eeipu import INPUTS, Float, Int, OneOf, Optional, Pipeline, StageCache, Tuner, report, stage
from eeipu.sklearn import from_pipeline

# %% [markdown]
# ## A table
#
# Orders of a shop, of which some are sent back. Whether one is depends on words of the customer's
# note, on the price and the days of delivery, and on chance.

# %%
rng = np.random.default_rng(0)
WORDS = np.array([f"word{k}" for k in range(400)])
weights = rng.normal(size=400) * (rng.random(400) < 0.1)
drawn = rng.integers(400, size=(4000, 30))
price, days = rng.gamma(2.0, 30.0, 4000), rng.integers(1, 15, 4000)
odds = weights[drawn].sum(axis=1) + np.sin(price / 30.0) + 1.5 * (days > 9) - 0.5
orders = pd.DataFrame(
    {
        "note": [" ".join(WORDS[row]) for row in drawn],
        "price": price,
        "days": days,
        "sent_back": rng.random(4000) < 1.0 / (1.0 + np.exp(-odds)),
    }
)
orders.head(3)

# %% [markdown]
# ## A graph of stages
#
# `inputs` says what each stage gets: `INPUTS` are the run's inputs, a name is another stage's
# output. `Optional` may be left out, and of `OneOf` one stage is run; which one is a
# hyper-parameter like any other.

# %%
TRAIN = slice(0, 3000)


@stage(space={"words": Int(50, 400, log=True), "share": Float(0.2, 1.0)}, inputs=INPUTS)
def text(table, *, words, share):
    tfidf = TfidfVectorizer(max_features=words, max_df=share)
    tfidf.fit(table["note"][TRAIN])
    return tfidf.transform(table["note"])


@stage(space={"bins": Int(2, 40, log=True)}, inputs=INPUTS)
def numbers(table, *, bins):
    columns = table[["price", "days"]]
    binned = KBinsDiscretizer(bins, strategy="uniform").fit(columns[TRAIN])
    return binned.transform(columns)


@stage(space={"weight": Float(0.1, 10.0, log=True)}, inputs=("text", "numbers"))
def features(text, numbers, *, weight):
    return hstack([text, weight * numbers]).tocsr()


def fitted(model, X, table):
    model.fit(X[TRAIN], table["sent_back"][TRAIN])
    return model.predict_proba(X[3000:])[:, 1]


@stage(space={"C": Float(0.01, 100.0, log=True)}, inputs=("features", INPUTS))
def linear(X, table, *, C):
    return fitted(LogisticRegression(C=C, max_iter=500), X, table)


@stage(space={"alpha": Float(0.01, 10.0, log=True)}, inputs=("features", INPUTS))
def bayes(X, table, *, alpha):
    return fitted(MultinomialNB(alpha=alpha), X, table)


@stage(space={"trees": Int(20, 200, log=True), "leaf": Int(1, 20)}, inputs=("features", INPUTS))
def forest(X, table, *, trees, leaf):
    return fitted(ExtraTreesClassifier(trees, min_samples_leaf=leaf, random_state=0), X, table)


@stage(space={"power": Float(0.5, 2.0)})
def sharpen(chance, *, power):
    return chance**power


@stage(inputs=("sharpen", INPUTS))
def score(chance, table):
    return brier_score_loss(table["sent_back"][3000:], chance)


pipeline = Pipeline(
    [text, numbers, features, OneOf("model", [linear, bayes, forest]), Optional(sharpen), score]
)
pipeline

# %% [markdown]
# ## Tune it
#
# Twenty seconds, which pay for everything. Trials that change the numbers alone find the text's
# features in the cache, and the other way round.

# %%
tuner = Tuner(pipeline, budget=20.0, direction="minimize", cache=StageCache(), seed=0)
study = tuner.run(orders)
study.best_value, study.best_params

# %% [markdown]
# A trial has the hyper-parameters of what it ran, and no others. In `memoized` a stage is free if
# its output was reused, or if it was not chosen.

# %%
pd.DataFrame(
    {"value": trial.value, "model": trial.params["model"], "hyper-parameters": len(trial.params)}
    | dict(zip(pipeline.stage_names, trial.user_attrs["memoized"], strict=True))
    for trial in study.trials
).tail(10)

# %%
report.cost_figure(study)

# %% [markdown]
# ## The same from scikit-learn
#
# A pipeline of scikit-learn becomes one of stages in one call, with its own names, on the folds of
# a cross-validation. The transformers of a `ColumnTransformer` are branches: each is a stage, and
# the stage with the name of the whole joins them. `folds` are the rows of the folds, for all.

# %%
columns = ColumnTransformer(
    [
        ("text", TfidfVectorizer(), "note"),
        ("numbers", KBinsDiscretizer(strategy="uniform"), ["price", "days"]),
    ]
)
search = from_pipeline(
    SklearnPipeline([("columns", columns), ("model", LogisticRegression(max_iter=500))]),
    {
        "columns__text__max_features": Int(50, 400, log=True),
        "columns__numbers__n_bins": range(2, 41),
        "model__C": Float(0.01, 100.0, log=True),
    },
    cv=3,
    scoring="roc_auc",
)
search.pipeline

# %%
X, y = orders.drop(columns="sent_back"), orders["sent_back"]
study = Tuner(search.pipeline, budget=40.0, cache=StageCache(), seed=0).run(X, y)
pd.DataFrame(
    {"value": trial.value}
    | dict(zip(search.pipeline.stage_names, trial.user_attrs["memoized"], strict=True))
    for trial in study.trials
).tail(10)

# %% [markdown]
# Values are those of `cross_val_score`, to the last bit. `refit` gives the estimator with the best
# hyper-parameters, fitted to all data.

# %%
best_estimator_ = search.refit(study, X, y)
study.best_value, best_estimator_
