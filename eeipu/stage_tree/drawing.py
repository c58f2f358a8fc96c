"""A search plan for people: its tree, with what each node did, cost and gave, and its accounts."""

from collections.abc import Iterator
from typing import Any

from rich.text import Text
from rich.tree import Tree

from eeipu.counts import counted
from eeipu.stage_tree.accounts import account
from eeipu.stage_tree.nodes import PlanNode, RequestState
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.runs import error_line

__all__ = ["described_nodes", "described_studies", "drawing_of", "status_of"]

_STYLES = {"failed": "red", "waiting": "dim", "begun": "yellow", "gone": "dim"}


def status_of(node: PlanNode) -> str:
    """What is known of a node.

    Returns:
        `"done"`; `"gone"`: it ran, and its output was dropped; `"failed"`; `"begun"`: a worker has
        begun with it; `"waiting"`; or `"not needed"`.
    """
    if node.error is not None:
        return "failed"
    if node.has_state or node.value is not None:
        return "done"
    if node.needs == 0:
        return "gone" if node.cost_s is not None else "not needed"
    return "begun" if node.payer is not None and node.cost_s is None else "waiting"


def described_nodes(plan: SearchPlan) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan, each after the one above it, as JSON has them."""
    for node in plan.tree:
        assert isinstance(node, PlanNode)
        assert node.parent is not None
        yield {
            "key": node.key,
            "above": node.parent.key if node.parent.parent is not None else None,
            "node": node.describe(),
            "status": status_of(node),
            "cost_s": node.cost_s,
            "payer": node.payer,
            "value": node.value,
            "error": node.error,
            "losses": node.losses,
        }


def described_studies(plan: SearchPlan) -> Iterator[dict[str, Any]]:
    """Yield the account of each study of a plan, and how many of its requests are open."""
    for name in plan.studies:
        mine, requests = account(plan, name), plan.requests(name)
        yield {
            "study": name,
            "trials": mine.trials,
            "open": sum(request.state is RequestState.OPEN for request in requests),
            "failed": sum(request.state is RequestState.FAILED for request in requests),
            "separately_s": mine.separately,
            "from_others_s": mine.from_others,
            "paid_s": mine.paid,
            "runs_s": mine.runs,
            "repeats_s": mine.repeats,
            "transfers_s": mine.transfers,
            "losses_s": mine.losses,
        }


def drawing_of(plan: SearchPlan, most: int) -> Tree:
    """Draw the tree of a plan.

    Args:
        plan: The plan.
        most: Draw no more than this many nodes.
    """
    tree = plan.tree
    drawing = Tree(
        f"{counted(len(plan.studies), 'study', 'studies')}, {counted(len(tree), 'node')}, "
        f"{counted(tree.requested_steps, 'step')} requested, "
        f"{tree.distinct_steps} distinct: merge rate {tree.merge_rate:.2f}"
    )
    branches = {tree.root.key: drawing}
    for count, node in enumerate(tree):
        if count == most:
            drawing.add(Text(f"... and {counted(len(tree) - most, 'more node')}", style="dim"))
            break
        assert isinstance(node, PlanNode)
        assert node.parent is not None
        branches[node.key] = branches[node.parent.key].add(_line_of(node))
    return drawing


def _line_of(node: PlanNode) -> Text:
    status = status_of(node)
    line = Text(node.describe())
    parts = [] if status == "done" else [status]
    parts += [] if node.cost_s is None else [f"{node.cost_s:.3g} s"]
    parts += [] if node.value is None else [f"value {_shown(node.value)}"]
    parts += [f"{counted(node.losses, 'worker')} lost"] if node.losses else []
    parts += [] if node.error is None else [error_line(node.error)]
    line.append("  " + ", ".join(parts), style=_STYLES.get(status, "green"))
    return line


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return f"{value:.6g}" if isinstance(value, int | float) else repr(value)
