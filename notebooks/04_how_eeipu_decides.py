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
# # How EEIPU decides
#
# Two stages with one hyper-parameter each, so that everything can be drawn. The stages declare what
# they cost: the first takes the longer, the larger `a` is. We let a search run, and then look over
# its shoulder: what did it expect of the trial that it chose, and of those that it did not choose?
#
# Install what this notebook needs with `pip install ".[notebook]"` in a clone.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood

from eeipu import Float, Pipeline, StageCache, Tuner, report, stage
from eeipu.acquisition import LogEEIPU
from eeipu.cost_models import StageCostModel


@stage(space={"a": Float(0.0, 1.0)}, cost=lambda a: 2.0 + 8.0 * a)
def first(data, *, a):
    return a


@stage(space={"b": Float(0.0, 1.0)}, cost=lambda b: 1.0)
def second(a, *, b):
    return -((a - 0.6) ** 2) - 0.5 * (b - 0.3 - 0.4 * np.sin(5 * a)) ** 2


pipeline = Pipeline([first, second])
tuner = Tuner(pipeline, budget=130.0, cache=StageCache(), seed=0)
study = tuner.run(None, progress=False)
print(f"{len(study.trials)} trials for {tuner.spent:.0f} units, best {study.best_value:.4f}")

# %% [markdown]
# ## The course of it
#
# A whole trial costs 3 to 11 units; one that reuses `first` costs 1. The warm-up shares prefixes on
# purpose. Later trials reuse a prefix while it promises more for its price, and start anew when it
# does not.

# %%
pd.DataFrame(
    {
        "a": trial.params["first.a"],
        "b": trial.params["second.b"],
        "value": trial.value,
        "charged": trial.user_attrs["charged"],
        "first reused": trial.user_attrs["memoized"][0],
        "chosen by": (trial.user_attrs.get("chosen") or {}).get("by"),
    }
    for trial in study.trials
).round(3).tail(14)

# %% [markdown]
# ## Why this one?
#
# Every trial that models chose says what was expected of it, and of the best candidates under other
# prefixes: the improvement, the cost, and how much lower their score was (a difference of
# logarithms).

# %%
rows = pd.DataFrame(report.choice_rows(study))
columns = ["number", "is_chosen", "reuses", "improvement", "cost", "score", "value", "charged"]
number = int(rows.number.value_counts(sort=False).idxmax())  # the one with the most alternatives
rows[rows.number.isin([number, number + 1])][columns].round(4)

# %%
report.why_figure(study, number)

# %% [markdown]
# ## The formula, drawn
#
# `EEIPU(x) = EI(x) * E[1 / C(x)] ^ eta`, where `C` is the cost of the stages that are not kept. We
# fit the two kinds of models to the first twelve trials ourselves, with BoTorch and
# `StageCostModel`, and draw the two factors and their product: once for candidates that reuse
# nothing, and once along the line of the best trial's `a`, where `first` is free.

# %%
torch.manual_seed(0)
trials = study.trials[:12]
X = torch.tensor([[t.params["first.a"], t.params["second.b"]] for t in trials]).double()
Y = torch.tensor([[t.value] for t in trials]).double()
costs = [[np.nan if c is None else c for c in trial.user_attrs["stage_costs"]] for trial in trials]
cost_model = StageCostModel(X, torch.tensor(costs).double(), [[0], [1]])
model = SingleTaskGP(X, Y)
fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))


def score(points, cooling, memoized=(False, False)):
    acquisition = LogEEIPU(
        model, cost_model, Y.max(), memoized=torch.tensor(memoized), cooling=cooling, seed=0
    )
    with torch.no_grad():
        return acquisition(points.unsqueeze(-2)).numpy()


side = torch.linspace(0, 1, 41).double()
grid = torch.cartesian_prod(side, side)
log_ei, log_eeipu = score(grid, 0.0), score(grid, 1.0)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
titles = ["log EI", "log E[1 / C]", "log EEIPU, eta = 1"]
for axis, values, title in zip(axes, [log_ei, log_eeipu - log_ei, log_eeipu], titles, strict=True):
    low = np.quantile(values, 0.3)
    shape = axis.contourf(side, side, np.maximum(values, low).reshape(41, 41).T, 14)
    axis.plot(X[:, 0], X[:, 1], "w.", markersize=5)
    axis.set(title=title, xlabel="a (dear on the right)")
    figure.colorbar(shape, ax=axis)
axes[0].set_ylabel("b")
figure.tight_layout()
plt.show()

# %% [markdown]
# A kept prefix competes with all of this. Along its line the cost is that of `second` alone:

# %%
best_a = X[Y.argmax(), 0]
line = torch.stack([best_a.expand(41), side], dim=1)
anew = log_eeipu.reshape(41, 41).max()
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(side, score(line, 1.0, (True, False)), label=f"a = {best_a:.2f}, `first` reused")
axis.plot(side, score(line, 1.0), label=f"a = {best_a:.2f}, run again")
axis.axhline(anew, color="gray", linestyle="--", label="the best that reuses nothing")
axis.set(xlabel="b", ylabel="log EEIPU", ylim=(anew - 8, anew + 4))
axis.legend()
plt.show()

# %% [markdown]
# ## Cooling
#
# `eta` is the share of the budget that is left. Early on, cost counts fully; at the end, only
# improvement does. The best `a` for a trial that reuses nothing moves to the right, where the first
# stage is dear:

# %%
pd.DataFrame(
    {
        "eta": eta,
        "best a": float(grid[values.argmax(), 0]),
        "best b": float(grid[values.argmax(), 1]),
    }
    for eta in (1.0, 0.5, 0.0)
    for values in [score(grid, eta)]
)
