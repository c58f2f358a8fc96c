"""Content keys: what makes two stage calls the same call.

A stage call is identified by its stage (name, and code fingerprint or declared version), by its
hyper-parameters exactly as the study stores them, and by the key of the call upstream. The first
stage's upstream key is the digest of the run's inputs. Keys are Merkle: each one covers the whole
path that leads to an output.
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
        upstream: The key of the call whose output is its input, or of the run's inputs.
    """
    named = [(param, _written(value)) for param, value in sorted(params.items())]
    text = json.dumps([name, fingerprint, named, upstream], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _written(value: Any) -> Any:
    """A value in a form that JSON writes without loss: itself, or else its digest."""
    # JSON writes floats in the shortest form that reads back as the same bits, and distinguishes
    # True, 1 and 1.0. It writes a tuple like a list, and a member of an enumeration like its value.
    is_plain = value is None or isinstance(value, int | float | str)
    return value if is_plain and not isinstance(value, Enum) else [value_digest(value)]


def inputs_key(inputs: tuple[Any, ...]) -> str:
    """The digest of a run's inputs, by content.

    A `pathlib.Path` counts as it is written and by the content of its file or directory. A string
    that names a file counts as a string. Use `eeipu.Fingerprinted` for an input that is too large
    to hash.

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
                f"pass something that can be pickled, such as a path instead of an open file, or "
                f"give its content a name with eeipu.Fingerprinted."
            ) from error
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def is_digest(key: str) -> bool:
    """Whether a key is a digest, and not a name that somebody chose."""
    return len(key) == 2 * hashlib.sha256().digest_size and _DIGITS.issuperset(key)
