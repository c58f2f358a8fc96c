"""Trainings that stop early in graphs of stages, and among alternatives."""

from collections import Counter
from dataclasses import replace

import pytest
from trainings import advance, note, noted, steps_run

from eeipu import (
    ASHA,
    INPUTS,
    Categorical,
    Float,
    OneOf,
    Pipeline,
    PopulationBased,
    StageCache,
    Tuner,
    stage,
)
from eeipu.errors import ConfigurationError
from eeipu.stages.iterative import Training, iterative

STEPS = 27
RATES = Categorical([i / 27 for i in range(27)])


@stage(space={"dims": Categorical([1, 2])}, version="1")
def prep(notes, *, dims):
    note(notes, f"prep {dims}")
    return [notes, 0.0, 0, dims]


@stage(space={"scale": Categorical([0.5, 1.0])}, inputs="prep", version="1")
def side(prepared, *, scale):
    note(prepared[0], f"side {prepared[3]} {scale}")
    return scale * prepared[3]


def total(state):
    return state[1]


def keep_all(*given):
    """The state before the first step, and after a checkpoint was loaded."""
    if isinstance(given[0], str):  # saved, and then what the stage gets
        _, prepared, scaled = given
        saved = [float(each) for each in given[0].split()]
        return [prepared[0], saved[0], int(saved[1]), prepared[3] * scaled]
    prepared, scaled = given
    return [*prepared[:3], prepared[3] * scaled]


def as_text(state):
    return f"{state[1]!r} {state[2]}"


def trained(name="train", steps=STEPS, space=None, **options):
    space = {"lr": RATES} if space is None else space
    training = Training(list, advance, total)
    return iterative(training, space, steps, name=name, version="1", **options)


def from_prep(item):
    return _with_inputs(item, "prep")


def _with_inputs(item, *names):
    return replace(item, inputs=names)


@stage(space={"bonus": Categorical([0.0, 0.25])}, inputs=("train", "side", INPUTS), version="1")
def score(trained_sum, side_value, notes, *, bonus):
    note(notes, "score")
    return trained_sum + side_value + bonus


def diamond(**options):
    return Pipeline([prep, side, from_prep(trained(**options)), score])


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return str(folder)


def tuned(pipeline, notes, rule, *, trials=27, method="random", **options):
    tuner = Tuner(pipeline, early_stopping=rule, method=method, seed=0, **options)
    return tuner.run(notes, max_trials=trials, progress=False)


def states(study):
    return Counter(trial.state.name for trial in study.trials)


def check_values(study, pipeline, notes):
    """The values of trials that came to their ends are those of runs without any of this."""
    ended = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert ended
    for trial in ended:
        assert trial.value == pytest.approx(pipeline.run(trial.params, notes).value)
        assert trial.value == trial.intermediate_values[STEPS]


@pytest.mark.parametrize("executor", [{}, {"executor": "processes", "max_parallel": 2}])
def test_a_diamond_stops_early_and_runs_what_is_common_once(notes, tmp_path, executor):
    cache = StageCache(tmp_path / "cache")
    study = tuned(diamond(), notes, ASHA(min_steps=3), cache=cache, **executor)
    assert states(study).keys() == {"COMPLETE", "PRUNED"}
    assert {step for t in study.trials for step in t.intermediate_values} == {3, 9, 27}
    counts = noted(notes)
    assert all(count == 1 for what, count in counts.items() if what.startswith(("prep", "side")))
    reached = {}
    for trial in study.trials:
        key = trial.params["prep.dims"], trial.params["train.lr"]
        reached[key] = max(reached.get(key, 0), *trial.intermediate_values)
    assert steps_run(notes) == sum(reached.values())
    check_values(study, diamond(), notes)


def test_its_plain_stages_have_the_keys_of_any_run(notes):
    cache = StageCache()
    params = {"prep.dims": 1, "side.scale": 0.5, "train.lr": 1 / 27, "score.bonus": 0.0}
    before = diamond().run(params, notes, cache=cache)
    tuner = Tuner(diamond(), early_stopping=ASHA(min_steps=9), method="random", cache=cache)
    tuner.enqueue(params)
    (trial,) = tuner.run(notes, max_trials=1, progress=False).trials
    assert noted(notes)["prep 1"] == noted(notes)["side 1 0.5"] == 1
    keys = dict(zip(diamond().stage_names, trial.user_attrs["stage_keys"], strict=True))
    plain = {run.name: run.key for run in before.stage_runs}
    assert keys["prep"] == plain["prep"]
    assert keys["side"] == plain["side"]


def test_a_training_joins_outputs_and_its_checkpoint_leaves_them_out(notes):
    training = Training(keep_all, advance, total, as_text, keep_all)
    fit = iterative(training, {"lr": RATES}, STEPS, name="train", version="1")
    pipeline = Pipeline([prep, side, _with_inputs(fit, "prep", "side"), score])
    study = tuned(pipeline, notes, ASHA(min_steps=3))
    check_values(study, pipeline, notes)


