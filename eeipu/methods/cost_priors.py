"""Estimates of the duration of a plan's calls, from the cost models of a tuner with these stages.

A tuner knows plain stages by their names, and segments of training as `"stage@stop"`
(`IterativeStage.segments`). A plan asks for the seconds that one step of a call takes. It knows the
hyper-parameters of the call but not those of the stages upstream; the estimate is therefore a mean
over the upstream hyper-parameters of the tuner's trials.
"""

from collections.abc import Callable
from typing import Any

import torch

from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.methods.history import History
from eeipu.stages.paths import Call, Kind

__all__ = ["cost_prior"]


def cost_prior(history: History) -> Callable[[Call], float]:
    """A prior for `eeipu.stage_tree.cost_estimates.CostEstimates`: call -> seconds per step.

    Args:
        history: The trials of a tuner's study (`History.of(study, pipeline)`), with costs in
            seconds.

    Returns:
        The prior. It is one second per step for stages that the tuner does not know, and nothing
        for evaluations that it does not know.

    Raises:
        ConfigurationError: No trial has run yet.
    """
    if len(history) == 0:
        raise ConfigurationError("cost models need trials, but the study has none that has run.")
    pipeline = history.pipeline
    model = StageCostModel(
        torch.from_numpy(history.X),
        torch.from_numpy(history.stages.costs),
        pipeline.columns.own,
        categorical=pipeline.cube.categorical_columns,
        upstream=pipeline.graph.ancestors,
        declared=[k for k, stage in enumerate(pipeline.stages) if stage.cost is not None],
    )
    answers: dict[str, float] = {}

    def prior(call: Call) -> float:
        label = call.label("")
        if label not in answers:
            answers[label] = _seconds(call, history, model)
        return answers[label]

    return prior


def _seconds(call: Call, history: History, model: StageCostModel) -> float:
    """Seconds per step of a call: the time of all segments of the stage over all their steps."""
    spans = _spans(call, history.pipeline.stage_names)
    if not spans:
        return 0.0 if call.kind is Kind.EVALUATION else 1.0
    total = 0.0
    for k in spans:
        configurations = [_with_call(trial.params, k, call, history) for trial in history.ended]
        X = torch.from_numpy(history.pipeline.cube.encode(configurations))
        mean, std = model.log_cost_posterior(X)
        # The mean of a lognormal variable
        total += (mean[:, k] + std[:, k].square() / 2.0).exp().mean().item()
    return total / sum(spans.values())


def _spans(call: Call, names: tuple[str, ...]) -> dict[int, int]:
    """The indices of a pipeline's stages that belong to a call's stage, each with its steps."""
    if call.kind is not Kind.TRAINING:
        name = call.stage if call.kind is Kind.PLAIN else f"{call.stage}@evaluation"
        return {k: 1 for k, each in enumerate(names) if each == name}
    spans, before = {}, 0
    for k, each in enumerate(names):
        stage, _, stop = each.rpartition("@")
        if stage == call.stage and stop.isdecimal():
            spans[k], before = int(stop) - before, int(stop)
    return spans


def _with_call(params: dict[str, Any], k: int, call: Call, history: History) -> dict[str, Any]:
    """A configuration in which stage `k` has the values of the call, if its space has them."""
    stage = history.pipeline.stages[k]
    changed = dict(params)
    for param, distribution in stage.space.items():
        try:
            distribution.to_internal_repr(call.params[param])
        except (KeyError, ValueError):
            continue  # a value that the tuner's space did not have
        changed[f"{stage.name}.{param}"] = call.params[param]
    return changed
