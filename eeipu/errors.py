"""The exceptions that eeipu raises.

EeipuError
├── ConfigurationError (also ValueError): an argument is wrong, and nothing has been run
│   ├── SpaceError: a search space is malformed, or a configuration does not lie in it
│   ├── PipelineError: a stage or a pipeline is declared in a way that cannot run
│   │   └── TrainingError: a training is written so that it cannot run, or not be resumed
│   ├── StudyMismatchError: the storage has a study of this name that belongs to something else
│   └── WorkerMismatchError: a worker has other code of a stage than the process that keys it
├── CacheMiss (also KeyError): the cache has no usable value under a key
├── CacheAccessError (also OSError): the location of a cache cannot be read or written
├── CacheFormatError (also ValueError): the cache does not accept the format of a value or entry
├── MissingExtraError (also ImportError): an optional library is not installed
├── StorageError: the storage of a study cannot be read or written
├── TransientError: raised by a stage that should be tried again
└── SearchOver: no further trial is worthwhile
    ├── SpaceExhausted: every configuration of a finite space was evaluated or is running
    ├── NothingWorthwhile: no candidate is worth its cost, or tells more than is known
    └── BudgetTooSmall: the remaining budget probably does not cover the next candidate

A stage that fails does not raise an error here. Its failure is data: see
`eeipu.stages.runs.StageRun.error`.
"""

__all__ = [
    "BudgetTooSmall",
    "CacheAccessError",
    "CacheFormatError",
    "CacheMiss",
    "ConfigurationError",
    "EeipuError",
    "MissingExtraError",
    "NothingWorthwhile",
    "PipelineError",
    "SearchOver",
    "SpaceError",
    "SpaceExhausted",
    "StorageError",
    "StudyMismatchError",
    "TrainingError",
    "TransientError",
    "WorkerMismatchError",
]


class EeipuError(Exception):
    """Root of all errors that eeipu raises on purpose."""


class ConfigurationError(EeipuError, ValueError):
    """An argument is wrong. The message names the value seen and the remedy."""


class SpaceError(ConfigurationError):
    """A search space is malformed, or a configuration does not lie in it."""


class PipelineError(ConfigurationError):
    """A stage or a pipeline is declared in a way that cannot run."""


class TrainingError(PipelineError):
    """A training is written so that it cannot run, or not go on as if it had never stopped."""


class StudyMismatchError(ConfigurationError):
    """The storage has a study of this name that belongs to another pipeline or search."""


class WorkerMismatchError(ConfigurationError):
    """A worker would run other code of a stage than the process that makes the stage's keys has."""


class CacheMiss(EeipuError, KeyError):  # noqa: N818 - an answer of the cache, not a mistake
    """The cache has no usable value under this key."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class CacheAccessError(EeipuError, OSError):
    """The location of a cache cannot be read or written. The cause is what the system says."""


class CacheFormatError(EeipuError, ValueError):
    """This cache does not write or load the format of a value or an entry."""


class MissingExtraError(EeipuError, ImportError):
    """An optional library is needed but not installed. The message names the extra to install."""


class StorageError(EeipuError):
    """The storage of a study cannot be read or written. What was stored before is not lost."""


class TransientError(EeipuError):
    """For stages to raise after a failure that another try may avoid, such as a lost connection.

    The stage is tried again, as often as its `retries` allow.
    """


class SearchOver(EeipuError):  # noqa: N818 - a state of the search, not a mistake
    """The search is over, because no further trial is worthwhile."""


class SpaceExhausted(SearchOver):
    """Every configuration of a finite search space was evaluated or is running."""


class NothingWorthwhile(SearchOver):
    """No candidate is worth its cost at the price that the user set, or none tells anything new."""


class BudgetTooSmall(SearchOver):
    """The remaining budget probably does not cover the cost of the next candidate."""
