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
# # Stage trees and early stopping
#
# A learning rate of 0.1 until epoch 6 is the same training, whatever comes after. Trials whose
# schedules begin alike share that stretch: all of them together are one *stage tree*, and every
# stretch of it is trained once. Rules such as ASHA then stop trials early, and those that go on
# continue from their checkpoint.
#
# Install what this notebook needs with `pip install ".[notebook]"` in a clone.

# %%
import pandas as pd
import rich
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eeipu import (
    ASHA,
    Categorical,
    Float,
    Pipeline,
    StageCache,
    StageTree,
    Tuner,
    report,
    stage,
    torch_training,
)
from eeipu.fingerprints.keys import inputs_key
from eeipu.stages.iterative import stage_path
from eeipu.stages.schedules import MultiStep
from eeipu.stages.searchable_schedules import Searchable

TRIALS = 24

# %% [markdown]
# ## A training
#
# Handwritten digits, blurred by a first stage, and a small network. `torch_training` makes a stage
# of a model, an optimiser, a loss and two loaders. Its learning rate is a schedule: 0.1 or 0.03,
# divided by ten after 3, 6 or 9 of 12 epochs.


# %%
@stage(space={"noise": Categorical([0.0, 0.3])})
def augment(data, *, noise):
    X, y = data
    return X + noise * torch.randn(X.shape, generator=torch.Generator().manual_seed(0)), y


def make_model():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def make_optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def make_loaders(data, batch_size):
    X, y = data
    shuffled = torch.randperm(len(X), generator=torch.Generator().manual_seed(1))
    train, test = shuffled[:1200], shuffled[1200:]
    return (
        DataLoader(TensorDataset(X[train], y[train]), batch_size, shuffle=True),
        DataLoader(TensorDataset(X[test], y[test]), 600),
    )


train = torch_training(
    make_model,
    make_optimizer,
    nn.functional.cross_entropy,
    make_loaders,
    space={
        "lr": Searchable(MultiStep, Categorical([0.1, 0.03]), milestones=[Categorical([3, 6, 9])]),
        "weight_decay": Float(1e-5, 1e-2, log=True),
        "batch_size": Categorical([64, 128]),
    },
    steps=12,
)
pipeline = Pipeline([augment, train], objective="accuracy")
images, labels = load_digits(return_X_y=True)
data = torch.tensor(images).float() / 16, torch.tensor(labels)

# %% [markdown]
# ## Paths make a tree
#
# Each configuration is a path. Added to one tree, paths that begin alike share their nodes, and a
# node is cut where they part. The merge rate is how much training was asked for, over how much
# there is to do.

# %%
same = {"augment.noise": 0.0, "train.weight_decay": 1e-4, "train.batch_size": 64}
configs = [
    same | {"train.lr_initial": rate, "train.lr_milestones_0": milestone}
    for rate in (0.1, 0.03)
    for milestone in (3, 6, 9)
]
upstream = inputs_key((data,))
tree = StageTree.build(
    {k: stage_path(pipeline.stages, each, upstream, 12) for k, each in enumerate(configs)}
)
rich.print(tree)

# %% [markdown]
# ## Tuned, with ASHA
#
# After 3 epochs half of the trials goes on, after 6 half of these, and those are trained to the
# end. A trial that may go on later pauses and keeps its checkpoint.

# %%
tuner = Tuner(
    pipeline, budget=60.0, cache=StageCache(), early_stopping=ASHA(min_steps=3, reduction=2), seed=0
)
study = tuner.run(data, max_trials=TRIALS, progress=False)
print(f"best accuracy {study.best_value:.3f} for {tuner.spent:.1f} s of stages and choosing")
study.best_params

# %%
pd.Series([trial.state.name for trial in study.trials]).value_counts()

# %% [markdown]
# What each trial gave at each rung:

# %%
report.learning_figure(study)

# %% [markdown]
# ## The same without early stopping
#
# With `early_stopping=None` every configuration is trained to the end. What several have in common
# runs once all the same: `method="grid"` is a grid whose shared stretches are free.

# %%
grid = Pipeline(
    [
        augment,
        torch_training(
            make_model,
            make_optimizer,
            nn.functional.cross_entropy,
            make_loaders,
            space={
                "lr": Searchable(
                    MultiStep, Categorical([0.1, 0.03]), milestones=[Categorical([3, 6, 9])]
                ),
                "weight_decay": 1e-4,
                "batch_size": 64,
            },
            steps=12,
        ),
    ],
    objective="accuracy",
)
full = Tuner(grid, budget=None, method="grid", cache=StageCache(), seed=0)
trained = full.run(data, max_trials=12, progress=False)
pd.DataFrame(
    {
        "noise": trial.params["augment.noise"],
        "rate": trial.params["train.lr_initial"],
        "until epoch": trial.params["train.lr_milestones_0"],
        "accuracy": trial.value,
        "seconds charged": trial.user_attrs["charged"],
    }
    for trial in trained.trials
).round(3)
