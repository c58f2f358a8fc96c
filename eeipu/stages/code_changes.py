"""Looking at the code of stages again: whether it, or the values that it uses, have changed."""

import sys
import warnings
from collections.abc import Iterable, Sequence
from types import CodeType, FunctionType

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import CodeReader, UnreadableError
from eeipu.fingerprints.garbage import without_collections
from eeipu.fingerprints.outlines import Outline, outline_of
from eeipu.stages.declaration import Stage, is_read
from eeipu.stages.functions.methods import object_digest, plain_function

__all__ = ["outline", "refresh_code"]


@without_collections()
def outline(stage: Stage) -> Outline | None:
    """What another process compares a stage's code with; `None` where it cannot be read.

    A `version` stands for the code and for all values that it uses, which may differ. But a process
    that runs other code runs another version.
    """
    if stage.function is None:
        return None
    if stage.version is not None:
        try:
            return outline_of(stage.read_code(CodeReader(), None), has_values=False)
        except PipelineError:
            return None
    reading = stage.known_code.reading
    if reading is None:
        reading = stage.known_code.reading = stage.read_code(CodeReader(), None)
    return outline_of(reading)


@without_collections()  # until the reader, which has the syntax trees, is gone
def refresh_code(stages: Iterable[Stage]) -> None:
    """Read the code of stages again, so that their fingerprints follow the values that it uses.

    These are globals, closure values and defaults. Code that stages share is read once. A stage
    that came from another process, with code that has no source in this one, keeps the fingerprint
    that it had there.

    Raises:
        PipelineError: The code of a stage cannot be fingerprinted, or no longer can.
    """
    stages = list(stages)
    for each in stages:
        _warn_of_successor(each)
        _refresh_content(each)
    read = [each for each in stages if is_read(each)]
    known = (each.known_code.reading for each in read)
    reader = CodeReader(reading for reading in known if reading is not None)
    for each in read:
        _refresh(each, reader)
    for observer in (each.observer for each in stages if each.observer is not None):
        observer.refresh(reader)


def _refresh(stage: Stage, reader: CodeReader) -> None:
    last = stage.known_code.reading
    try:
        reading = stage.read_code(reader, last)
    except UnreadableError:
        if last is None or last.definitions:
            raise
        return
    stage.known_code.reading = reading
    if last is not None and reading.fingerprint != last.fingerprint:
        _warn_of_change(stage.name, reading.changes_since(last))


def _refresh_content(stage: Stage) -> None:
    """Look again at the object of a stage whose version stands for its code."""
    last = stage.known_code.content
    stage.known_code.content = None if stage.version is None else object_digest(stage.function)
    if last is not None and stage.known_code.content != last:
        _warn_of_change(stage.name, ["self"])


def _warn_of_change(name: str, changes: Sequence[str]) -> None:
    named = f" ({', '.join(changes[:3])}{', ...' if len(changes) > 3 else ''})" if changes else ""
    warnings.warn(
        f"values that stage {name!r} uses{named} have changed since it was last run, so outputs "
        f"made before are not reused. If the stage itself changes them when it runs, as it does a "
        f"memo or a random generator, create them inside the stage or declare stage(version=...).",
        RuntimeWarning,
        stacklevel=6,  # who called Pipeline.run or Tuner.run
    )


def _warn_of_successor(stage: Stage) -> None:
    """Warn where a stage has an old function, which a notebook's cell, say, has defined again.

    Functions that decorators have wrapped are not compared, as all wrappers have one code; nor are
    those whose name is a blank, and defaults.
    """
    own = plain_function(stage.function)
    if not isinstance(own, FunctionType) or "." in own.__qualname__ or own.__name__ == "_":
        return
    now = getattr(sys.modules.get(own.__module__), own.__name__, None)
    now = plain_function(now.function) if isinstance(now, Stage) else now
    if now is own or not isinstance(now, FunctionType) or now is stage.known_code.successor:
        return
    if now.__code__.co_name == own.__name__ and _body_of(now) != _body_of(own):
        stage.known_code.successor = now
        warnings.warn(
            f"{own.__name__!r} was defined again with other code after stage {stage.name!r} was "
            f"made of it, which still runs the old code; make the Pipeline (and the Tuner) again "
            f"to run the new one.",
            RuntimeWarning,
            stacklevel=5,  # who called Pipeline.run or Tuner.run
        )


def _body_of(function: FunctionType) -> tuple[object, ...]:
    """What a function does, wherever it stands and whatever its docstring says."""
    return _body(function.__code__, function.__doc__)


def _body(code: CodeType, docstring: str | None = None) -> tuple[object, ...]:
    # A docstring is the first constant; before Python 3.13, `None` is where there is no docstring.
    has_place = code.co_consts[:1] in ((docstring,), (None,))
    constants = code.co_consts[1:] if has_place else code.co_consts
    inside = (_body(c) if isinstance(c, CodeType) else (type(c), c) for c in constants)
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, *inside
