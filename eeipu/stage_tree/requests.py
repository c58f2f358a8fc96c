"""The requests of a plan and their answers.

The book keeps all requests of all studies and says which of them wait. Requests of earlier
processes on inputs or code that nobody asks for now are *suspended*: they stay open but wait for
nothing. Answers are collected until somebody takes them.
"""

import json
from collections.abc import Iterable
from typing import Any

from eeipu.stage_tree.database import PlanDatabase, RequestRow
from eeipu.stage_tree.nodes import Answer, PlanNode, Request, RequestState, error_of
from eeipu.stage_tree.states.node_states import NodeStates
from eeipu.stage_tree.states.state_references import StateReferences
from eeipu.stages.paths import Path, steps_in_all

__all__ = ["Answers", "RequestBook"]

Origin = str | tuple[str, str]
"""What a call depends on from outside: the key of the run's inputs, or a stage's name and code."""


class RequestBook:
    """All requests of all studies.

    Args:
        database: Where they are stored.
    """

    def __init__(self, database: PlanDatabase) -> None:
        self._database = database
        self._requests: dict[tuple[str, int], dict[str, Request]] = {}
        self._suspended: dict[int, Request] = {}
        self._asked: set[Origin] = set()
        self._last_id = 0

    def find(self, study: str, trial: int, key: str) -> Request | None:
        """Return a trial's request for the path with this key, if it has made one."""
        return self._requests.get((study, trial), {}).get(key)

    def of_trial(self, study: str, trial: int) -> list[Request]:
        """Return a trial's requests."""
        return list(self._requests.get((study, trial), {}).values())

    def of_study(self, study: str | None = None) -> list[Request]:
        """Return all requests, or those of one study, oldest first."""
        found = [
            request
            for (owner, _), each in self._requests.items()
            if study in (None, owner)
            for request in each.values()
        ]
        return sorted(found, key=lambda request: request.id)

    @property
    def waiting(self) -> list[Request]:
        """The open requests that are not suspended, oldest first."""
        return [
            request
            for request in self.of_study()
            if request.state is RequestState.OPEN and request.id not in self._suspended
        ]

    def add(self, study: str, trial: int, path: Path, node: PlanNode, text: str) -> Request:
        """Add a new request.

        Args:
            study: The study that asks.
            trial: The trial that it asks for.
            path: The requested path.
            node: The node at which the path ends.
            text: The path as it is stored.
        """
        row = RequestRow(self._last_id + 1, study, trial, node.key, RequestState.OPEN)
        self._database.add_request(row, text)
        return self.restore(row, path, node)

    def restore(self, row: RequestRow, path: Path, node: PlanNode) -> Request:
        """Add a request that is stored already."""
        steps = steps_in_all(path, len(path))
        request = Request(row.id, row.study, row.trial, node, steps, RequestState(row.state))
        if row.value is not None:
            request.answer = Answer(request, json.loads(row.value))
        self._requests.setdefault((row.study, row.trial), {})[row.path] = request
        self._last_id = row.id
        return request

    def set_state(
        self, request: Request, state: RequestState, answer: Answer | None = None
    ) -> None:
        """Change a request's state. A request that is not open waits for nothing.

        Args:
            request: The request.
            state: The new state.
            answer: The answer, where it belongs to this request alone.
        """
        if (request.state, request.answer) != (state, answer):
            request.state, request.answer = state, answer
            value = None if answer is None else json.dumps(answer.value)
            self._database.set_state(request.id, state, value)
        if state is not RequestState.OPEN:
            self._remove(request)

    def _remove(self, request: Request) -> None:
        node = request.node
        node.requests = tuple(each for each in node.requests if each is not request)

    # --- requests of earlier processes ----------------------------------------------------------

    def suspend(self) -> list[Request]:
        """Suspend the waiting requests whose inputs or code this process has not asked for.

        Returns:
            The requests that this call has suspended.
        """
        others = [request for request in self.waiting if not self._is_asked(request)]
        for request in others:
            self._remove(request)
            self._suspended[request.id] = request
        return others

    @property
    def suspended(self) -> list[Request]:
        """The suspended requests."""
        return list(self._suspended.values())

    def wake(self, path: Path) -> list[Request]:
        """Note that this process asks for a path, and return what need not stay suspended."""
        before = len(self._asked)
        self._asked |= _origins(path, len(path))
        if len(self._asked) == before:
            return []
        return self.take([each for each in self.suspended if self._is_asked(each)])

    def take(self, requests: Iterable[Request]) -> list[Request]:
        """End the suspension of requests, and return those that were suspended."""
        return [each for each in requests if self._suspended.pop(each.id, None) is not None]

    def _is_asked(self, request: Request) -> bool:
        return _origins(request.node.path, request.node.stop) <= self._asked


