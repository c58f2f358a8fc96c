"""What is said when a stage's function has been defined again."""

import warnings

import pytest
from cells import cell

from eeipu import Pipeline

CELL = """
    from eeipu import Float, stage

    @stage(space={"x": Float(0.0, 1.0)})
    def train(data, *, x):
        return sum(each for each in [data, x])
"""


def run_silently(pipeline):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pipeline.run({"train.x": 0.5}, 1.0).value


def test_a_stage_whose_function_was_defined_again_is_named_once():
    pipeline = Pipeline([cell(CELL).train])
    assert run_silently(pipeline) == 1.5

    again = cell(CELL.replace("data, x]", "data, -x]")).train
    with pytest.warns(
        RuntimeWarning, match="'train' was defined again .* make the Pipeline"
    ) as told:
        assert pipeline.run({"train.x": 0.5}, 1.0).value == 1.5

    assert told[0].filename == __file__
    assert run_silently(pipeline) == 1.5
    assert run_silently(Pipeline([again])) == 0.5


DESCRIBED = CELL.replace("        return", '        """Train."""\n        return')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CELL, CELL),
        (CELL, "\n\n" + CELL),  # further down
        (CELL, CELL + "\n    # a comment\n"),
        (DESCRIBED, DESCRIBED.replace("Train.", "Fit.")),
    ],
)
def test_a_cell_that_runs_again_and_does_the_same_changes_nothing(before, after):
    pipeline = Pipeline([cell(before).train])
    cell(after)
    assert run_silently(pipeline) == 1.5


def test_functions_whose_name_is_a_blank_do_not_succeed_each_other():
    blank = CELL.replace("@stage(", '@stage(name="train", ').replace("def train", "def _")
    other = CELL.replace("@stage(", '@stage(name="other", ').replace("def train", "def _")
    made = cell(blank + "\n    kept = _\n" + other.replace("data, x]", "data, -x]"))
    assert run_silently(Pipeline([made.kept])) == 1.5


@pytest.mark.parametrize(
    "others", ["train = 3", "train = lambda data, *, x: 0.0", "del train", "train = [train]"]
)
def test_another_thing_of_its_name_is_not_its_successor(others):
    pipeline = Pipeline([cell(CELL).train])
    cell(CELL + f"\n    {others}\n")
    assert run_silently(pipeline) == 1.5
