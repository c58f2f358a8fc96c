"""Failures that are no fault of the configuration, and small regions that do not fail."""

import pytest

from eeipu import ConfigurationError, Float, Pipeline, Tuner, stage


class Broken:
    """A stage that fails while `error` is set; how often it ran is in `calls`."""

    def __init__(self, error=None):
        self.error = error
        self.calls = 0

        @stage(space={"x": Float(0, 1), "y": Float(0, 1)}, cost=lambda x, y: 1.0, version="1")
        def fit(*, x, y):
            self.calls += 1
            if self.error is not None:
                raise self.error
            return -((x - 0.3) ** 2) - y

        self.pipeline = Pipeline([fit])


def run(tuner, trials):
    return tuner.run(max_trials=trials, progress=False)


def states(tuner):
    return [trial.state.name for trial in tuner.study.trials]


def test_ten_trials_without_their_file_are_forgotten_when_it_is_back(caplog):
    toy = Broken(FileNotFoundError("data.csv"))
    tuner = Tuner(toy.pipeline, seed=0)
    run(tuner, 20)
    assert states(tuner) == ["FAIL"] * 10
    toy.error = None
    caplog.clear()

    run(tuner, 3)

    message = "\n".join(record.getMessage() for record in caplog.records)
    assert (
        "10 failed trials no longer count, the last with 'FileNotFoundError: data.csv'" in message
    )
    tuner.study.sampler.n_initial = 3
    run(tuner, 1)  # from models of three successes
    assert states(tuner) == ["FAIL"] * 10 + ["COMPLETE"] * 4


def test_failures_are_tried_again_first():
    toy = Broken(ValueError("no"))
    tuner = Tuner(toy.pipeline, seed=0)
    run(tuner, 2)
    toy.error = OSError("disk")
    run(tuner, 1)
    failed = [trial.params for trial in tuner.study.trials]
    toy.error = None

    assert tuner.retry_failed("ValueError") == 2
    run(tuner, 2)

    assert [trial.params for trial in tuner.study.trials[3:]] == failed[:2]
    assert states(tuner) == ["FAIL"] * 3 + ["COMPLETE"] * 2
    assert tuner.retry_failed() == 1
    assert tuner.retry_failed() == 0


def test_a_retry_that_fails_may_be_tried_again():
    toy = Broken(ValueError("no"))
    tuner = Tuner(toy.pipeline, seed=0)
    run(tuner, 1)
    for _ in range(2):
        assert tuner.retry_failed() == 1
        run(tuner, 1)

    assert len({tuple(trial.params.values()) for trial in tuner.study.trials}) == 1
    assert len(tuner.study.trials) == 3


def test_failures_that_the_user_names_do_not_count():
    toy = Broken(ValueError("busy"))
    tuner = Tuner(toy.pipeline, seed=0, n_initial=3, forget="busy")
    run(tuner, 2)
    toy.error = None
    run(tuner, 3)

    assert tuner.study.sampler.n_initial == 3
    run(tuner, 1)  # the models have no failure to learn from
    assert tuner.study.sampler._fitted.keys() == {"objective", "costs"}


def test_the_number_of_failures_in_a_row_can_be_set():
    tuner = Tuner(Broken(OSError("disk")).pipeline, seed=0, max_failures=3)
    run(tuner, 20)

    assert len(tuner.study.trials) == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_search_goes_on_where_a_tenth_of_the_space_is_feasible(seed):
    @stage(space={"x": Float(0, 1), "y": Float(0, 1)}, cost=lambda x, y: 1.0, version="1")
    def fit(*, x, y):
        if x > 0.4 or y > 0.25:
            raise ValueError("infeasible")
        return -((x - 0.3) ** 2) - y

    tuner = Tuner(Pipeline([fit]), seed=seed)
    run(tuner, 40)

    assert len(tuner.study.trials) == 40
    assert states(tuner).count("COMPLETE") >= 8  # a tenth would be four


@pytest.mark.parametrize(
    "arguments", [{"max_failures": 0}, {"max_failures": 1.5}, {"forget": [3]}, {"forget": ""}]
)
def test_arguments_about_failures_are_checked(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        Tuner(Broken().pipeline, **arguments)
