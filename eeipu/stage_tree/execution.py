"""The execution of a plan's nodes: what schedulers start, and what is reported of them."""

from typing import Any

from eeipu.counts import counted
from eeipu.stage_tree.nodes import PlanNode, PlanTree, error_of, first_waiting, waiting_below
from eeipu.stage_tree.payments import Payment, Payments, Purpose
from eeipu.stage_tree.requests import Answers
from eeipu.stage_tree.states.node_states import NodeStates
from eeipu.stage_tree.states.state_references import StateReferences

__all__ = ["Execution"]


class Execution:
    """Takes what schedulers start and workers report, and answers the requests that waited for it.

    Args:
        tree: The plan's tree.
        states: The states of its nodes.
        references: Who refers to which states.
        answers: Answers the requests.
        payments: Who pays for what workers spend.
        max_losses: The number of dead workers after which a node has failed.
    """

    def __init__(
        self,
        tree: PlanTree,
        states: NodeStates,
        references: StateReferences,
        answers: Answers,
        payments: Payments,
        max_losses: int,
    ) -> None:
        self._tree = tree
        self._states = states
        self._references = references
        self._answers = answers
        self._payments = payments
        self._max_losses = max_losses

    def take_changed(self) -> list[PlanNode]:
        """Return the nodes that may have become ready, cheaper or dearer since the last call."""
        return self._states.take_changed()

    def take_splits(self) -> list[tuple[PlanNode, PlanNode]]:
        """Return the nodes that were split since the last call and run, as upper and lower part.

        A worker that cannot report the upper part on its way does not run it: `stop` the upper
        part then.
        """
        return self._states.take_splits()

    def take_payments(self) -> list[Payment]:
        """Return what studies have paid since the last call."""
        return self._payments.take()

    def start(self, node: PlanNode) -> None:
        """Note that a worker has taken a node.

        If it has never run to its end, the first study that waits for it becomes its payer.
        """
        node.is_running = True
        if node.cost_s is None:
            request = first_waiting(node)
            node.payer = None if request is None else request.study
            self._states.save(node)

    def stop(self, node: PlanNode, cost_s: float = 0.0) -> None:
        """Note that a worker does not run a node that it has taken, or not to the end.

        Args:
            node: The node, which becomes ready again.
            cost_s: Seconds that were spent in vain.
        """
        node.is_running = False
        if cost_s > 0.0:
            self._payments.charge(node, cost_s, Purpose.LOSSES)
        self._run_again(node)

    def stop_all(self) -> None:
        """Note that no worker will report any more, and that nothing is in hand any more."""
        for node in self._tree:
            assert isinstance(node, PlanNode)
            if node.is_in_hand:
                self.forget(node)
            if node.is_running:
                self.stop(node)
        self._references.pin(at_once=True)

    def complete(
        self,
        node: PlanNode,
        cost_s: float,
        value: Any = None,
        *,
        is_kept: bool = True,
        was_reused: bool = False,
        transfer_s: float = 0.0,
        lost_s: float = 0.0,
    ) -> None:
        """Note that a node has run.

        If the output was not kept, it serves one request and one child at most. Of the requests
        that end at the node, the one that has waited longest is answered with the value, and the
        node runs again for the others. If children wait for the output, it counts as being there,
        *in hand*, until `forget` is called.

        Args:
            node: The node.
            cost_s: Seconds that it took.
            value: What its last call returned, if that is no checkpoint.
            is_kept: Whether the output is in the cache. A stage may say that it is not to be
                kept (`memoize=False`).
            was_reused: Whether somebody had made the output meanwhile, so that nobody pays the cost
                here.
            transfer_s: Seconds of loading the input and keeping the output, which the cost leaves
                out.
            lost_s: Seconds of attempts that failed before, which the cost leaves out too.
        """
        is_first = node.cost_s is None
        if not was_reused:
            purpose = Purpose.RUNS if is_first else Purpose.REPEATS
            self._payments.charge(node, cost_s, purpose)
        if was_reused or transfer_s > 0.0:  # its payer is noted in either case
            self._payments.charge(node, transfer_s, Purpose.TRANSFERS)
        if lost_s > 0.0:
            self._payments.charge(node, lost_s, Purpose.LOSSES)
        if is_first:  # what is paid for further runs is told apart from what a node costs
            node.cost_s = cost_s
        node.is_running = False
        if is_kept:
            node.value = value
            self._states.set(node, has_state=True)
            for request in node.requests:
                self._answers.settle(request)
            return
        if node.requests:
            self._answers.settle_alone(node.requests[0], value)
        if node.has_waiting_child:
            self._states.set(node, has_state=True, in_hand=True)
        else:
            self._states.save(node)
            self._run_again(node)

    def fail(self, node: PlanNode, cost_s: float, error: str) -> None:
        """Note that a node has failed, and with it all requests that wait for it.

        Args:
            node: The node.
            cost_s: Seconds that were spent in vain.
            error: What happened, for people.
        """
        self._payments.charge(node, cost_s, Purpose.LOSSES)
        needed = node.must_run
        waiting = list(waiting_below(node))
        node.is_running, node.error = False, error
        self._states.save(node)
        for each in node.above if needed else ():
            self._states.need(each, -1)
        self._answers.fail(waiting, error)

    def lose(
        self,
        node: PlanNode,
        cost_s: float = 0.0,
        why: str = "its worker died",
        limit: int | None = None,
    ) -> None:
        """Note that a worker has died while it ran a node, or could not begin it.

        Args:
            node: The node, which becomes ready again, or has failed if it was lost too often.
            cost_s: Seconds that were spent in vain.
            why: What happened, for people.
            limit: The number of losses after which it has failed; `max_losses` by default.
        """
        self.stop(node, cost_s)
        node.losses += 1
        if node.losses >= (self._max_losses if limit is None else limit):
            # A plan that is opened again clears failures with that many losses.
            losses, node.losses = node.losses, max(node.losses, self._max_losses)
            self.fail(node, 0.0, f"{why} {counted(losses, 'time')}: {node.describe()}")
        else:
            self._states.save(node)

    def forget(self, node: PlanNode) -> None:
        """Note that a state is gone, or cannot be read, or is not in hand any more.

        It is computed again for those who still need it.
        """
        self._states.forget(node)
        self._run_again(node)

    def trim(self, max_bytes: float | None = None) -> list[str]:
        """Drop states that nobody refers to, and pin the others. Call it after a round of reports.

        Checkpoints go before the outputs of plain stages, and of each the oldest first. What other
        users of the cache need stays.

        Args:
            max_bytes: The size that the cache is brought down to, if it can be. By default a
                share of its limit; nothing is dropped from a cache without a limit.

        Returns:
            The keys of the states that were dropped.
        """
        dropped = self._references.drop(max_bytes)
        for node in dropped:
            self._states.set(node, has_state=False)
        self._references.pin()
        return [node.key for node in dropped]

    def _run_again(self, node: PlanNode) -> None:
        """Let a node run again if it is needed, and fail those who wait if it cannot."""
        self._states.mark(node)
        # The nodes above may have to run for it: they are not there, or were split off from it.
        stack = list(node.above)
        while stack:
            each = stack.pop()
            if each.must_run:
                self._states.mark(each)
                stack.extend(each.above)
        error = error_of(node)
        if error is not None:
            self._answers.fail(list(waiting_below(node)), error)
