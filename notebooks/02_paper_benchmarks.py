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
# # The paper's benchmarks
#
# Stacking, segmentation and T5 distillation are pipelines like your own. This notebook tunes one of
# them, then compares methods on it and draws what they reached. `+cache` behind a method's name
# gives it a cache.
#
# Install what it needs with `pip install ".[benchmarks,notebook]"` in a clone. It runs in about a
# minute, at the size `smoke`; say `cpu` for figures that mean something. The published budgets are
# those of `paper` with `cost="measured"`; segmentation and distillation want a GPU then.

# %%
import tarfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

import eeipu
from eeipu import StageCache, Tuner
from eeipu.benchmarks.analysis.curves import over_budget
from eeipu.benchmarks.analysis.stage_costs import stage_costs
from eeipu.benchmarks.analysis.tables import by_setting, summaries
from eeipu.benchmarks.registry import REGISTRY, load
from eeipu.benchmarks.runs.campaign import comparison, run_all
from eeipu.benchmarks.runs.results import read, read_all

PRESET = "smoke"
SEEDS = range(2)

pd.DataFrame(
    [(name, entry.group, entry.about) for name, entry in REGISTRY.items()],
    columns=["problem", "group", "what it is"],
)

# %% [markdown]
# ## One of them, tuned
#
# `segmentation` and `distillation` load in the same way. Its stages declare what they cost, in the
# units of a work model, so that this notebook gives the same on every machine; with
# `cost="measured"` costs are seconds.

# %%
problem = load("stacking", PRESET, cost="declared", seed=0)
problem.pipeline.space

# %%
tuner = Tuner(
    problem.pipeline,
    budget=2.0 if PRESET == "smoke" else 40.0,
    direction=problem.direction,
    n_initial=5,
    cache=StageCache(),
    seed=0,
)
study = tuner.run(*problem.inputs)
study.best_value, study.best_params

# %% [markdown]
# What the stages made in the best trial comes from the cache, or is made again where it is gone:

# %%
{name: type(output).__name__ for name, output in tuner.best_run(*problem.inputs).outputs.items()}

# %% [markdown]
# ## Methods side by side
#
# Every method begins with the same warm-up points, one set for each seed, and has three times what
# these cost. A run is a file; what is there is not made again, so that a comparison can be stopped,
# or added to. `jobs` runs so many at a time.

# %%
out = Path("comparison")
methods = ["eeipu+cache", "ei+cache", "random+cache"]
runs = comparison(["stacking"], methods, SEEDS, preset=PRESET, cost="declared")
run_all(runs, out, jobs=2)
results = [read(run.path(out)) for run in runs]

# %% [markdown]
# What each reached, in means over seeds. With two seeds and a pipeline this small, intervals are
# wide: the [results](../results/README.md) have ten seeds and more.

# %%
pd.DataFrame(
    {
        "method": row.method,
        "candidates": row.candidates.value,
        "improvement": row.improvement.value,
        "± (95 %)": row.improvement.half_width,
        "lead over EI with a cache": row.lead.value,
        "seconds a suggestion": row.suggestion_s,
    }
    for row in summaries(results, against="ei+cache", methods=methods)
)

# %% [markdown]
# Where the budget went, and what came of it: `begun` counts trials whose first executed stage it
# was, `paid` what they were charged, and `gained` the improvement that came with them.

# %%
pd.DataFrame(stage_costs(results))[
    ["method", "stage", "executed", "reused", "begun", "paid", "gained"]
]

# %% [markdown]
# The course over the budget:

# %%
(contenders,) = by_setting(results).values()
figure = go.Figure(layout={"template": "plotly_white"})
for method in methods:
    curve = over_budget(contenders[method])
    figure.add_scatter(x=curve.x, y=curve.mean, name=method)
figure.update_layout(xaxis_title="share of the budget spent", yaxis_title="improvement in AUROC")
figure

# %% [markdown]
# ## The runs of this repository
#
# `results/runs` has the runs behind the [results](../results/README.md), as they were made. Here
# those on graphs: ten seeds each, from common warm-up points, with three times their budget. This
# cell needs a clone of the repository.

# %%
archive = Path(eeipu.__file__).parents[1] / "results" / "runs" / "graphs.tar.xz"
with tarfile.open(archive) as runs_of_graphs:
    runs_of_graphs.extractall("runs", filter="data")
committed = read_all(Path("runs"))
pd.DataFrame(
    {
        "problem": row.problem,
        "method": row.method,
        "runs": row.runs,
        "candidates": row.candidates.value,
        "share of the possible": row.share.value,
        "± (95 %)": row.share.half_width,
        "more candidates than EI": row.more_candidates,
        "runs won": row.won,
    }
    for row in summaries(committed, against="ei+cache")
).round(3)

# %% [markdown]
# ## From the command line
#
# The same, with tables and pictures:
#
# ```console
# python -m eeipu.benchmarks run stacking --preset cpu --cost declared \
#     --methods eeipu+cache,ei+cache,ei,random+cache --seeds 10 --jobs 2
# python -m eeipu.benchmarks table --against ei+cache
# python -m eeipu.benchmarks plot
# ```
