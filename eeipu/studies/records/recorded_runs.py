"""The run of a trial that has ended, as the study has it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from eeipu.cache import StageCache
from eeipu.fingerprints.keys import inputs_key
from eeipu.pipeline import Pipeline, PipelineRun
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.outputs import StageOutputs
from eeipu.stages.runs import StageRun, noted_by_stage

__all__ = ["recorded_run"]


def recorded_run(
    trial: FrozenTrial,
    pipeline: Pipeline,
    inputs: tuple[Any, ...],
    cache: StageCache | None,
    calls: Sequence[StageCall] | None = None,
    stage_names: Sequence[str] | None = None,
) -> PipelineRun:
    """The run of a finished trial as `record_run` wrote it down. No stage runs, and nothing loads.

    Args:
        trial: A trial that has a value.
        pipeline: The pipeline that it is a configuration of.
        inputs: What the first stage gets.
        cache: Where `PipelineRun.outputs` looks for outputs, and keeps those that it makes again.
        calls: Its stage calls, where their keys are others than those of `Pipeline.calls`.
        stage_names: The stages that it had, where the pipeline has others by now.
    """
    upstream = inputs_key(inputs)
    own = {name: value for name, value in trial.params.items() if name in pipeline.space}
    calls = pipeline.calls(own, upstream) if calls is None else calls
    noted, names = trial.user_attrs, stage_names or pipeline.stage_names
    costs = dict(zip(names, noted.get("stage_costs") or (), strict=False))
    observed = noted_by_stage(noted, names)
    memoized = dict(zip(names, noted.get("memoized") or (), strict=False))
    is_paid = bool(noted.get("charged"))  # else it was added, and its costs were paid elsewhere
    runs = [
        StageRun(
            call.name,
            call.key,
            costs.get(call.stage.name),
            memoized.get(call.stage.name, False),
            charged=(costs.get(call.stage.name) or 0.0) * is_paid,
            observation=observed.get(call.name),
        )
        for call in calls
    ]
    # The seconds of loading, and what was saved, are written down for all stages together.
    charged = noted.get("charged", 0.0) - math.fsum(run.charged for run in runs[:-1])
    runs[-1] = replace(runs[-1], charged=charged, saved=noted.get("saved", 0.0))
    return PipelineRun(
        pipeline.stage_names,
        tuple(runs),
        trial.values[0],
        noted.get("metrics", {}),
        values=tuple(trial.values),
        left_out=pipeline.layout.left_out(call.stage for call in calls),
        outputs=StageOutputs(calls, inputs, upstream, cache),
    )
