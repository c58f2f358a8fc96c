"""What the nodes of a plan will take, by the cost models of a tuner that has run these stages.

A tuner knows plain stages by their names, and segments of training as `"stage@stop"`
(`IterativeStage.segments`); a plan asks for seconds a step of a call, of which it knows its own
hyper-parameters and nothing of what is upstream, so the answer is a mean over the trials' paths.
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
    """A prior for `eeipu.stage_tree.scheduler.CostEstimates`: a call -> seconds a step.

    Args:
        history: The trials of a tuner's study (`History.of(study, pipeline)`), whose costs are
            seconds.

    Returns:
        The prior. Calls of stages that the tuner does not know take a second a step, and
        evaluations that it does not know none.

    Raises:
        ConfigurationError: No trial has run yet.
    """
    if len(history) == 0:
        raise ConfigurationError("cost models need trials, but the study has none that has run.")
    pipeline = history.pipeline
    model = StageCostModel(
        torch.from_numpy(history.X),
        torch.from_numpy(history.stage_costs),
        pipeline.stage_columns,
        categorical=pipeline.cube.categorical_columns,
    )
    answers: dict[str, float] = {}

    def prior(call: Call) -> float:
        label = call.label("")
        if label not in answers:
            answers[label] = _seconds(call, history, model)
        return answers[label]

    return prior


def _seconds(call: Call, history: History, model: StageCostModel) -> float:
    """Seconds a step of a call: of all the stage's segments together, over all their steps."""
    spans = _spans(call, history.pipeline.stage_names)
    if not spans:
        return 0.0 if call.kind is Kind.EVALUATION else 1.0
    total = 0.0
    for k in spans:
        configurations = [_with_call(trial.params, k, call, history) for trial in history.ended]
        X = torch.from_numpy(history.pipeline.cube.encode(configurations))
        mean, std = model.log_cost_posterior(X)
        # The mean of a lognormal variable.
        total += (mean[:, k] + std[:, k].square() / 2.0).exp().mean().item()
    return total / sum(spans.values())


def _spans(call: Call, names: tuple[str, ...]) -> dict[int, int]:
    """The places of a call's stage among a pipeline's stages, and how many steps each has."""
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
    """A configuration with the call's values in its stage, as far as the space has them."""
    stage = history.pipeline.stages[k]
    changed = dict(params)
    for param, distribution in stage.space.items():
        try:
            distribution.to_internal_repr(call.params[param])
        except (KeyError, ValueError):
            continue  # a choice that the tuner did not have
        changed[f"{stage.name}.{param}"] = call.params[param]
    return changed
