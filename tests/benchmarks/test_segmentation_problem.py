"""The segmentation problem: its stages joined, at the size of a smoke test."""

from dataclasses import dataclass, replace

import cloudpickle
import numpy as np
import pytest
import torch
from PIL import Image

from eeipu import ConfigurationError, StageCache
from eeipu.benchmarks.segmentation.crf import smooth
from eeipu.benchmarks.segmentation.iou import mean_iou
from eeipu.benchmarks.segmentation.problem import LEAST_STD, SIZES, problem
from eeipu.benchmarks.segmentation.scenes import Scenes
from eeipu.benchmarks.segmentation.unet import Architecture
from eeipu.benchmarks.segmentation.work import Work

CONFIGURATION = {
    **{f"preprocess.mean_{channel}": 0.4 for channel in "rgb"},
    **{f"preprocess.std_{channel}": 0.3 for channel in "rgb"},
    "train.batch_size": 3,
    "train.max_lr": 0.03,
    "train.weight_decay": 5e-4,
    "smooth.sdims": 3.0,
    "smooth.compat": 20.0,
    "smooth.gt_prob": 0.8,
}
# Another value of each, that a search would try.
CHANGES = {
    **{f"preprocess.mean_{channel}": 0.8 for channel in "rgb"},
    **{f"preprocess.std_{channel}": 0.1 for channel in "rgb"},
    "train.batch_size": 2,
    "train.max_lr": 0.01,
    "train.weight_decay": 5e-3,
    "smooth.sdims": 1.0,
    "smooth.compat": 5.0,
    "smooth.gt_prob": 0.6,
}


@dataclass(frozen=True)
class Drawn:
    """Scenes that are there already, so that not every test has to draw them."""

    scenes: Scenes

    @property
    def count(self):
        return len(self.scenes.images)

    def load(self):
        return self.scenes


@pytest.fixture(scope="module")
def inputs():
    return (Drawn(problem("smoke").inputs[0].load()),)


@pytest.fixture(scope="module")
def run(inputs):
    """Run a configuration; stages that an earlier test has run are not run again."""
    pipeline, cache = problem("smoke").pipeline, StageCache()

    def run(changes):
        result = pipeline.run({**CONFIGURATION, **changes}, *inputs, cache=cache)
        assert result.error is None, result.error
        return result

    return run


# --- the pipeline


def test_the_space_is_the_papers():
    space = problem("smoke").pipeline.space

    assert list(space) == list(CONFIGURATION)
    assert all((space[f"preprocess.std_{c}"].low) == LEAST_STD for c in "rgb")
    assert (space["train.batch_size"].low, space["train.batch_size"].high) == (1, 5)
    assert space["train.max_lr"].log
    assert space["train.weight_decay"].log


@pytest.mark.parametrize("name", CHANGES)
def test_every_hyper_parameter_changes_the_score(run, name):
    assert run({name: CHANGES[name]}).value != run({}).value


def test_the_score_is_that_of_the_smoothed_masks(run):
    result = run({"smooth.gt_prob": 0.7})
    predicted = result.stage_runs[1].output

    smoothed = [
        smooth(
            torch.from_numpy(picture) / 255,
            torch.from_numpy(mask),
            labels=12,
            sdims=3.0,
            compat=20.0,
            gt_prob=0.7,
        )
        for picture, mask in zip(predicted["pictures"], predicted["masks"], strict=True)
    ]

    assert result.value == mean_iou(torch.stack(smoothed).numpy(), predicted["truth"], 12)
    assert result.value != mean_iou(predicted["masks"], predicted["truth"], 12)


def test_good_hyper_parameters_beat_bad_ones_and_the_ground_alone(run, inputs):
    truth = inputs[0].scenes.masks
    trivial = mean_iou(np.zeros_like(truth), truth, 12)

    good = run({}).value

    assert good > 2 * trivial
    assert good > 2 * run({"train.max_lr": 5e-4}).value
    assert good > 2 * run({"smooth.gt_prob": 0.02}).value


def test_a_run_is_repeated_exactly_by_another_problem_of_the_same_seed(run, inputs):
    again = problem("smoke").pipeline.run(CONFIGURATION, *inputs)
    other = problem("smoke", seed=1).pipeline.run(CONFIGURATION, *inputs)

    assert again.value == run({}).value != other.value
    assert [each.key for each in again.stage_runs] == [each.key for each in run({}).stage_runs]


def test_nothing_is_lost_on_the_way_to_another_process(inputs):
    pipeline = cloudpickle.loads(cloudpickle.dumps(problem("smoke").pipeline))
    stage = pipeline.stages[0]

    prepared = stage(*inputs, **{f"{m}_{c}": 0.5 for m in ("mean", "std") for c in "rgb"})

    assert prepared["images"].dtype == np.float16
    assert len(prepared["images"]) + len(prepared["held_out_images"]) == inputs[0].count


