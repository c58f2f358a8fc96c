"""Digests of values by content: equal values have equal digests, in every process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeipu.errors import ConfigurationError
from eeipu.fingerprints.contents.files import files_below
from eeipu.fingerprints.contents.stream import ContentStream, StandIn

__all__ = ["Fingerprinted", "StandIn", "digest", "plain", "reason"]


@dataclass(frozen=True)
class Fingerprinted:
    """An input with a fingerprint that the user chose, for data too large to hash.

    The first stage gets the value alone. The user promises that the fingerprint changes whenever
    the value does.

    Attributes:
        value: The input.
        fingerprint: The string that stands for its content.

    Raises:
        ConfigurationError: The fingerprint is not a string, or is empty.
    """

    value: Any
    fingerprint: str

    def __post_init__(self) -> None:
        if not (isinstance(self.fingerprint, str) and self.fingerprint):
            raise ConfigurationError(
                f"the fingerprint of an input must be a string such as a version or a checksum, "
                f"but got {self.fingerprint!r}."
            )

    @classmethod
    def by_stat(cls, path: str | Path) -> "Fingerprinted":
        """A file or directory, identified by names, sizes and modification times.

        Raises:
            FileNotFoundError: There is no such file or directory.
        """
        path = Path(path)
        files = [path] if path.is_file() else files_below(path)
        seen = [(str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
        if not path.exists():
            raise FileNotFoundError(f"there is no file or directory {str(path)!r}.")
        return cls(path, f"{path.resolve()} {digest(seen)}")


def plain(value: Any) -> Any:
    """The value that a stage gets for an input: a `Fingerprinted` without its fingerprint."""
    return value.value if isinstance(value, Fingerprinted) else value


def digest(value: Any, stand_in: StandIn = lambda _: None, *, reads_paths: bool = False) -> str:
    """A digest of any value that can be pickled.

    A path counts as it is written, and by the content of its file and of the files beside it that
    have the same name with another suffix.

    Args:
        value: The value.
        stand_in: Gives what stands for the functions and classes in it.
        reads_paths: Whether a path to a folder stands for all files in it, and not for its name.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """
    return ContentStream(stand_in, reads_folders=reads_paths).digest(value).hex()


def reason(error: Exception) -> str:
    """An error's type and first argument, without the rest, which may be a whole value."""
    return f"{type(error).__name__}: {next(iter(error.args), '')}"
