"""The tree of exceptions, as its docstring draws it."""

import pytest

from eeipu import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_descends_from_the_root(name):
    assert issubclass(getattr(errors, name), errors.EeipuError)


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("ConfigurationError", (ValueError,)),
        ("SpaceError", (errors.ConfigurationError, ValueError)),
        ("PipelineError", (errors.ConfigurationError, ValueError)),
        ("StudyMismatchError", (errors.ConfigurationError, ValueError)),
        ("WorkerMismatchError", (errors.ConfigurationError, ValueError)),
        ("CacheMiss", (KeyError,)),
        ("CacheAccessError", (OSError,)),
        ("MissingExtraError", (ImportError,)),
    ],
)
def test_errors_can_be_caught_as_the_builtin_they_are(name, parents):
    for parent in parents:
        assert issubclass(getattr(errors, name), parent)


def test_the_docstring_draws_every_error():
    for name in errors.__all__:
        assert name in errors.__doc__


def test_a_cache_miss_shows_its_message_without_quotes():
    assert str(errors.CacheMiss("no value under 'a'")) == "no value under 'a'"
