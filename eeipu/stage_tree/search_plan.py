"""The search plan: what all studies want of one stage tree, and what is there already.

A request is "this path, for this trial of this study" (Shin et al., Hippo, arXiv 2006.11972,
section 4). Which nodes have to run, and what their states are good for, is counted by
`eeipu.stage_tree.node_states`; what has become of requests stands in `eeipu.stage_tree.requests`.
"""

from collections.abc import Iterable
from itertools import islice, takewhile
from pathlib import Path as FilePath
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss
from eeipu.stage_tree.database import PlanStore, RequestRow
from eeipu.stage_tree.node_states import PlanStates
from eeipu.stage_tree.nodes import (
    Answer,
    PlanNode,
    PlanTree,
    Request,
    RequestState,
    error_of,
    first_waiting,
    waiting_below,
)
from eeipu.stage_tree.payments import Payments
from eeipu.stage_tree.requests import RequestBook
from eeipu.stages.paths import Path
from eeipu.stages.runs import numbers_of

__all__ = ["SearchPlan"]

# A worker may die under a node, even twice; three times points at what runs on it.
MAX_LOSSES = 3


class SearchPlan:
    """What is wanted, what is running, and what is there.

    A plan is for one thread. Its clients request and cancel; a scheduler starts nodes; whoever
    runs them reports. As a context it is closed at the end.

    Args:
        location: A file that keeps the plan; `None`: it ends with the process.
        cache: Where states are kept; `None`: nodes have a state once they ran, as in simulations.
        max_losses: A node under which so many workers have died has failed.

    Raises:
        ConfigurationError: The file cannot be opened, or another plan has it.

    Attributes:
        cache: The cache.
        tree: The stage tree of all requests, whatever has become of them.
    """

    def __init__(
        self,
        location: str | FilePath | None = None,
        cache: StageCache | None = None,
        max_losses: int = MAX_LOSSES,
    ) -> None:
        self.cache = cache
        self.tree = PlanTree()
        self._max_losses = max_losses
        self._store = PlanStore(location)
        self._book = RequestBook(self._store)
        self._states = PlanStates(cache, self._store)
        self._payments = Payments(self._store)
        self._splits: list[tuple[PlanNode, PlanNode]] = []
        self._answers: list[Answer] = []
        self._restore()

    def __enter__(self) -> "SearchPlan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. The plan must not be used afterwards."""
        self._store.close()

    # --- clients ------------------------------------------------------------------------------

    def request(self, study: str, trial: int, path: Path) -> Request:
        """Ask for a path. The same request again is the same request, answered again if it was.

        The answer comes from `take_answers`, at once where everything is there.

        Raises:
            PipelineError: The path cannot be stored.
        """
        for woken in self._book.wake(path):
            self._open(woken)
        asked = self._book.find(study, trial, path.key(len(path)))
        if asked is None or asked.state is RequestState.CANCELLED:
            text = path.to_json() if self._store.location is not None else ""
            asked = self._book.add(study, trial, path, self._add(path, (study, trial)), text)
            self._open(asked)
        elif asked.state is not RequestState.OPEN:
            self._ask_again(asked)
        return asked

    def _ask_again(self, asked: Request) -> None:
        """Answer a request once more, or open it where its failure was cleared."""
        was_trained = asked.state is RequestState.ANSWERED and asked.node.is_training
        if was_trained and error_of(asked.node) is None:
            self._answer(asked)  # whether or not its state is still there
        else:
            self._open(asked)

    def cancel(self, study: str, trial: int | None = None) -> None:
        """Give up a trial: its open requests, and its hold on states. Others keep theirs.

        Args:
            study: Whose it is.
            trial: Which; all of the study by default.
        """
        if trial is None:
            for each in {request.trial for request in self.requests(study)}:
                self.cancel(study, each)
            return
        open_ = [r for r in self._book.of_trial(study, trial) if r.state is RequestState.OPEN]
        suspended = self._book.take(open_)
        for request in open_:
            self._book.set_state(request, RequestState.CANCELLED)
            if request not in suspended:
                self._states.need(request.node, -1)
        self.release(study, trial)

    def release(self, study: str, trial: int) -> None:
        """Say that a trial will not go on, so that its last state may go when room is needed."""
        self._states.release((study, trial))

    def suspend(self) -> list[Request]:
        """Leave for later what earlier processes asked for on other inputs, or of other code.

        Call it when this process has asked for something. What is suspended stays open, and is
        wanted again when somebody asks for a path on the same inputs and code.

        Returns:
            All requests that are suspended.
        """
        for request in self._book.suspend():
            self._states.need(request.node, -1)
        return self._book.suspended

    def retry(self, study: str | None = None) -> None:
        """Clear failures: whoever asks again has them tried again, when their causes are gone.

        Args:
            study: Only those on paths that this study has asked for; all by default.
        """
        for request in self.requests(study):
            for node in request.node.ancestry():
                if node.error is not None or node.losses:
                    self._states.clear(node)

    def take_answers(self) -> list[Answer]:
        """The answers since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def requests(self, study: str | None = None) -> list[Request]:
        """All requests, or those of one study, oldest first."""
        return self._book.of_study(study)

    @property
    def waiting(self) -> list[Request]:
        """The open requests, without those that are suspended."""
        return self._book.waiting

    @property
    def studies(self) -> list[str]:
        """The studies that have asked for something, in order."""
        return list(dict.fromkeys(request.study for request in self.requests()))

    @property
    def paid_s(self) -> dict[str, float]:
        """Study -> seconds that workers spent for it, what was lost included."""
        return dict(self._payments.paid_s)

    @property
    def spent_s(self) -> float:
        """Seconds that workers spent for all studies."""
        return self._payments.total_s

    # --- schedulers and workers ---------------------------------------------------------------

    def take_changed(self) -> list[PlanNode]:
        """The nodes since the last call that may have become ready, or cost more or less."""
        return self._states.take_changed()

    def take_splits(self) -> list[tuple[PlanNode, PlanNode]]:
        """The running nodes that were split since the last call, as upper and lower parts."""
        splits, self._splits = self._splits, []
        return [(upper, lower) for upper, lower in splits if lower.is_running]

    def start(self, node: PlanNode) -> None:
        """A worker has taken a node, for the study that waits for it, whoever reads of its end."""
        node.is_running = True
        if node.cost_s is None:
            node.payer = first_waiting(node)
            self._states.save(node)

    def stop(self, node: PlanNode, cost_s: float = 0.0) -> None:
        """A worker will not run a node that it has taken, or not to the end.

        Args:
            node: The node, which becomes ready again.
            cost_s: Seconds that were spent in vain.
        """
        node.is_running = False
        self._states.mark(node)
        # Of a node that was split, the upper parts now have to run for it.
        self._states.mark(*takewhile(lambda each: each.must_run, islice(node.ancestry(), 1, None)))
        if cost_s > 0.0:
            self._payments.charge(node, cost_s)
        error = error_of(node)
        if error is not None:  # of an upper part, while this one ran
            self._give_up(list(waiting_below(node)), error)

    def stop_all(self) -> None:
        """No worker will report any more."""
        for node in self.tree:
            assert isinstance(node, PlanNode)
            if node.is_running:
                self.stop(node)

    def complete(
        self, node: PlanNode, cost_s: float, value: Any = None, *, is_kept: bool = True
    ) -> None:
        """A node has run.

        Args:
            node: The node, whose state is in the cache now.
            cost_s: Seconds it took.
            value: What its last call returned, where that is no checkpoint.
        """
        self._payments.charge(node, cost_s)
        node.cost_s, node.value = cost_s, value
        node.is_running = False
        self._states.set(node, has_state=True)
        for request in node.requests:
            self._answer(request)
            self._states.need(request.node, -1)

    def fail(self, node: PlanNode, cost_s: float, error: str) -> None:
        """A node has failed, and with it all requests that wait for it."""
        self._payments.charge(node, cost_s)
        needed = node.must_run
        waiting = list(waiting_below(node))
        node.is_running, node.error = False, error
        self._states.save(node)
        if needed and node.parent is not None:
            self._states.need(node.parent, -1)
        self._give_up(waiting, error)

    def _give_up(self, waiting: Iterable[Request], error: str) -> None:
        """Answer requests that nothing can be run for."""
        for request in waiting:
            self._answer(request, error)
            self._states.need(request.node, -1)

    def lose(
        self,
        node: PlanNode,
        cost_s: float = 0.0,
        why: str = "its worker died",
        limit: int | None = None,
    ) -> None:
        """A worker has died while it ran a node, or could not begin it; it becomes ready again.

        Args:
            node: The node; after `max_losses` times it has failed.
            cost_s: Seconds that were spent in vain.
            why: What has happened.
            limit: The number of losses that make a failure; by default `max_losses`.
        """
        self.stop(node, cost_s)
        node.losses += 1
        if node.losses >= (self._max_losses if limit is None else limit):
            self.fail(node, 0.0, f"{why} {node.losses} times: {node.describe()}")
        else:
            self._states.save(node)

    def forget(self, node: PlanNode) -> None:
        """A state is gone, or cannot be read: whoever still needs it has it computed again."""
        if node.parent is not None and node.has_state:
            self._states.set(node, has_state=False)

    def trim(self, max_bytes: float | None = None) -> list[str]:
        """Drop states that nobody refers to, checkpoints first, and of each the oldest first.

        Args:
            max_bytes: Until the cache is no larger than this; by default a share of its limit,
                and nothing where it has none.

        Returns:
            The keys that were dropped.
        """
        return self._states.trim(max_bytes)

    # --- requests and their answers -----------------------------------------------------------

    def _add(self, path: Path, owner: tuple[str, int]) -> PlanNode:
        """The node that ends a path; new nodes have a state where the cache has it."""
        node = self.tree.add(path, trial=owner)
        assert isinstance(node, PlanNode)
        made, self.tree.made = self.tree.made, []
        splits, self.tree.splits = self.tree.splits, []
        self._take_over(made)
        for upper, lower in splits:
            self._states.mark(lower, upper)
            if lower.cost_s is not None:
                self._states.save(upper)
                self._states.save(lower)
        self._splits.extend(splits)
        return node

    def _take_over(self, nodes: list[PlanNode]) -> None:
        """Take over states from the cache; what ended after the process that began it is paid."""
        for node in self._states.look_for(nodes):
            if node.payer is not None:
                self._payments.charge(node, node.cost_s or 0.0)

    def _open(self, request: Request) -> None:
        """Answer a request where that can be done at once, and else let it wait."""
        node = request.node
        self._look_up(node)
        error = None if node.value is not None else error_of(node)  # a value needs no state
        if node.value is not None or node.has_state or error is not None:
            self._answer(request, error)
        else:
            self._book.set_state(request, RequestState.OPEN)
            node.requests = (*node.requests, request)
            self._states.need(node, +1)

    def _look_up(self, node: PlanNode) -> None:
        """Take a value from the cache, where a process that was killed or a tuner has left it."""
        if self.cache is None or node.is_training or not node.has_state or node.value is not None:
            return
        try:
            node.value = numbers_of(self.cache.get(node.key))
        except CacheMiss:
            self.forget(node)
        else:
            self._states.save(node)

    def _answer(self, request: Request, error: str | None = None) -> None:
        self._book.set_state(
            request, RequestState.ANSWERED if error is None else RequestState.FAILED
        )
        value = request.node.value if error is None else None
        self._answers.append(Answer(request, value, error))
        if error is None:
            self._states.hold((request.study, request.trial), request.node)

    # --- storage ------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Make the tree again from what is stored."""
        paths = {key: Path.from_json(text) for key, text in self._store.paths()}
        ends: list[tuple[RequestRow, PlanNode]] = []
        for row in self._store.requests():
            node = self.tree.add(paths[row.path], trial=(row.study, row.trial))
            assert isinstance(node, PlanNode)
            ends.append((row, node))
        # What is stored comes before what is found in the cache, which knows less of it.
        known = self._restore_nodes()
        made, self.tree.made, self.tree.splits = self.tree.made, [], []
        self._take_over([node for node in made if node.key not in known])
        for row, node in ends:
            request = self._book.restore(row, paths[row.path], node)
            if request.state is RequestState.OPEN:
                self._open(request)
            elif request.state is RequestState.ANSWERED and error_of(node) is None:
                self._states.hold((row.study, row.trial), node, anew=False)
        self._answers.clear()  # who asks again is answered then

    def _restore_nodes(self) -> set[str]:
        """Take over what is stored of nodes; those that had a state."""
        known = set()
        for row in self._store.nodes():
            if row.key not in self.tree:  # the process died before it stored the request
                continue
            node = self.tree[row.key]
            assert isinstance(node, PlanNode)
            if row.losses >= self._max_losses:  # workers may have died of what is over now
                row = row._replace(error=None, losses=0)
            self._states.restore(row, node)
            if row.has_state:
                known.add(row.key)
        return known
