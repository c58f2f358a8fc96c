"""Content keys: what makes two stage calls the same call.

A stage call is identified by its stage (name, and code fingerprint or declared version), its
hyper-parameters exactly as the study stores them, and the key of the call upstream; the first
stage's upstream key is the digest of the run's inputs. Keys are Merkle: a key stands for the
whole path that leads to an output.
"""

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import value_digest
from eeipu.fingerprints.values import reason

__all__ = ["inputs_key", "is_digest", "stage_key"]

_DIGITS = frozenset("0123456789abcdef")


def stage_key(name: str, fingerprint: str, params: Mapping[str, Any], upstream: str) -> str:
    """The key of a stage call.

    Args:
        name: The stage's name.
        fingerprint: Its code fingerprint, or the version that its author declared.
        params: Its hyper-parameters as stored, without the stage's name in front.
        upstream: The key of the call whose output it gets, or of the run's inputs.
    """
    named = [(param, _written(value)) for param, value in sorted(params.items())]
    text = json.dumps([name, fingerprint, named, upstream], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _written(value: Any) -> Any:
    """A value as json writes it, where that says all; else something that stands for it."""
    # json writes floats in the shortest form that reads back as the same bits, and tells True
    # from 1 and 1 from 1.0. It does not tell a tuple from a list, nor a member from its value.
    is_plain = value is None or isinstance(value, int | float | str)
    return value if is_plain and not isinstance(value, Enum) else [value_digest(value)]


def inputs_key(inputs: tuple[Any, ...]) -> str:
    """The digest of a run's inputs, by content.

    A `pathlib.Path` counts by what is in its file or directory; a string that names one is a
    string. `eeipu.Fingerprinted` names the content of what is too large to hash.

    Raises:
        PipelineError: An input cannot be hashed.
    """
    digests = []
    for position, value in enumerate(inputs):
        try:
            digests.append(value_digest(value, reads_paths=True))
        except Exception as error:  # whatever pickle raises for the user's own types
            raise PipelineError(
                f"input {position} of the run, a {type(value).__name__}, cannot be hashed "
                f"({reason(error)}), so outputs made from it could not be told from others; "
                f"pass what can be pickled, such as a path in place of an open file, or name its "
                f"content with eeipu.Fingerprinted."
            ) from error
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def is_digest(key: str) -> bool:
    """Whether a key stands for content, and is not somebody's own name for it."""
    return len(key) == 2 * hashlib.sha256().digest_size and _DIGITS.issuperset(key)
