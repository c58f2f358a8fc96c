"""Numbers of things as text, and that no text has a plural of its own after a number."""

import re
from pathlib import Path

import pytest

import eeipu
from eeipu.counts import counted

# A number in braces before a plural, in text for users. These are always several, or no count.
PLURAL = re.compile(
    r"\{[^{}]*\} (more )?(trials|workers|stages|nodes|studies|entries|requests|calls|steps)\b"
)
SEVERAL = {
    "acquisition.py",  # the stages of a pipeline, after "each of the"
    "arguments.py",
    "changes.py",
    "cost_models.py",
    "explanation.py",  # has the singular beside it
    "iterative.py",  # a part of keys, which stays as it is
    "run_limits.py",  # constants
    "study_record.py",
    "composites.py",
    "unwritten.py",  # a verb
}


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 studies"), (1, "1 study"), (2, "2 studies"), (1.5, "1.5 studies")]
)
def test_one_is_singular(number, text):
    assert counted(number, "study", "studies") == text


def test_texts_count_by_this_function():
    files = Path(eeipu.__file__).parent.rglob("*.py")
    found = {file.name for file in files if PLURAL.search(file.read_text())}
    assert found - SEVERAL == set()
