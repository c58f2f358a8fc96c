"""The search plan: what all studies want of one stage tree, and what is there already.

A request is "this path, for this trial of this study" (Shin et al., Hippo, arXiv 2006.11972,
section 4). Which nodes have to run, and who refers to a state, are counts that change along one
path from a node towards the root, so that every operation costs as much as a path is deep.

States are the outputs of nodes: checkpoints of training, outputs of plain stages. They live in a
`StageCache` under the nodes' keys, or nowhere, as in simulations. A state is referred to by
children that have to run and by trials that may go on from it; those that nobody refers to are
the first to go when the cache is full.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss
from eeipu.paths import Path
from eeipu.plan_nodes import (
    Answer,
    PlanNode,
    PlanTree,
    Request,
    RequestState,
    error_of,
    first_waiting,
    waiting_below,
)
from eeipu.plan_store import NodeRow, PlanStore, RequestRow

__all__ = ["SearchPlan"]

# A worker may die under a node, even twice; three times points at what runs on it.
MAX_LOSSES = 3

# Part of the cache's limit that states nobody refers to may fill, so that the next one fits.
SPARE_SHARE = 0.75


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
        tree: The stage tree of all requests, whatever has become of them.
        paid_s: Study -> seconds that workers spent for it, what was lost included.
    """

    def __init__(
        self,
        location: str | FilePath | None = None,
        cache: StageCache | None = None,
        max_losses: int = MAX_LOSSES,
    ) -> None:
        self.cache = cache
        self._max_losses = max_losses
        self.tree = PlanTree()
        self.paid_s: dict[str, float] = {}
        self._store = PlanStore(location)
        self._requests: dict[tuple[str, int], dict[str, Request]] = {}
        self._held: dict[tuple[str, int], PlanNode] = {}
        self._unreferenced: dict[str, PlanNode] = {}
        self._changed: list[PlanNode] = []
        self._splits: list[tuple[PlanNode, PlanNode]] = []
        self._asked: set[str | tuple[str, str]] = set()
        self._dormant: dict[int, Request] = {}
        self._last_id = 0
        self._answers: list[Answer] = []
        self._restore()

    def __enter__(self) -> "SearchPlan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- clients ------------------------------------------------------------------------------

    def request(self, study: str, trial: int, path: Path) -> Request:
        """Ask for a path. The same request again is the same request, answered again if it was.

        The answer comes from `take_answers`, at once where everything is there.

        Raises:
            PipelineError: The path cannot be stored.
        """
        self._wake(path)
        key = path.key(len(path))
        asked = self._requests.get((study, trial), {}).get(key)
        if asked is not None and asked.state is not RequestState.CANCELLED:
            if asked.state is RequestState.ANSWERED and _was_cleared(asked.node):
                asked.state = RequestState.OPEN
                self._store.set_state(asked.id, asked.state)
                self._open(asked)
            elif asked.state is RequestState.ANSWERED:
                self._answer(asked, None if asked.node.value is not None else error_of(asked.node))
            return asked
        text = path.to_json() if self._store.location is not None else ""
        node = self._add(path, (study, trial))
        request = Request(self._next_id(), study, trial, node, path.steps(0, len(path)))
        row = RequestRow(request.id, study, trial, key, request.state)
        self._store.add_request(row, text)
        self._requests.setdefault((study, trial), {})[key] = request
        self._open(request)
        return request

    def cancel(self, study: str, trial: int) -> None:
        """Give up a trial: its open requests, and its hold on states. Others keep theirs."""
        for request in self._requests.get((study, trial), {}).values():
            if request.state is RequestState.OPEN:
                self._close(request, RequestState.CANCELLED)
                if self._dormant.pop(request.id, None) is None:
                    self._need(request.node, -1)
        self.release(study, trial)

    def suspend(self) -> list[Request]:
        """Leave for later what earlier processes asked for on other inputs, or of other code.

        Call it when this process has asked for something. What is suspended stays open, and is
        wanted again when somebody asks for a path on the same inputs and code.

        Returns:
            All requests that are suspended.
        """
        for request in self.waiting:
            if not self._is_asked(request.node):
                request.node.requests = tuple(r for r in request.node.requests if r is not request)
                self._dormant[request.id] = request
                self._need(request.node, -1)
        return list(self._dormant.values())

    def release(self, study: str, trial: int) -> None:
        """Say that a trial will not go on, so that its last state may go when room is needed."""
        node = self._held.pop((study, trial), None)
        if node is not None:
            node.holds -= 1
            self._note_references(node)

    def retry(self, study: str | None = None) -> None:
        """Clear failures: whoever asks again has them tried again, when their causes are gone.

        Args:
            study: Only those on paths that this study has asked for; all by default.
        """
        for request in self.requests(study):
            for node in request.node.ancestry():
                if node.error is not None or node.losses:
                    self._clear(node)

    def take_answers(self) -> list[Answer]:
        """The answers since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def requests(self, study: str | None = None) -> list[Request]:
        """All requests, or those of one study, oldest first."""
        found = [
            request
            for (owner, _), each in self._requests.items()
            if study in (None, owner)
            for request in each.values()
        ]
        return sorted(found, key=lambda request: request.id)

    @property
    def waiting(self) -> list[Request]:
        """The open requests, without those that are suspended."""
        return [
            request
            for request in self.requests()
            if request.state is RequestState.OPEN and request.id not in self._dormant
        ]

    @property
    def studies(self) -> list[str]:
        """The studies that have asked for something, in order."""
        return list(dict.fromkeys(request.study for request in self.requests()))

    @property
    def spent_s(self) -> float:
        """Seconds that workers spent for all studies."""
        return math.fsum(self.paid_s.values())

    # --- schedulers and workers ---------------------------------------------------------------

    def take_changed(self) -> list[PlanNode]:
        """The nodes since the last call that may have become ready, or cost more or less."""
        changed, self._changed = self._changed, []
        return changed

    def take_splits(self) -> list[tuple[PlanNode, PlanNode]]:
        """The running nodes that were split since the last call, as upper and lower parts."""
        splits, self._splits = self._splits, []
        return [(upper, lower) for upper, lower in splits if lower.is_running]

    def start(self, node: PlanNode) -> None:
        """A worker has taken a node, for the study that waits for it, whoever reads of its end."""
        node.is_running = True
        if node.cost_s is None:
            node.payer = first_waiting(node)
            self._save(node)

    def stop(self, node: PlanNode, cost_s: float = 0.0) -> None:
        """A worker will not run a node that it has taken, or not to the end.

        Args:
            node: The node, which becomes ready again.
            cost_s: Seconds that were spent in vain.
        """
        node.is_running = False
        self._changed.append(node)
        if cost_s > 0.0:
            self._charge(node, cost_s)

    def stop_all(self) -> None:
        """No worker will report any more."""
        for node in self.tree:
            assert isinstance(node, PlanNode)
            if node.is_running:
                self.stop(node)

    def complete(self, node: PlanNode, cost_s: float, value: Any = None) -> None:
        """A node has run.

        Args:
            node: The node, whose state is in the cache now.
            cost_s: Seconds it took.
            value: What its last call returned, where that is no checkpoint.
        """
        self._charge(node, cost_s)
        node.cost_s, node.value = cost_s, value
        node.is_running = False
        self._set_state(node, True)
        for request in node.requests:
            node.needs -= 1
            self._answer(request)
        self._note_references(node)

    def fail(self, node: PlanNode, cost_s: float, error: str) -> None:
        """A node has failed, and with it all requests that wait for it."""
        self._charge(node, cost_s)
        waiting = list(waiting_below(node))
        needed = node.must_run
        node.is_running, node.error = False, error
        self._save(node)
        if needed and node.parent is not None:
            self._need(node.parent, -1)
        for request in waiting:
            self._answer(request, error)
            self._need(request.node, -1)

    def lose(self, node: PlanNode, cost_s: float = 0.0, why: str = "its worker died") -> None:
        """A worker has died while it ran a node, or could not begin it; it becomes ready again.

        Args:
            node: The node; after `max_losses` times it has failed.
            cost_s: Seconds that were spent in vain.
            why: What has happened.
        """
        self.stop(node, cost_s)
        node.losses += 1
        if node.losses >= self._max_losses:
            self.fail(node, 0.0, f"{why} {node.losses} times: {node.describe()}")
        else:
            self._save(node)

    def forget(self, node: PlanNode) -> None:
        """A state is gone, or cannot be read: whoever still needs it has it computed again."""
        if node.parent is not None and node.has_state:
            self._set_state(node, False)

    def trim(self, max_bytes: float | None = None) -> list[str]:
        """Drop states that nobody refers to, the oldest first.

        Args:
            max_bytes: Until the cache is no larger than this; by default a share of its limit,
                and nothing where it has none.

        Returns:
            The keys that were dropped.
        """
        if self.cache is None:
            return []
        if max_bytes is None:
            if self.cache.max_bytes is None:
                return []
            max_bytes = SPARE_SHARE * self.cache.max_bytes
        dropped = []
        while self._unreferenced and self.cache.stats().size_bytes > max_bytes:
            node = next(iter(self._unreferenced.values()))
            self.forget(node)
            self.cache.discard([node.key])
            dropped.append(node.key)
        return dropped

    def close(self) -> None:
        """Let go of the file. The plan must not be used afterwards."""
        self._store.close()

    # --- the counts ---------------------------------------------------------------------------

    def _wake(self, path: Path) -> None:
        """Note whose inputs and code are asked for, and open what was suspended and is theirs."""
        before = len(self._asked)
        self._asked |= _origins(path, len(path))
        if self._dormant and len(self._asked) > before:
            awake = [r for r in self._dormant.values() if self._is_asked(r.node)]
            for request in awake:
                self._open(self._dormant.pop(request.id))

    def _is_asked(self, node: PlanNode) -> bool:
        return _origins(node.path, node.stop) <= self._asked

    def _add(self, path: Path, owner: tuple[str, int]) -> PlanNode:
        """The node that ends a path; new nodes have a state where the cache has it."""
        node = self.tree.add(path, trial=owner)
        assert isinstance(node, PlanNode)
        made, self.tree.made = self.tree.made, []
        splits, self.tree.splits = self.tree.splits, []
        self._look_for(made)
        for upper, lower in splits:
            self._changed += [lower, upper]
            if lower.cost_s is not None:
                self._save(upper)
                self._save(lower)
        self._splits.extend(splits)
        return node

    def _look_for(self, nodes: Iterable[PlanNode]) -> None:
        """Take over the states of nodes that others have left in the cache."""
        for node in nodes:
            if self.cache is not None and node.key in self.cache:
                node.cost_s = self.cache.cost(node.key)
                self._set_state(node, True)
                if node.payer is not None:  # it ended after the process that had begun it
                    self._charge(node, node.cost_s or 0.0)

    def _open(self, request: Request) -> None:
        """Answer a request where that can be done at once, and else let it wait."""
        node = request.node
        is_value_in_cache = node.has_state and not node.is_training and node.value is None
        if self.cache is not None and is_value_in_cache:
            # It ran elsewhere, such as in a tuner on the same cache.
            node.value = _cached_value(self.cache, node.key)
            if node.value is None:
                self.forget(node)
        error = None if node.value is not None else error_of(node)  # a value needs no state
        if node.value is not None or node.has_state or error is not None:
            self._answer(request, error)
        else:
            node.requests = (*node.requests, request)
            self._need(node, +1)

    def _set_state(self, node: PlanNode, has_state: bool) -> None:
        """Note that a node's state is there or not."""
        before = node.must_run
        node.has_state = has_state
        self._save(node)
        self._note_references(node)
        if node.must_run != before and node.parent is not None:
            self._need(node.parent, 1 if node.must_run else -1)
        self._changed.append(node)
        self._changed.extend(child for child in node.children.values() if child.must_run)

    def _clear(self, node: PlanNode) -> None:
        """Let a node that has failed run again, for whom it is needed."""
        before = node.must_run
        node.error, node.losses = None, 0
        self._save(node)
        if node.must_run != before and node.parent is not None:
            self._need(node.parent, 1)
        self._changed.append(node)

    def _need(self, node: PlanNode, by: int) -> None:
        """Add to what a node is needed for, and up the tree as far as that changes anything."""
        each: PlanNode | None = node
        while each is not None:
            before = each.must_run
            each.needs += by
            self._note_references(each)
            self._changed.append(each)
            if each.must_run == before:
                return
            each = each.parent

    def _answer(self, request: Request, error: str | None = None) -> None:
        self._close(request, RequestState.ANSWERED)
        value = request.node.value if error is None else None
        self._answers.append(Answer(request, value, error))
        if error is None:
            self._hold(request)

    def _close(self, request: Request, state: RequestState) -> None:
        if request.state is RequestState.OPEN:
            request.state = state
            self._store.set_state(request.id, state)
        node = request.node
        node.requests = tuple(r for r in node.requests if r is not request)

    def _hold(self, request: Request) -> None:
        """Keep the last state of a trial, from which it may go on."""
        node = request.node
        if not node.is_training and node.parent is not None:
            node = node.parent
        owner = request.study, request.trial
        self.release(*owner)
        self._held[owner] = node
        node.holds += 1
        self._note_references(node)

    def _note_references(self, node: PlanNode) -> None:
        if node.parent is None:
            return
        if node.has_state and node.needs == node.holds == 0:
            self._unreferenced[node.key] = node
        else:
            self._unreferenced.pop(node.key, None)

    def _charge(self, node: PlanNode, cost_s: float) -> None:
        """Have the first study that waits for a node pay for it, or else who did before."""
        study = first_waiting(node) or node.payer or ""
        node.payer = node.payer or study
        if cost_s > 0.0:
            self.paid_s[study] = self.paid_s.get(study, 0.0) + cost_s
            self._store.set_paid(study, self.paid_s[study])

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # --- storage ------------------------------------------------------------------------------

    def _save(self, node: PlanNode) -> None:
        self._store.put_node(
            NodeRow(
                node.key,
                node.cost_s,
                node.payer,
                node.value,
                node.error,
                node.has_state,
                node.losses,
            )
        )

    def _restore(self) -> None:
        """Make the tree again from what is stored."""
        self.paid_s = dict(self._store.payments())
        paths = {key: Path.from_json(text) for key, text in self._store.paths()}
        ends: dict[str, PlanNode] = {}
        for key, path in paths.items():
            node = self.tree.add(path)
            assert isinstance(node, PlanNode)
            ends[key] = node
        # What is stored comes before what is found in the cache, which knows less of it.
        known = {row.key for row in self._store.nodes() if self._restore_node(row)}
        made, self.tree.made, self.tree.splits = self.tree.made, [], []
        self._look_for(node for node in made if node.key not in known)
        for asked in self._store.requests():
            path = paths[asked.path]
            self.tree.add(path, trial=(asked.study, asked.trial))
            request = Request(
                asked.id,
                asked.study,
                asked.trial,
                ends[asked.path],
                path.steps(0, len(path)),
                RequestState(asked.state),
            )
            self._requests.setdefault((asked.study, asked.trial), {})[asked.path] = request
            self._last_id = asked.id
            if request.state is RequestState.OPEN:
                self._open(request)
            elif request.state is RequestState.ANSWERED and error_of(request.node) is None:
                self._hold(request)
        self._answers.clear()  # who asks again is answered then

    def _restore_node(self, row: NodeRow) -> bool:
        if row.key not in self.tree:  # the process died before it stored the request
            return False
        node = self.tree[row.key]
        assert isinstance(node, PlanNode)
        node.cost_s, node.payer, node.value = row.cost_s, row.payer, row.value
        if row.losses < self._max_losses:  # workers may have died of what is over now
            node.error, node.losses = row.error, row.losses
        is_kept = self.cache is None or node.key in self.cache or node.value is not None
        node.has_state = row.has_state and is_kept
        self._note_references(node)
        return row.has_state


def _was_cleared(node: PlanNode) -> bool:
    """Whether a node that was asked for never ran, and no failure says why."""
    never_ran = not node.has_state and node.value is None and node.cost_s is None
    return never_ran and error_of(node) is None


def _origins(path: Path, stop: int) -> set[str | tuple[str, str]]:
    """The inputs' key and the code of a path up to a position."""
    calls = (stretch.call for stretch in path.between(0, stop))
    return {path.upstream, *((call.stage, call.fingerprint) for call in calls)}


def _cached_value(cache: StageCache, key: str) -> Any:
    """A value that a plan can store, if the cache has one; `None` otherwise."""
    try:
        value = cache.get(key)
        json.dumps(value)
    except (CacheMiss, TypeError, ValueError):
        return None
    return value
