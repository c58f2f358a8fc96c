"""Running a search plan's nodes by hand."""

from eeipu.stage_tree.nodes import RequestState
from eeipu.stages.paths import Path


def train(lr, steps=90):
    return Path().train("fit", "v", {"lr": lr}, steps).evaluate("fit", "v")


def ready(plan):
    return sorted((node for node in plan.tree if node.is_ready), key=lambda node: node.key)


def run_all(plan, cost=lambda node: float(node.steps)):
    """Run everything that waits; what was run, in order."""
    ran = []
    while nodes := ready(plan):
        node = nodes[0]
        plan.execution.start(node)
        plan.execution.complete(node, cost(node), None if node.is_training else node.start)
        if plan.cache is not None:
            plan.cache.put(node.key, node.start)
        ran.append(node.key)
    return ran


def spans(nodes):
    return sorted((node.start, node.stop) for node in nodes)


def stretch(steps):
    return Path().train("fit", "v", {"lr": 0.1}, steps)


def check_counts(plan):
    """The counts, from their definition."""
    for node in [plan.tree.root, *plan.tree]:
        waiting = [r for r in plan.requests() if r.state is RequestState.OPEN and r.node is node]
        assert list(node.requests) == waiting
        needing = [child for child in node.children.values() if child.must_run]
        assert node.needs == len(waiting) + len(needing)
