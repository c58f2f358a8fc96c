"""Observing a stage's output: the user's function is called, and what it returns is checked.

The function gets a copy of the output, as a hit of the cache would load it. So whatever it does,
the output that is kept and handed on stays as the stage made it.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.exceptions import TrialPruned

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import CodeReader, CodeReading, UnreadableError
from eeipu.fingerprints.outlines import Outline, outline_of
from eeipu.serialization import transport
from eeipu.serialization.copies import segments_with_room
from eeipu.stages.accelerators import failure_of, is_out_of_memory
from eeipu.stages.observing.observer_code import observer_fingerprint
from eeipu.stages.runs import Observation, StageRun, number_of

__all__ = ["Look", "Observer", "as_observation", "look_at"]

# The numbers of one stage go into the head of a cache entry and into a column of the study's
# database, which MySQL limits to 64 KiB for all stages together.
MAX_NUMBERS = 1000

# What nobody can change needs no copy.
_UNCHANGING = (int, float, complex, bool, str, bytes, type(None))


class Observer:
    """The function of `stage(observe=...)`, with what this process knows of its code.

    Args:
        function: The user's function.
        stage_name: The name of its stage.
        version: Stands for its code where that cannot be read.

    Raises:
        PipelineError: The function cannot be called with an output alone.

    Attributes:
        function: The user's function.
    """

    def __init__(
        self, function: Callable[[Any], Any], stage_name: str, version: str | None = None
    ) -> None:
        _check(function, stage_name)
        self.function = function
        self._stage_name = stage_name
        self._version = version
        self._calling = _calling(function)
        self._reading: CodeReading | None = None
        self._fingerprint = ""

    def __repr__(self) -> str:
        return f"Observer({self.function!r})"

    def __call__(self, output: Any) -> Any:
        """Call the user's function."""
        return self._calling(output)

    @property
    def fingerprint(self) -> str:
        """The string that stands for the function's code beside what it has observed.

        Raises:
            PipelineError: The code cannot be fingerprinted.
        """
        self._read()
        return self._fingerprint

    @property
    def outline(self) -> Outline | None:
        """What another process compares the code with; `None` where a version stands for it."""
        self._read()
        return None if self._reading is None else outline_of(self._reading)

    def _read(self) -> None:
        if not self._fingerprint:
            self.refresh(CodeReader())

    def refresh(self, reader: CodeReader) -> None:
        """Read the code as it is now; raises as `fingerprint` does."""
        last, known = self._reading, self._fingerprint
        try:
            self._reading = reader.read(self._calling, last)
        except PipelineError as error:
            if isinstance(error, UnreadableError) and known and not (last and last.definitions):
                return  # it came from another process, and there is no source of it in this one
            if self._version is None:
                raise PipelineError(
                    f"stage {self._stage_name!r}: the code of observe={self.function!r} cannot be "
                    f"fingerprinted, so it could not be noticed when it changes: {error}"
                ) from error
            self._fingerprint = f"version {self._version}"
            return
        if self._reading is not last:
            self._fingerprint = observer_fingerprint(self._reading)
        if known and last is not None and self._fingerprint != known:
            self._warn_of_change(self._reading.changes_since(last))

    def _warn_of_change(self, changes: Sequence[str]) -> None:
        named = f" ({', '.join(changes[:3])})" if changes else ""
        warnings.warn(
            f"values that observe=... of stage {self._stage_name!r} uses{named} have changed since "
            f"it was last run, so kept outputs are loaded and observed again. If it changes them "
            f"itself, let it return what it has found instead.",
            RuntimeWarning,
            stacklevel=5,  # who called Pipeline.run
        )


