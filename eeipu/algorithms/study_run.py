"""A study on a plan: an algorithm's moves become requests, and answers come back to it."""

import math
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from eeipu.algorithms.moves import Algorithm, Ask, Move, Stop
from eeipu.errors import ConfigurationError, SpaceError
from eeipu.stage_tree.nodes import Answer
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stages.paths import Path
from eeipu.stages.runs import StageRun

__all__ = ["PathOf", "StudyRun"]


class PathOf(Protocol):
    """Makes the path of a configuration, trained up to a step and evaluated there.

    It raises `SpaceError` for a configuration that is not valid, such as milestones that do not
    ascend.
    """

    def __call__(self, config: Mapping[str, Any], step: int) -> Path:
        """The path."""
        ...


@dataclass
class StudyRun:
    """A study on a plan.

    Attributes:
        name: Its name in the plan.
        algorithm: Decides what to train.
        path_of: Makes the path of a configuration.
        objective: The metric to optimise, where evaluations return a dict of them.
        minimize: Whether smaller is better; the sign changes here and nowhere else.
        values: `(trial, step)` -> value, as evaluated.
        errors: `(trial, step)` -> traceback.
        configs: Trial -> its last configuration.
        ended_s: When the last answer came, on the pool's clock.

    Raises:
        ConfigurationError: The algorithm has a direction (`minimizes`), and it is the other.
    """

    name: str
    algorithm: Algorithm
    path_of: PathOf
    objective: str | None = None
    minimize: bool = False

    def __post_init__(self) -> None:
        self.values: dict[tuple[int, int], float] = {}
        self.errors: dict[tuple[int, int], str] = {}
        self.configs: dict[int, Mapping[str, Any]] = {}
        self.ended_s = 0.0
        self._open: dict[tuple[int, Hashable], int] = {}
        if getattr(self.algorithm, "minimizes", self.minimize) is not self.minimize:
            raise ConfigurationError(
                f"study {self.name!r} has minimize={self.minimize!r}, but its algorithm's "
                f"direction is the other; pass minimize={not self.minimize!r}."
            )

    @property
    def best(self) -> tuple[int, int]:
        """The trial and step of the best value so far.

        Raises:
            ConfigurationError: There is no value yet.
        """
        if not self.values:
            first = next(iter(self.errors.values()), None)
            remedy = "run it first." if first is None else f"its first failure was: {first}"
            raise ConfigurationError(f"study {self.name!r} has no value yet; {remedy}")
        sign = -1.0 if self.minimize else 1.0
        return max(self.values, key=lambda place: sign * self.values[place])

    def act(self, moves: Iterable[Move], scheduler: Scheduler) -> None:
        """Turn an algorithm's moves into requests. An invalid configuration is a failed trial."""
        pending = deque([moves])
        while pending:
            invalid = []
            for move in pending.popleft():
                if isinstance(move, Stop):
                    scheduler.plan.cancel(self.name, move.trial)
                    continue
                try:
                    self.request(move, scheduler)
                except SpaceError as error:
                    self.errors[move.trial, move.step] = str(error)
                    invalid.append(move)
            pending.extend(self.algorithm.tell(m.trial, m.step, None) for m in invalid)

    def request(self, ask: Ask, scheduler: Scheduler) -> None:
        """Request the path that an algorithm asks for.

        Raises:
            SpaceError: The configuration has none.
        """
        path = self.path_of(ask.config, ask.step)
        self.configs[ask.trial] = ask.config
        self._open[ask.trial, path.key(len(path))] = ask.step
        scheduler.plan.request(self.name, ask.trial, path)
        scheduler.follow()

    def hear(self, answer: Answer, scheduler: Scheduler, now: float) -> StageRun | None:
        """Tell the algorithm of an answer, and make the moves that it returns.

        Returns:
            The failure of the last call where it has returned what is no objective.
        """
        request = answer.request
        step = self._open.pop((request.trial, request.node.key), None)
        if step is None:
            return None  # asked by an earlier process, and not by this one
        self.ended_s = now
        value, failure = self.read(answer, step)
        told = value if value is None or not self.minimize else -value
        self.act(self.algorithm.tell(request.trial, step, told), scheduler)
        return failure

    def read(self, answer: Answer, step: int) -> tuple[float | None, StageRun | None]:
        """Note the value or the error that an answer gives for a trial at a step.

        Returns:
            The value; and the failure where what was returned is no objective.
        """
        request, place = answer.request, (answer.request.trial, step)
        if answer.error is not None:
            self.errors[place] = answer.error
            return None, None
        try:
            self.values[place] = self._number(answer.value)
        except (TypeError, ValueError, KeyError) as error:
            remedy = self._remedy(answer.value)
            why = self.errors[place] = f"{answer.value!r} is no objective: {error!r}{remedy}"
            stage = request.node.path.stretches[-1].call.stage
            is_bug = not isinstance(error, ValueError)
            return None, StageRun(stage, request.node.key, error=why, is_bug=is_bug)
        return self.values[place], None

    def _remedy(self, value: Any) -> str:
        if isinstance(value, Mapping) and self.objective not in value:
            return f"; name one of the metrics {list(value)} with StudyRun(objective=...)"
        return ""

    def _number(self, value: Any) -> float:
        number = float(value if self.objective is None else value[self.objective])
        if not math.isfinite(number):
            raise ValueError(f"{number} is no value to compare others with")
        return number
