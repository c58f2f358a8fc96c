"""What a trial notes of a run in its user attributes."""

import hashlib
from collections.abc import Iterable, Sequence

from eeipu.stages.declaration import Stage
from eeipu.stages.joining.layout import Layout
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.walks import graph_of
from eeipu.stages.runs import PipelineRun, TakesNotes

__all__ = ["code_of", "code_up_to", "keys_of", "record_run"]


def code_of(stages: Iterable[Stage]) -> str:
    """A digest of the code of stages."""
    code = "\n".join(each.fingerprint for each in stages)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def code_up_to(layout: Layout, stage_name: str | None) -> str:
    """A digest of the code of a stage and of those that lead to it.

    Args:
        layout: The stages of a pipeline.
        stage_name: The stage's name; for any other name, all stages count.
    """
    names = [each.name for each in layout.stages]
    if stage_name not in names:
        return code_of(layout.stages)
    return code_of(layout.stages[j] for j in layout.graph.up_to(names.index(stage_name)))


def keys_of(stage_names: Sequence[str], calls: Iterable[StageCall]) -> list[str | None]:
    """The content key of each stage; `None` for one that a configuration leaves out."""
    made = {call.stage.name: call.key for call in calls}
    return [made.get(name) for name in stage_names]


def record_run(trial: TakesNotes, calls: Sequence[StageCall], run: PipelineRun) -> None:
    """Write a run, finished or not, into a trial's user attributes."""
    trial.set_user_attr("stage_keys", keys_of(run.stage_names, calls))
    trial.set_user_attr("stage_costs", run.stage_costs)
    trial.set_user_attr("memoized", run.memoized)
    trial.set_user_attr("charged", run.charged)
    trial.set_user_attr("saved", run.saved)
    if run.observations:
        trial.set_user_attr("observations", run.observations)
    if any(peak is not None for peak in run.peak_gpu_bytes):
        trial.set_user_attr("peak_gpu_bytes", run.peak_gpu_bytes)
    if run.metrics:
        trial.set_user_attr("metrics", dict(run.metrics))
    failed = run.failed
    if failed is not None and run.is_pruned:
        trial.set_user_attr("pruned_stage", failed.name)
    elif failed is not None:
        trial.set_user_attr("failed_stage", failed.name)
        place = [call.stage.name for call in calls].index(failed.name)
        reached = [calls[k].stage for k in graph_of(calls).up_to(place)]
        trial.set_user_attr("failed_code", code_of(reached))
        trial.set_user_attr("error", failed.error)
        observer = reached[-1].observer
        if failed.is_unobserved and observer is not None:
            trial.set_user_attr("failed_observer", observer.fingerprint)
