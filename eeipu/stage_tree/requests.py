"""The requests of a plan: whose they are, what has become of them, and which are left for later."""

from collections.abc import Iterable

from eeipu.stage_tree.database import PlanStore, RequestRow
from eeipu.stage_tree.nodes import PlanNode, Request, RequestState
from eeipu.stages.paths import Path

__all__ = ["RequestBook"]

Origin = str | tuple[str, str]
"""The key of the run's inputs; or a stage's name, and what stands for its code."""


class RequestBook:
    """All requests of all studies, as they are stored.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self._requests: dict[tuple[str, int], dict[str, Request]] = {}
        self._suspended: dict[int, Request] = {}
        self._asked: set[Origin] = set()
        self._last_id = 0

    def find(self, study: str, trial: int, key: str) -> Request | None:
        """A trial's request for the path with this key."""
        return self._requests.get((study, trial), {}).get(key)

    def of_trial(self, study: str, trial: int) -> list[Request]:
        """A trial's requests."""
        return list(self._requests.get((study, trial), {}).values())

    def of_study(self, study: str | None = None) -> list[Request]:
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
            for request in self.of_study()
            if request.state is RequestState.OPEN and request.id not in self._suspended
        ]

    def add(self, study: str, trial: int, path: Path, node: PlanNode, text: str) -> Request:
        """Note a new request.

        Args:
            study: Who asks.
            trial: For which trial.
            path: For what.
            node: The node that ends the path.
            text: The path as it is stored.
        """
        row = RequestRow(self._last_id + 1, study, trial, node.key, RequestState.OPEN)
        self._store.add_request(row, text)
        return self.restore(row, path, node)

    def restore(self, row: RequestRow, path: Path, node: PlanNode) -> Request:
        """Take over a request that is stored."""
        steps = path.steps(0, len(path))
        request = Request(row.id, row.study, row.trial, node, steps, RequestState(row.state))
        self._requests.setdefault((row.study, row.trial), {})[row.path] = request
        self._last_id = row.id
        return request

    def set_state(self, request: Request, state: RequestState) -> None:
        """Note what has become of a request; what is not open waits for nothing."""
        if request.state is not state:
            request.state = state
            self._store.set_state(request.id, state)
        if state is not RequestState.OPEN:
            self._remove(request)

    # --- requests of earlier processes ----------------------------------------------------------

    def suspend(self) -> list[Request]:
        """Leave for later what is on other inputs or code than was asked for in this process.

        Returns:
            What was not suspended before.
        """
        others = [request for request in self.waiting if not self._is_asked(request)]
        for request in others:
            self._remove(request)
            self._suspended[request.id] = request
        return others

    @property
    def suspended(self) -> list[Request]:
        """What is left for later."""
        return list(self._suspended.values())

    def wake(self, path: Path) -> list[Request]:
        """Note whose inputs and code are asked for; what was suspended and is theirs."""
        before = len(self._asked)
        self._asked |= _origins(path, len(path))
        if len(self._asked) == before:
            return []
        return self.take([each for each in self.suspended if self._is_asked(each)])

    def take(self, requests: Iterable[Request]) -> list[Request]:
        """Those of these requests that were suspended, and now are not."""
        return [each for each in requests if self._suspended.pop(each.id, None) is not None]

    def _is_asked(self, request: Request) -> bool:
        return _origins(request.node.path, request.node.stop) <= self._asked

    def _remove(self, request: Request) -> None:
        node = request.node
        node.requests = tuple(each for each in node.requests if each is not request)


def _origins(path: Path, stop: int) -> set[Origin]:
    """The inputs' key and the code of a path up to a position."""
    calls = (stretch.call for stretch in path.between(0, stop))
    return {path.upstream, *((call.stage, call.fingerprint) for call in calls)}
