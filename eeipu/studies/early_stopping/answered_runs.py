"""What the stages of a trial have given, as the answers of the plan tell it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from eeipu.stage_tree.nodes import Answer, PlanNode
from eeipu.stages.runs import StageRun
from eeipu.studies.early_stopping.staged_trial import StagedTrial

__all__ = ["AnsweredRuns"]


class AnsweredRuns:
    """The runs of the stages of trials, each of which stands for the nodes of a stage.

    Args:
        stage_names: The names of the pipeline's stages, first to last.
    """

    def __init__(self, stage_names: Sequence[str]) -> None:
        self._stage_names = stage_names
        self._failures: dict[PlanNode, StageRun] = {}

    def note_failure(self, node: PlanNode, run: StageRun) -> None:
        """Take note of how a node has failed."""
        self._failures[node] = run

    def of(self, mine: StagedTrial, answer: Answer) -> list[StageRun]:
        """What each stage of a trial's path has given, as far as it was run.

        Args:
            mine: The trial.
            answer: The plan's answer to its last request.
        """
        nodes = list(answer.request.node.ancestry())[::-1]
        runs = []
        broken = None if answer.error is None else _broken(nodes)
        for name in self._stage_names:
            own = [node for node in nodes if node.first.call.stage == name]
            if broken is not None and broken in own:
                failed = self._failures.get(broken)
                flags = {} if failed is None else _flags(failed)
                paid = mine.paid_for(name)
                runs.append(
                    StageRun(name, own[-1].key, paid, error=answer.error, charged=paid, **flags)
                )
            elif own and (broken is None or all(node.cost_s is not None for node in own)):
                runs.append(_stage_run(mine, name, own))
        if answer.error is None:
            runs[-1] = replace(runs[-1], output=answer.value)
        elif broken is None:  # a call above, whose output is there again by now
            runs[-1] = replace(runs[-1], error=answer.error)
        return runs


def _stage_run(mine: StagedTrial, name: str, own: Sequence[PlanNode]) -> StageRun:
    """What a stage has given whose nodes have run, for this trial or for another."""
    cost_s = math.fsum(node.cost_s or 0.0 for node in own)
    has_run = mine.has_run(name)
    return StageRun(
        name,
        own[-1].key,
        cost=cost_s if has_run else None,
        memoized=not has_run,
        charged=mine.paid_for(name),
        saved=0.0 if has_run else cost_s,
    )


def _broken(nodes: Iterable[PlanNode]) -> PlanNode | None:
    """The first node that has failed."""
    return next((node for node in nodes if node.error is not None and not node.has_state), None)


def _flags(failed: StageRun) -> dict[str, Any]:
    names = ("is_transient", "is_bug", "is_about_values", "is_pruned")
    return {name: getattr(failed, name) for name in names}
