"""Objectives that cannot be right are told of before anything is run, or at the first value."""

import logging

import pytest
import torch
from digit_training import make_loaders, make_model, make_optimizer
from trainings import noted, pipeline

from eeipu import ASHA, OneOf, Pipeline, Tuner, iterative, stage, torch_training
from eeipu.errors import PipelineError
from eeipu.space import Float
from eeipu.stages.iterative import Training

LOSS = torch.nn.functional.cross_entropy


def trained(calls):
    def loaders(values, batch_size):
        calls.append(batch_size)
        return make_loaders(values, batch_size)

    space = {"lr": Float(0.01, 0.1), "batch_size": 8}
    return torch_training(
        make_model, make_optimizer, LOSS, loaders, space=space, steps=3, version="1"
    )


@pytest.mark.parametrize(
    ("rule", "objective"), [(ASHA(), None), (ASHA(), "f1"), (None, None), (None, ["loss", "f1"])]
)
def test_metrics_that_are_known_are_compared_with_the_objective_before_work_begins(rule, objective):
    calls = []
    several = ["minimize", "maximize"] if isinstance(objective, list) else None
    tuner = Tuner(
        Pipeline([trained(calls)], objective=objective), early_stopping=rule, directions=several
    )
    with pytest.raises(PipelineError, match=r"gives the metrics \['loss', 'accuracy'\].*objective"):
        tuner.run(torch.zeros(4, 2), max_trials=1, progress=False)
    assert not calls
    assert not tuner.study.trials


def test_each_alternative_that_may_give_the_objective_is_looked_at():
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def other(values, *, x):
        return x

    tuner = Tuner(Pipeline([OneOf("model", [other, trained([])])]), early_stopping=ASHA())
    with pytest.raises(PipelineError, match="'train', gives the metrics"):
        tuner.run(torch.zeros(4, 2), max_trials=1, progress=False)


def test_a_stage_behind_the_training_gives_the_objective_and_a_caller_may_do_so():
    @stage(version="1")
    def score(metrics):
        return metrics["loss"]

    tuner = Tuner(Pipeline([trained([]), score]), early_stopping=ASHA(), direction="minimize")
    Tuner(Pipeline([trained([])]), budget=1.0).ask()  # and tells a number, not metrics
    tuner.run(torch.zeros(4, 2), max_trials=1, progress=False)
    assert len(tuner.study.trials) == 1


def test_metrics_that_are_not_known_end_the_search_at_the_first_value(tmp_path, caplog):
    training = Training(lambda notes: 0, lambda state, *_: state, lambda state: {"loss": 1.0})
    train = iterative(training, {"lr": Float(0.0, 1.0)}, 9, version="1")
    tuner = Tuner(Pipeline([train]), early_stopping=ASHA(min_steps=1), method="random")
    tuner.run(str(tmp_path), max_trials=5, progress=False)
    assert len(tuner.study.trials) == 1
    why = "returned the metrics ['loss'], and none of them is named as the objective"
    assert why in caplog.text
    assert "Pipeline(objective=...)" in caplog.text


@pytest.mark.parametrize(
    ("objective", "direction", "hint"),
    [
        ("validation_loss", "maximize", "smaller values are usually better"),
        ("test.accuracy", "minimize", "larger values are usually better"),
        ("loss", "minimize", None),
        ("neg_log_loss", "maximize", None),
        ("lossless_share", "maximize", None),
        (None, "maximize", None),
    ],
)
def test_a_direction_that_the_objectives_name_speaks_against_is_a_hint(
    objective, direction, hint, caplog
):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def only(values, *, x):
        return {objective: x}

    with caplog.at_level(logging.WARNING, "eeipu"):
        Tuner(Pipeline([only], objective=objective), budget=1.0, direction=direction)
    assert (hint in caplog.text) if hint else not caplog.records


def test_a_pipeline_whose_metrics_are_not_known_runs_as_before(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    Tuner(pipeline(), early_stopping=ASHA(min_steps=3), method="random").run(
        str(folder), max_trials=2, progress=False
    )
    assert noted(str(folder))
