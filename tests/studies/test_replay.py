"""What the best trial was trained with, as schedules that a later training can replay."""

import pytest
from trainings import STEPS, noted, pipeline, train

from eeipu import ASHA, Categorical, Float, Pipeline, PopulationBased, StageCache, Tuner, stage
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.stages.schedules import Constant, MultiStep, Piecewise
from eeipu.stages.searchable_schedules import Searchable
from eeipu.studies.early_stopping.replay import schedules_of


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return str(folder)


def tuned(notes, rule, space=None, trials=9, **options):
    tuner = Tuner(pipeline(space), early_stopping=rule, method="random", seed=0, **options)
    return tuner, tuner.run(notes, max_trials=trials, progress=False)


def test_the_winner_of_a_population_is_replayed_to_the_last_bit(notes):
    cache = StageCache()
    tuner, study = tuned(notes, PopulationBased(size=4, every=9), cache=cache)
    winner = max(
        (t for t in study.trials if "schedules" in t.user_attrs), key=lambda trial: trial.value
    )
    schedule = schedules_of(winner, tuner.pipeline)["lr"]
    assert isinstance(schedule, Piecewise)  # it has changed on the way
    before = noted(notes)
    prep, _, score = tuner.pipeline.stages
    again = Pipeline([prep, train({"lr": schedule}), score])
    other = {n: schedules_of(winner, tuner.pipeline, n) for n in ("prep", "score")}
    params = {"prep.dims": other["prep"]["dims"](0), "score.bonus": other["score"]["bonus"](0)}
    replay = Tuner(again, method="random", cache=cache)
    replay.enqueue(params)
    assert replay.run(notes, max_trials=1, progress=False).best_value == winner.value
    assert noted(notes) == before  # its checkpoints were found: the training is the same


def test_a_trial_whose_hyper_parameters_stayed_has_its_own(notes):
    tuner, study = tuned(notes, ASHA(min_steps=9))
    assert tuner.best_schedule() == {"lr": Constant(study.best_params["train.lr"])}
    assert tuner.best_schedule("prep") == {"dims": Constant(study.best_params["prep.dims"])}


def test_a_searched_schedule_comes_back_as_what_it_was(notes):
    drop = Searchable(MultiStep, Float(0.25, 0.5), milestones=[Categorical([9, 18])])
    tuner, study = tuned(notes, None, {"lr": drop}, trials=2)
    best = study.best_params
    expected = MultiStep(best["train.lr_initial"], [best["train.lr_milestones_0"]])
    assert tuner.best_schedule()["lr"].runs(STEPS) == expected.runs(STEPS)


def test_fixed_hyper_parameters_are_part_of_the_replay(notes):
    tuner, _ = tuned(notes, None, {"lr": 0.5}, trials=1)
    assert tuner.best_schedule() == {"lr": Constant(0.5)}


def test_what_there_is_not_is_an_error(notes):
    tuner, _ = tuned(notes, ASHA(min_steps=9), trials=2)  # none has come to its end
    with pytest.raises(ConfigurationError, match="call run"):
        tuner.best_schedule()
    ended, _ = tuned(notes, None, trials=1)
    with pytest.raises(PipelineError, match="no stage 'trian'"):
        ended.best_schedule("trian")

    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def plain(x, *, a):
        return a * x

    alone = Tuner(Pipeline([plain]), method="random")
    alone.run(1.0, max_trials=1, progress=False)
    assert alone.best_schedule("plain")["a"](0) == alone.study.best_params["plain.a"]
    with pytest.raises(PipelineError, match=r"are study\.best_params"):
        alone.best_schedule()