def _origins(path: Path, stop: int) -> set[Origin]:
    """Return the key of the inputs, and the code of all stages of a path up to a position."""
    calls = (stretch.call for stretch in path.between(0, stop))
    return {path.upstream, *((call.stage, call.fingerprint) for call in calls)}


class Answers:
    """Answers requests, and collects the answers until somebody takes them.

    Args:
        book: The requests.
        states: The states of the nodes.
        references: A trial that was answered holds the last state of its path.
    """

    def __init__(self, book: RequestBook, states: NodeStates, references: StateReferences) -> None:
        self._book = book
        self._states = states
        self._references = references
        self._answers: list[Answer] = []

    def take(self) -> list[Answer]:
        """Return the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def open(self, request: Request) -> None:
        """Answer a request at once where that is possible; otherwise let it wait at its node."""
        node = request.node
        self._states.find_value(node)
        error = None if node.value is not None else error_of(node)  # a value needs no state
        is_there = node.has_state and not node.is_in_hand
        if node.value is not None or is_there or error is not None:
            self._give(request, Answer(request, node.value if error is None else None, error))
        else:
            self._book.set_state(request, RequestState.OPEN)
            node.requests = (*node.requests, request)
            self._states.need(node, +1)

    def restore(self, request: Request) -> None:
        """Open or answer a request of an earlier process, or let its trial hold its last state."""
        if request.state is RequestState.OPEN:
            self.open(request)
        elif request.state is RequestState.ANSWERED and error_of(request.node) is None:
            trial = request.study, request.trial
            self._references.hold(trial, request.node, anew=False)

    def repeat(self, request: Request) -> None:
        """Answer a request once more, or open it where its failure was cleared."""
        was_answered = request.state is RequestState.ANSWERED
        if request.answer is not None:
            self._give(request, request.answer)
        elif was_answered and request.node.is_training and error_of(request.node) is None:
            self._give(request, Answer(request))  # whether or not its state is still there
        else:
            self.open(request)

    def settle(self, request: Request) -> None:
        """Answer a waiting request with what its node has returned."""
        self._give(request, Answer(request, request.node.value))
        self._states.need(request.node, -1)

    def settle_alone(self, request: Request, value: Any) -> None:
        """Answer a waiting request with a value that no other request may be answered with."""
        answer = Answer(request, value)
        self._give(request, answer, answer)
        self._states.need(request.node, -1)

    def fail(self, requests: Iterable[Request], error: str) -> None:
        """Answer waiting requests for which nothing can be run."""
        for request in requests:
            self._give(request, Answer(request, error=error))
            self._states.need(request.node, -1)

    def _give(self, request: Request, answer: Answer, own: Answer | None = None) -> None:
        failed = answer.error is not None
        state = RequestState.FAILED if failed else RequestState.ANSWERED
        self._book.set_state(request, state, own if own is not None else request.answer)
        self._answers.append(answer)
        if not failed:
            self._references.hold((request.study, request.trial), request.node)
