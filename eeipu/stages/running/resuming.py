"""A check of loops by hand: does a training give the same wherever it is stopped and resumed?"""

import copy
import pickle
import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from eeipu.counts import counted
from eeipu.errors import ConfigurationError, TrainingError
from eeipu.space import Params, Space
from eeipu.stages.iterative import IterativeStage
from eeipu.stages.running.evaluations import same_modes

__all__ = ["check_resuming"]


def check_resuming(
    stage: IterativeStage, *inputs: Any, params: Params | None = None, steps: int = 4
) -> None:
    """Check that the first steps of a training give the same with checkpoints as without.

    It is trained five times, in this process: as a whole, twice; step by step; with an evaluation
    after each step; and from a checkpoint after each step. Trials that share stretches of training
    have the values that they have alone only where all of these agree, to the last bit.

    Args:
        stage: The stage, from `iterative` or `torch_training`.
        *inputs: What it gets.
        params: Values of its space; by default those in the middle.
        steps: How many steps are trained, at least 1; not more than the stage has.

    Raises:
        ConfigurationError: `steps` is below 1.
        TrainingError: It gives something else. The message says what it depends on.
    """
    if steps < 1:
        raise ConfigurationError(
            f"at least 1 step must be trained to check a training, but got steps={steps!r}."
        )
    space = Space(stage.space)
    values = space.decode(np.full(len(space), 0.5)) if params is None else params
    trials = _Trials(stage, inputs, values, min(steps, stage.steps))
    whole = trials.run()
    for other, why in (
        (trials.run(), "on something beside its inputs: give init and advance seeds of their own"),
        (
            trials.run(by_step=True),
            "on where it is cut: let advance do each of its steps in the same way, with seeds that "
            "come from the step or a generator that the state holds",
        ),
        (
            trials.run(by_step=True, evaluates=True),
            "on whether it was evaluated: let evaluate leave the state as it is",
        ),
        (
            trials.run(by_step=True, reloads=True),
            "on something that save and load lose, such as a random generator or the mode of a "
            "model",
        ),
    ):
        if not _are_same(whole, other):
            raise TrainingError(
                f"what stage {stage.name!r} gives after {counted(trials.steps, 'step')} depends "
                f"{why} ({_shown(whole)} became {_shown(other)})."
            )


class _Trials:
    """Trainings of one configuration.

    Args:
        stage: The stage.
        inputs: What it gets.
        params: The values of its space.
        steps: The number of steps.
    """

    def __init__(
        self, stage: IterativeStage, inputs: tuple[Any, ...], params: Params, steps: int
    ) -> None:
        self.steps = steps
        self._training, self._inputs = stage.training, inputs
        self._schedules: Mapping[str, Any] = stage.schedules(params)

    def run(self, *, by_step: bool = False, evaluates: bool = False, reloads: bool = False) -> Any:
        """What the evaluation gives at the end.

        Args:
            by_step: Whether each step is a call of `advance`.
            evaluates: Whether the state is evaluated after each step.
            reloads: Whether the training goes on from a checkpoint after each step, where others
                have drawn from the generators of the process meanwhile.
        """
        training, ends = self._training, range(1, self.steps + 1) if by_step else (self.steps,)
        state, start = training.init(*copy.deepcopy(self._inputs)), 0
        for stop in ends:
            state, start = training.advance(state, start, stop, self._schedules), stop
            if evaluates:
                with same_modes(state):
                    training.evaluate(state)
            if reloads:
                saved = pickle.loads(pickle.dumps(training.save(state)))  # noqa: S301 - its own
                _disturb()
                given = copy.deepcopy(self._inputs) if training.loads_inputs else ()
                state = training.load(saved, *given)
        return training.evaluate(state)


def _disturb() -> None:
    """Draw from the generators of the process, as another training may."""
    random.seed(repr(random.getstate()))
    np.random.random()  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "rand"):
        torch.rand(())


def _are_same(one: Any, other: Any) -> bool:
    return pickle.dumps(one) == pickle.dumps(other) or _are_equal(one, other)


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays, whose comparison is no single answer
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