def _calling(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that uses another one, so that this is read as any object that code uses is.

    That is by its source where it is the user's own, by its content, or by its name.
    """

    def observe(output: Any) -> Any:
        return function(output)

    return observe


def _check(function: object, stage_name: str) -> None:
    if not callable(function):
        raise PipelineError(
            f"stage {stage_name!r}: observe must be a function of the stage's output, but got "
            f"{function!r}; write observe=lambda output: ..."
        )
    try:
        inspect.signature(function).bind(object())
    except ValueError:  # a builtin that does not tell what it takes
        return
    except TypeError as error:
        raise PipelineError(
            f"stage {stage_name!r}: observe is called with the stage's output alone, but "
            f"{function!r} does not take that ({error}); bind the rest with functools.partial."
        ) from error


@dataclass(frozen=True)
class Look:
    """What a look at an output gave.

    Attributes:
        observation: What was observed; `None` where there is nothing to note.
        error: The traceback of an observer that has failed.
        is_pruned: Whether it has raised `optuna.TrialPruned`.
        is_bug: Whether it has failed for another reason than a lack of memory.
    """

    observation: Observation | None = None
    error: str | None = None
    is_pruned: bool = False
    is_bug: bool = False

    def added_to(self, run: StageRun) -> StageRun:
        """The run of a stage whose output was looked at."""
        if self == Look() and not run.is_unobserved:
            return run
        if self.error is None:
            return replace(run, observation=self.observation, is_unobserved=False)
        return replace(
            run,
            error=self.error,
            is_pruned=self.is_pruned,
            is_bug=self.is_bug,
            is_unobserved=True,
        )


def look_at(output: Any, observer: Observer | None, stage_name: str) -> Look:
    """Observe an output, which stays as it is. An observer that fails is in the result as data.

    Args:
        output: The output of a stage.
        observer: Its observer; without one, an output is observed where it is a number.
        stage_name: The stage's name.
    """
    if observer is None:
        number = number_of(output)
        return Look(None if number is None else _finite(number))
    try:
        found = observer(_copy_of(output))
        return Look(as_observation(found, f"observe of stage {stage_name!r} returned"))
    except (Exception, SystemExit) as error:
        is_pruned = isinstance(error, TrialPruned)
        if not is_pruned:
            error.add_note(
                f"This was raised by observe=... of stage {stage_name!r}. The stage itself has "
                f"run, and its output is kept where there is a cache. Correct the observer and run "
                f"again; where it has nothing to show, let it return math.nan."
            )
        is_bug = not (is_pruned or is_out_of_memory(error))
        return Look(None, failure_of(error, stage_name), is_pruned, is_bug)


def _copy_of(output: Any) -> Any:
    """A copy of an output; or itself, where it is too large or cannot be copied.

    Raises:
        TypeError: It can be read only once.
    """
    if type(output) in _UNCHANGING:
        return output
    try:
        parts = segments_with_room(output)
        return output if parts is None else transport.loads_apart(parts)
    except Exception as error:  # whatever pickling the user's own types raises
        if isinstance(output, Iterator):
            raise TypeError(
                f"the output is a {type(output).__name__}, which the observer would use up before "
                f"the next stage gets it; return a list from the stage."
            ) from error
        return output


def as_observation(found: Any, source: str) -> Observation | None:
    """What an observer has returned, as numbers.

    Args:
        found: A number of Python, NumPy, torch or another library, or a dict of such numbers.
            `None` in a dict, NaN and infinite numbers stand for nothing.
        source: The beginning of error messages, such as "observe returned".

    Returns:
        The number, or a dict of the numbers; `None` where nothing is left.

    Raises:
        TypeError: It is something else.
        ValueError: There are more than `MAX_NUMBERS` numbers, or one has no name.
    """
    if not isinstance(found, Mapping):
        return _finite(_number(found, source))
    if len(found) > MAX_NUMBERS:
        raise ValueError(
            f"{source} {len(found)} numbers; return at most {MAX_NUMBERS}, such as the "
            f"last value and the best one of a curve."
        )
    numbers = {
        str(name): None if each is None else _finite(_number(each, f"{source} {name!r}:"))
        for name, each in found.items()
    }
    if "" in numbers:
        raise ValueError(f"{source} a number without a name; name it by a word.")
    return {name: each for name, each in numbers.items() if each is not None} or None


def _number(found: Any, source: str) -> float:
    number = number_of(found)
    if number is None:
        raise TypeError(
            f"{source} {type(found).__name__} {found!r:.80}, which is not a number; return a "
            f"number, or a dict of numbers, and math.nan where there is nothing to show."
        )
    return number


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
