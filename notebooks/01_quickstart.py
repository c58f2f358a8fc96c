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
# # Quickstart: tune a pipeline of your own
#
# Three plain functions become the stages of a pipeline. `eeipu` tunes all their hyper-parameters
# together under one budget of seconds, and never runs a stage twice on the same input with the
# same settings.
#
# Install what this notebook needs with `pip install ".[notebook]"` in a clone.

# %%
import numpy as np
import optuna
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import PolynomialFeatures, QuantileTransformer

from eeipu import Categorical, Float, Int, Pipeline, StageCache, Tuner, stage

# %% [markdown]
# ## 1. Wrap your functions
#
# The first stage gets the inputs of the run, every later stage gets the output of the one before
# it, and the last returns the number to optimise. Hyper-parameters are keyword arguments, and
# `space` says where each of them may lie.


# %%
@stage(space={"quantiles": Int(10, 300, log=True), "degree": Categorical([1, 2])})
def prepare(data, *, quantiles, degree):
    X, y = data
    X = QuantileTransformer(n_quantiles=quantiles, random_state=0).fit_transform(X)
    X = PolynomialFeatures(degree, include_bias=False).fit_transform(X)
    return train_test_split(X, y, test_size=0.4, random_state=0)


@stage(space={"trees": Int(20, 200, log=True), "features": Float(0.05, 1.0), "leaf": Int(1, 20)})
def train(split, *, trees, features, leaf):
    X_train, X_test, y_train, y_test = split
    forest = RandomForestClassifier(
        trees, max_features=features, min_samples_leaf=leaf, random_state=0
    )
    return forest.fit(X_train, y_train).predict_proba(X_test)[:, 1], y_test


@stage(space={"temperature": Float(0.3, 3.0, log=True)})
def score(prediction, *, temperature):
    probability, y_test = prediction
    probability = np.clip(probability, 1e-3, 1 - 1e-3)
    odds = (probability / (1 - probability)) ** (1 / temperature)
    return log_loss(y_test, odds / (1 + odds))


pipeline = Pipeline([prepare, train, score])
pipeline.space

# %% [markdown]
# ## 2. Give it a budget
#
# Ten seconds here; the warm-up counts. The cache and the study live in memory; give
# `cache=StageCache("cache/")` and `storage="sqlite:///tune.db"` to keep both on disk, and the
# same call goes on where an earlier one was interrupted. While it runs, a table below the cell says
# what is spent, what the last trials reused, and what goes on now; its last state stays.

# %%
data = load_breast_cancer(return_X_y=True)
tuner = Tuner(
    pipeline, budget=10.0, direction="minimize", cache=StageCache(), study_name="quickstart", seed=0
)
study = tuner.run(data)

print(f"{len(study.trials)} trials for {tuner.spent:.1f} s")
print(f"best log loss {study.best_value:.4f} with {study.best_params}")

# %% [markdown]
# ## 3. Look at the study
#
# What comes back is an Optuna study, so everything made for Optuna works on it. Each trial also
# says what its stages cost, which of them were free, and what the budget paid.

# %%
table = study.trials_dataframe(attrs=("number", "value", "user_attrs"))
table[["number", "value", "user_attrs_stage_costs", "user_attrs_memoized", "user_attrs_charged"]]

# %%
optuna.visualization.plot_optimization_history(study)

# %%
optuna.visualization.plot_slice(study, params=["train.features", "train.leaf", "score.temperature"])

# %% [markdown]
# ## 4. Take the best trial's outputs
#
# `best_run` has what each stage made in the best trial. An output is loaded from the cache when you
# ask for it, and its stage runs again only where the output is gone.

# %%
best = tuner.best_run(data)
probability, y_test = best.outputs["train"]
print(f"log loss {best.value:.4f} on {len(y_test)} samples, {list(best.outputs)}")
