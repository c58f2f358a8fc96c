"""The exceptions that eeipu raises.

EeipuError
├── ConfigurationError (also ValueError): an argument is wrong; nothing has been run
│   ├── SpaceError: a search space, or a configuration outside of it
│   ├── PipelineError: stages that cannot be declared or joined as they were
│   └── StudyMismatchError: a storage holds a study of something else
├── CacheMiss (also KeyError): the cache has no usable value under a key
├── CacheFormatError (also ValueError): a value or an entry in a form that the cache does not take
├── MissingExtraError (also ImportError): an optional library is not installed
├── TransientError: raised by a stage that is worth another try
└── SearchOver: there is nothing left that is worth a trial
    ├── SpaceExhausted: every configuration of a finite space has been evaluated
    ├── NothingWorthwhile: no candidate promises enough for what it costs
    └── BudgetTooSmall: what is left of the budget hardly pays for the next candidate

A stage that fails is not an exception but data: see `eeipu.stages.calls.StageRun.error`.
"""

__all__ = [
    "BudgetTooSmall",
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
    "StudyMismatchError",
    "TransientError",
]


class EeipuError(Exception):
    """Root of all errors that eeipu raises on purpose."""


class ConfigurationError(EeipuError, ValueError):
    """An argument is wrong. The message names the value seen and the remedy."""


class SpaceError(ConfigurationError):
    """A search space is malformed, or a configuration does not lie in it."""


class PipelineError(ConfigurationError):
    """A stage or a pipeline is declared in a way that cannot run."""


class StudyMismatchError(ConfigurationError):
    """The storage holds a study under this name that belongs to something else."""


class CacheMiss(EeipuError, KeyError):  # noqa: N818 - an answer of the cache, not a mistake
    """The cache has no usable value under this key."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class CacheFormatError(EeipuError, ValueError):
    """A value, or an entry, has a form that this cache neither writes nor loads."""


class MissingExtraError(EeipuError, ImportError):
    """An optional library is needed here. The message names the extra to install."""


class TransientError(EeipuError):
    """For stages to raise: what went wrong may go right at once (a lost connection, say).

    The stage is tried again, as often as its `retries` allow.
    """


class SearchOver(EeipuError):  # noqa: N818 - a state of the search, not a mistake
    """There is nothing left that is worth a trial."""


class SpaceExhausted(SearchOver):
    """Every configuration of a finite search space has been evaluated or is running."""


class NothingWorthwhile(SearchOver):
    """No candidate's expected improvement is worth its cost, at the price that was named."""


class BudgetTooSmall(SearchOver):
    """What is left of the budget more likely than not does not pay for the next candidate."""