def test_other_trainings_in_other_branches_are_trained_to_their_ends(notes):
    first = from_prep(trained("first", steps=4, space={"lr": Categorical([0.5, 0.25])}))

    @stage(space={}, inputs=("first", "train"), version="1")
    def join(one, two):
        return one + two

    pipeline = Pipeline([prep, first, from_prep(trained()), join])
    study = tuned(pipeline, notes, ASHA(min_steps=3))
    check_values(study, pipeline, notes)
    assert {step for t in study.trials for step in t.intermediate_values} == {3, 9, 27}


def test_a_training_is_joined_with_itself_and_goes_on(notes):
    @stage(space={"a": Categorical([1, 2])}, inputs="train", version="1")
    def left(total, *, a):
        return total * a

    @stage(space={"b": Categorical([1, 2])}, inputs="train", version="1")
    def right(total, *, b):
        return total - b

    @stage(space={}, inputs=("left", "right", "left"), version="1")
    def last(one, two, again):
        return one + two + again

    pipeline = Pipeline([prep, trained(), left, right, last])
    check_values(tuned(pipeline, notes, ASHA(min_steps=3)), pipeline, notes)


def test_alternatives_without_steps_compete_with_those_that_have_some(notes):
    @stage(space={"depth": Float(0.0, 1.0)}, version="1")
    def forest(prepared, *, depth):
        note(prepared[0], f"forest {depth}")
        return 20.0 * depth

    @stage(space={}, version="1")
    def result(value):
        return value

    pipeline = Pipeline([prep, OneOf("model", [trained(), forest]), result])
    study = tuned(pipeline, notes, ASHA(min_steps=3), trials=40)
    check_values(study, pipeline, notes)
    grown = [t for t in study.trials if t.params["model"] == "forest"]
    assert len(grown) > 5
    assert {len(t.intermediate_values) for t in grown} > {1}
    assert {what: n for what, n in noted(notes).items() if "forest" in what and n > 1}.keys() <= {
        f"forest {t.params['forest.depth']}" for t in grown if t.state.name == "COMPLETE"
    }  # which `check_values` has run again


def test_alternatives_are_compared_at_the_same_share_of_their_trainings(notes):
    model = OneOf("model", [trained("short", steps=9), trained("long", steps=27)])
    pipeline = Pipeline([prep, model])
    study = tuned(pipeline, notes, ASHA(min_steps=3), trials=30)
    check_values(study, pipeline, notes)
    short = [t for t in study.trials if t.params["model"] == "short"]
    for trial in short:
        lr, last = trial.params["short.lr"], max(trial.intermediate_values)
        assert trial.intermediate_values[last] == pytest.approx(lr * last / 3)


def test_a_branch_that_fails_is_a_failed_trial(notes):
    @stage(space={"ok": Categorical([0, 1])}, inputs="prep", version="1")
    def breaks(prepared, *, ok):
        return 1 / ok

    @stage(space={}, inputs=("breaks", "train"), version="1")
    def last(one, two):
        return one + two

    pipeline = Pipeline([prep, from_prep(trained()), breaks, last])
    study = tuned(pipeline, notes, ASHA(min_steps=9), trials=12, max_failures=20)
    failed = [t for t in study.trials if t.state.name == "FAIL"]
    assert failed
    assert all(t.params["breaks.ok"] == 0 for t in failed)
    assert {t.user_attrs["failed_stage"] for t in failed} == {"breaks"}
    assert all("ZeroDivisionError" in t.user_attrs["error"] for t in failed)


def test_without_a_rule_a_graph_is_merged_too(notes):
    space = {"lr": Categorical([0.1, 0.2])}
    study = tuned(diamond(space=space), notes, None, method="grid", trials=100)
    assert states(study) == {"COMPLETE": 16}
    assert steps_run(notes) == 2 * 2 * STEPS


def test_what_the_cache_has_dropped_is_made_again(notes, tmp_path):
    cache = StageCache(tmp_path / "cache")

    class Dropping:
        """Drops everything after every trial."""

        def __call__(self, study, trial):
            cache.clear()

    study = tuned(diamond(), notes, ASHA(min_steps=3), cache=cache, callbacks=[Dropping()])
    check_values(study, diamond(), notes)


def test_one_output_that_no_cache_keeps_is_refused_for_several_stages(notes):
    @stage(space={}, memoize=False, version="1")
    def loose(notes):
        return [notes, 0.0, 0, 1]

    def pipeline():
        return Pipeline(
            [loose, _with_inputs(side, "loose"), _with_inputs(trained(), "loose"), score]
        )

    with pytest.raises(ConfigurationError, match="'loose' is not kept"):
        Tuner(pipeline(), early_stopping=ASHA())
    assert states(tuned(pipeline(), notes, None, trials=2)) == {"COMPLETE": 2}


def test_a_population_does_not_change_among_alternatives():
    pipeline = Pipeline([prep, OneOf("model", [trained("one"), trained("two")])])
    with pytest.raises(ConfigurationError, match=r"\['one', 'two'\] are alternatives"):
        Tuner(pipeline, early_stopping=PopulationBased())
