"""Content keys: what makes two stage calls the same call.

A stage call is identified by its stage (name, and code fingerprint or declared version), by its
hyper-parameters exactly as the study stores them, and by the keys of what it gets: the calls
upstream, and the digest of the run's inputs. Keys are Merkle: each one covers everything that leads
to an output.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import value_digest
from eeipu.fingerprints.parts import short_digest
from eeipu.fingerprints.values import plain, reason

__all__ = ["inputs_key", "is_digest", "joined", "source_parts", "stage_key", "value_parts"]

_DIGEST = re.compile("[0-9a-f]{64}")

# The key of a run's inputs: the digest of each.
_INPUTS = re.compile("inputs:((?:[0-9a-f]+,?)*)")

_CONTAINERS = (list, tuple, dict, set, frozenset)

# A table of a million rows as dicts has the same in each; to look into all takes too long.
_MAX_CONTAINERS = 1000


def stage_key(name: str, fingerprint: str, params: Mapping[str, Any], upstream: str) -> str:
    """The key of a stage call.

    Args:
        name: The stage's name.
        fingerprint: Its code fingerprint, or the version that its author declared.
        params: Its hyper-parameters as stored, without the stage's name in front.
        upstream: The key of the call whose output is its input, or of the run's inputs; for
            several of them, their keys as `joined`.
    """
    named = [(param, _written(value)) for param, value in sorted(params.items())]
    text = json.dumps([name, fingerprint, named, upstream], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def joined(keys: Sequence[str]) -> str:
    """One key for what a call gets in this order; a single key stands for itself."""
    return keys[0] if len(keys) == 1 else json.dumps(list(keys), separators=(",", ":"))


def _written(value: Any) -> Any:
    """A value in a form that JSON writes without loss: itself, or else its digest."""
    # JSON writes floats in the shortest form that reads back as the same bits, and distinguishes
    # True, 1 and 1.0. It writes a tuple like a list, and a member of an enumeration like its value.
    is_plain = value is None or isinstance(value, int | float | str)
    return value if is_plain and not isinstance(value, Enum) else [value_digest(value)]


def inputs_key(inputs: tuple[Any, ...]) -> str:
    """The digests of a run's inputs, by content, in one string.

    A `pathlib.Path` counts as it is written and by the content of its file or directory. A string
    that names a file counts as a string. Use `eeipu.Fingerprinted` for an input that is too large
    to hash.

    Raises:
        PipelineError: An input cannot be hashed, or can be read only once.
    """
    digests = []
    for position, value in enumerate(inputs):
        _check_lasts(position, plain(value))
        try:
            digests.append(value_digest(value, reads_paths=True))
        except Exception as error:  # whatever pickle raises for the user's own types
            raise PipelineError(
                f"input {position} of the run, a {type(value).__name__}, cannot be hashed "
                f"({reason(error)}), so outputs made from it could not be told from others; "
                f"pass something that can be pickled, such as a path instead of an open file, or "
                f"give its content a name with eeipu.Fingerprinted."
            ) from error
    return f"inputs:{','.join(digests)}"


def _check_lasts(position: int, value: Any) -> None:
    """Refuse an iterator, also inside of lists and the like: the first call would use it up."""
    for each in _values_in(value):
        if isinstance(each, Iterator):
            what = type(each).__name__
            inside = "" if each is value else f" in a {type(value).__name__}"
            raise PipelineError(
                f"input {position} of the run is an iterator, a {what}{inside}, which the first "
                f"trial would use up; pass list(...) of it, the data set instead of an iterator "
                f"over it, or the path of a file."
            )


def _values_in(value: Any) -> Iterator[Any]:
    """A value, and one of each type in it where it is a container of Python's own."""
    waiting: list[Any] = [value]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        yield each
        is_new = type(each) in _CONTAINERS and id(each) not in seen
        if is_new and len(seen) < _MAX_CONTAINERS:
            seen.add(id(each))
            inner = each.values() if isinstance(each, dict) else each
            for kind in set(map(type, inner)):
                of_kind = (one for one in inner if type(one) is kind)
                waiting += islice(of_kind, _MAX_CONTAINERS if kind in _CONTAINERS else 1)


def is_digest(key: str) -> bool:
    """Whether a key is made of digests, and not a name that somebody chose."""
    return _INPUTS.fullmatch(key) is not None or _DIGEST.fullmatch(key) is not None


def value_parts(params: Mapping[str, Any]) -> dict[str, str]:
    """A short digest of each hyper-parameter, which is another one wherever keys are."""
    return {name: short_digest(json.dumps(_written(value))) for name, value in params.items()}


def source_parts(
    upstream: str, names: Sequence[str], above: Sequence[str] | None = None
) -> dict[str, Any]:
    """The parts of what a call gets: of each input of the run, and of each output upstream.

    Args:
        upstream: The key of its input, or several as `joined`.
        names: What the stage calls its inputs. Further inputs go by their position.
        above: What each of the keys is of, where there are several: the names of stages, for
            instance.
    """
    if above is not None:
        keys = zip(above, json.loads(upstream), strict=True)
        return {"inputs": {name: short_digest(key) for name, key in keys}}
    found = _INPUTS.fullmatch(upstream)
    if found is None:
        return {"upstream": upstream}
    digests = found[1].split(",") if found[1] else []
    named = [*names[: len(digests)], *map(str, range(len(names), len(digests)))]
    return {"inputs": dict(zip(named, map(short_digest, digests), strict=True))}