def test_preprocessing_normalises(inputs):
    values = {"mean_r": 0.1, "mean_g": 0.2, "mean_b": 0.3, "std_r": 0.5, "std_g": 0.6, "std_b": 0.7}

    prepared = problem("smoke").pipeline.stages[0](*inputs, **values)

    pictures = prepared["held_out_pictures"] / 255
    expected = (pictures - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(
        prepared["held_out_images"], expected.transpose(0, 3, 1, 2), atol=2e-3
    )


def test_what_stages_pass_on_is_kept_in_formats_that_cannot_run_code(inputs):
    cache = StageCache(trusted=False)
    prepared = problem("smoke").pipeline.stages[0](
        *inputs, **{f"{m}_{c}": 0.5 for m in ("mean", "std") for c in "rgb"}
    )

    cache.put("prepared", prepared)

    np.testing.assert_array_equal(cache.get("prepared")["images"], prepared["images"])


# --- presets and folders


def test_presets_differ_in_size_and_the_paper_alone_takes_a_gpu():
    smoke, cpu, paper = (problem(preset) for preset in ("smoke", "cpu", "paper"))

    assert smoke.inputs[0].count < cpu.inputs[0].count < paper.inputs[0].count
    assert [stage.num_gpus for stage in paper.pipeline.stages] == [0, 1, 1]
    assert not any(stage.num_gpus for stage in (*smoke.pipeline.stages, *cpu.pipeline.stages))
    assert (paper.n_initial, paper.budget) == (10, 20_000.0)
    assert problem("paper", cost="declared").budget is None
    for size in SIZES.values():
        assert size.height % 2**size.architecture.levels == 0
        assert size.width % 2**size.architecture.levels == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("number", [1, 2])
def test_the_paper_preset_says_that_it_needs_a_gpu(number):
    stage = problem("paper").pipeline.stages[number]
    values = {name: distribution.low for name, distribution in stage.space.items()}

    with pytest.raises(ConfigurationError, match="preset 'cpu'"):
        stage({}, **values)


def test_the_users_folders_run_through(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(6):
        picture, mask = rng.integers(0, 255, (40, 40, 3)), rng.integers(0, 3, (40, 40))
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "masks" / f"{number}.png")

    own = problem("smoke", images=tmp_path / "images", masks=tmp_path / "masks")
    assert problem("smoke", data=tmp_path).inputs == own.inputs
    result = own.pipeline.run(CONFIGURATION, *own.inputs)

    assert result.error is None, result.error
    assert 0.0 < result.value < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "preset must be one of .* 'huge'"),
        ({"cost": "guessed"}, "cost must be one of .* 'guessed'"),
        ({"images": "somewhere"}, "pass both folders or neither"),
        (
            {"images": "somewhere", "data": "elsewhere"},
            "'elsewhere' brings images and masks of its own; leave out",
        ),
        ({"data": "nowhere"}, "there is no folder 'nowhere/images'"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        problem(**arguments)


# --- declared cost


def test_declared_costs_are_those_of_the_work_model():
    declared = problem("smoke", cost="declared")
    stages = declared.pipeline.stages

    work = Work(30, 6, 48, 48, 12, SIZES["smoke"].architecture, SIZES["smoke"].epochs)
    values = {key.split(".")[1]: value for key, value in CONFIGURATION.items()}
    costs = [each.declared_cost({name: values[name] for name in each.space}) for each in stages]
    assert costs == [
        work.preprocess(),
        work.train(batch_size=3),
        work.smooth(sdims=3.0),
    ]


WORK = Work(20, 4, 32, 32, 12, Architecture(0.25, 2, 1), epochs=3)


def test_declared_costs_grow_with_what_there_is_to_do():
    assert WORK.train(batch_size=1) > WORK.train(batch_size=2) > WORK.train(batch_size=5)
    assert WORK.smooth(sdims=8.0) > WORK.smooth(sdims=2.0) > WORK.smooth(sdims=1.0) > 0
    larger = replace(WORK, height=64)
    assert larger.preprocess() == 2 * WORK.preprocess() > 0
    assert larger.train(batch_size=2) > WORK.train(batch_size=2)
    assert larger.smooth(sdims=2.0) == 2 * WORK.smooth(sdims=2.0)
    assert replace(WORK, epochs=4).train(batch_size=2) > WORK.train(batch_size=2)
    assert replace(WORK, classes=20).smooth(sdims=2.0) > WORK.smooth(sdims=2.0)
