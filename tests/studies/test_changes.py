"""Going on with a study after its pipeline has changed, and with trials from elsewhere."""

import logging

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

from eeipu import (
    INPUTS,
    Categorical,
    ConfigurationError,
    Float,
    Int,
    OneOf,
    Optional,
    Pipeline,
    Tuner,
    stage,
)
from eeipu.errors import StudyMismatchError
from eeipu.methods.history import History


def pipeline(lr=None, extra=None, more=(), **functions):
    """A stage `fit` with a learning rate and perhaps a second parameter, after other stages."""
    space = {"lr": lr or Float(0.0, 1.0), **({"extra": extra} if extra else {})}

    def fit(*data, lr, extra=0.5):
        return -((lr - 0.3) ** 2) - (extra if isinstance(extra, float) else 0.0)

    declared = stage(functions.get("fit", fit), space=space, cost=lambda **_: 1.0, version="1")
    return Pipeline([*more, declared], name="p")


@stage(space={"size": Int(1, 9)}, cost=lambda size: 2.0, version="1")
def prep(*, size=4):
    return size


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    if request.param == "memory":
        return optuna.storages.InMemoryStorage()
    return f"sqlite:///{tmp_path}/study.db"


def run(tuner, trials):
    return tuner.run(max_trials=trials, progress=False)


def went_on(storage, before, after, trials=4, **arguments):
    """The tuner of a pipeline in a study of another one, and the history that it goes on from."""
    run(Tuner(before, storage=storage, seed=0), trials)
    with pytest.raises(StudyMismatchError, match="adopt"):
        Tuner(after, storage=storage, seed=0)
    tuner = Tuner(after, storage=storage, seed=0, n_initial=2, on_change="adopt", **arguments)
    return tuner, History.of(tuner.study, after)


@pytest.mark.parametrize("after", [Float(0.0, 5.0), Float(-1.0, 1.0)])
def test_a_wider_range_goes_on_with_all_trials(storage, after):
    tuner, history = went_on(storage, pipeline(), pipeline(lr=after))

    assert (len(history), history.left_out) == (4, ())
    assert len(run(tuner, 2).trials) == 6
    Tuner(pipeline(lr=after), storage=storage)  # now this is its space


def test_a_narrower_range_leaves_out_what_lies_outside(storage, caplog):
    narrow = pipeline(lr=Float(0.0, 0.5))
    _, history = went_on(storage, pipeline(), narrow, trials=8)

    outside = [t for t in history.left_out if t[0].params["fit.lr"] > 0.5]
    assert len(outside) == len(history.left_out) > 0
    assert len(history) + len(outside) == 8
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{len(outside)} of 8 trials do not fit the space and are left out: fit.lr lies" in (
        record.getMessage()
    )


def test_a_choice_more(storage):
    before, after = (pipeline(extra=Categorical(["a", "b", *new])) for new in ((), ("c",)))
    tuner, history = went_on(storage, before, after)
    assert len(history) == 4

    tuner.enqueue({"fit.lr": 0.5, "fit.extra": "c"})
    study = run(tuner, 6)

    assert study.trials[4].params["fit.extra"] == "c"
    assert [t.params["fit.extra"] for t in study.trials[:4]] == [
        t.params["fit.extra"] for t in history.ended
    ]
    again = Tuner(after, storage=storage, seed=1)
    assert len(History.of(again.study, after)) == 10


def test_a_choice_less(storage):
    before, after = (
        pipeline(extra=Categorical(["a", "b", "c"])),
        pipeline(extra=Categorical(["c", "b"])),
    )
    tuner, history = went_on(storage, before, after, trials=6)
    gone = [t for t in tuner.study.trials if t.params["fit.extra"] == "a"]
    assert len(history.left_out) == len(gone) > 0

    study = run(tuner, 8)

    assert {t.params["fit.extra"] for t in study.trials[6:]} == {"b", "c"}


def test_changed_choices_need_a_sampler_that_knows(storage):
    before, after = (pipeline(extra=Categorical(c)) for c in (["a", "b"], ["a", "c"]))
    sampler = optuna.samplers.RandomSampler(seed=0)
    with pytest.raises(StudyMismatchError, match="RandomSampler could still choose the old ones"):
        went_on(storage, before, after, method=sampler)


def test_a_parameter_more_has_its_default_in_old_trials(storage):
    after = pipeline(extra=Float(0.0, 1.0))
    tuner, history = went_on(storage, pipeline(), after)

    assert [trial.params["fit.extra"] for trial in history.ended] == [0.5] * 4
    assert len(run(tuner, 3).trials) == 7
    assert tuner.study.sampler._refits._starts  # models have learnt from both


def test_a_parameter_more_without_a_default_leaves_old_trials_out(storage):
    def fit(*, lr, extra):
        return lr + extra

    _, history = went_on(storage, pipeline(), pipeline(extra=Float(0.0, 1.0), fit=fit))

    assert len(history) == 0
    assert [why for _, why in history.left_out] == ["fit.extra is missing"] * 4


def test_a_parameter_less_keeps_the_trials_that_had_its_default(storage):
    before = pipeline(extra=Float(0.0, 1.0, step=0.5))
    _, history = went_on(storage, before, pipeline(), trials=9)

    assert {trial.params["fit.extra"] for trial in history.ended} == {0.5}
    assert {why for _, why in history.left_out} == {"fit.extra is gone"}


def test_a_stage_more_has_its_defaults_and_no_costs_in_old_trials(storage):
    after = pipeline(more=[prep])
    tuner, history = went_on(storage, pipeline(), after)

    assert [trial.params["prep.size"] for trial in history.ended] == [4] * 4
    assert history.stages.costs[:, 1].tolist() == [1.0] * 4
    assert all(cost != cost for cost in history.stages.costs[:, 0])
    run(tuner, 3)
    assert tuner.spent == 4 * 1.0 + 3 * 3.0 - 2.0 * sum(
        t.user_attrs["memoized"][0] for t in tuner.study.trials[4:]
    )


@pytest.mark.parametrize("after", [pipeline(lr=Float(1e-3, 1.0, log=True)), pipeline(lr=Int(0, 1))])
def test_what_a_storage_cannot_hold_together_is_refused(storage, after):
    with pytest.raises(StudyMismatchError, match="cannot hold together"):
        went_on(storage, pipeline(), after)


def test_a_stage_less_is_refused(storage):
    run(Tuner(pipeline(more=[prep]), storage=storage, seed=0), 2)
    with pytest.raises(StudyMismatchError, match="belongs to another pipeline") as refused:
        Tuner(pipeline(), storage=storage, seed=0)
    assert "adopt" not in str(refused.value)
    with pytest.raises(StudyMismatchError, match="cannot be compared"):
        Tuner(pipeline(), storage=storage, seed=0, on_change="adopt")


def test_trials_from_elsewhere_cost_nothing(storage):
    other = run(Tuner(pipeline(), seed=0), 20)
    tuner = Tuner(pipeline(), budget=3.0, storage=storage, seed=1, n_initial=2)
    tuner.study.add_trials(other.trials)
    assert tuner.spent == 0.0

    study = run(tuner, None)

    assert len(study.trials) == 23
    assert tuner.spent == 3.0
    assert len(History.of(study, pipeline())) == 23


def added(params, space, **attrs):
    return create_trial(params=params, distributions=space, value=0.5, user_attrs=attrs)


def test_trials_from_elsewhere_that_do_not_fit_are_left_out(caplog):
    own = pipeline(extra=Categorical(["a", "b"]))
    study = optuna.create_study(study_name="s", storage=optuna.storages.InMemoryStorage())
    wide = {"fit.lr": Float(0.0, 9.0), "fit.extra": Categorical(["a", "z"])}
    study.add_trials(
        [
            added({"fit.lr": 0.5, "fit.extra": "a"}, wide),
            added({"fit.lr": 0.5, "fit.extra": "z"}, wide),
            added({"fit.lr": 4.0, "fit.extra": "a"}, wide),
            added({"fit.lr": 0.5}, {"fit.lr": wide["fit.lr"]}),
        ]
    )

    history = History.of(study, own)

    assert [t.number for t in history.ended] == [0]
    assert [why.split(" lies")[0] for _, why in history.left_out] == [
        "fit.extra",
        "fit.lr",
        "fit.extra is missing",
    ]


def test_what_to_do_about_a_change_is_checked():
    with pytest.raises(ConfigurationError, match="on_change must be"):
        Tuner(pipeline(), on_change="ignore")


# --- Alternatives that came later


def adding(name, default=None):
    def add(data, *, x=0.5):
        return data + x

    def must(data, *, x):
        return data + x

    function = must if default is None else add
    return stage(function, name=name, space={"x": Float(0.0, 1.0)}, cost=lambda x: 1.0, version="1")


def joined(*middle):
    return Pipeline([adding("prep"), *middle, adding("score")], name="p")


CHAIN = [adding("fit")]
BOTH = OneOf("model", [adding("fit"), adding("net")])


@pytest.mark.parametrize(
    ("before", "after", "chosen"),
    [
        (CHAIN, [Optional(adding("fit"))], {"fit": "fit"}),
        (CHAIN, [adding("fit"), Optional(adding("scale"))], {"scale": "nothing"}),
        (CHAIN, [OneOf("model", [adding("net"), adding("fit")])], {"model": "fit"}),
        (CHAIN, [OneOf("m", [adding("net"), OneOf("n", [*CHAIN, adding("x")])])], {"n": "fit"}),
        ([BOTH], [Optional(adding("scale", default=0.5)), BOTH], {"scale": "nothing"}),
    ],
)
def test_old_trials_have_chosen_what_was_there(before, after, chosen):
    storage = optuna.storages.InMemoryStorage()
    tuner = Tuner(joined(*before), storage=storage, seed=0)
    tuner.run(0.0, max_trials=4, progress=False)
    with pytest.raises(StudyMismatchError, match="adopt"):
        Tuner(joined(*after), storage=storage)
    best = tuner.study.best_trial

    tuner = Tuner(joined(*after), storage=storage, seed=0, n_initial=6, on_change="adopt")
    history = History.of(tuner.study, tuner.pipeline)

    assert (len(history), history.left_out) == (4, ())
    for trial in history.ended:
        assert {name: trial.params[name] for name in chosen} == chosen
    run = tuner.best_run(0.0)
    assert (run.value, run.outputs["score"]) == (best.value, pytest.approx(best.value))
    known = dict(zip(joined(*before).stage_names, best.user_attrs["stage_costs"], strict=True))
    assert run.stage_costs == [known.get(name) for name in tuner.pipeline.stage_names]
    assert len(tuner.run(0.0, max_trials=2, progress=False).trials) == 6
    Tuner(joined(*after), storage=storage)  # now these are its places


def test_an_alternative_more(storage):
    more = OneOf("model", [adding("fit"), adding("net"), adding("tree")])
    Tuner(joined(BOTH), storage=storage, seed=0).run(0.0, max_trials=4, progress=False)

    tuner = Tuner(joined(more), storage=storage, seed=0, n_initial=6, on_change="adopt")
    best = tuner.best_run(0.0)
    tuner.enqueue({"tree.x": 0.25})
    study = tuner.run(0.0, max_trials=3, progress=False)

    assert best.value == max(trial.value for trial in study.trials[:4])
    assert len(History.of(study, tuner.pipeline)) == 7
    assert study.trials[4].params.items() >= {"model": "tree", "tree.x": 0.25}.items()
    assert {len(trial.user_attrs["stage_costs"]) for trial in study.trials} == {4, 5}


@pytest.mark.parametrize(
    ("before", "after", "place", "kept"),
    [
        (OneOf("model", [*CHAIN, adding("net"), adding("tree")]), [BOTH], "model", ("fit", "net")),
        (BOTH, CHAIN, "model", ("fit",)),
        (Optional(adding("fit")), [], "fit", ("nothing",)),
        (
            OneOf("model", [*CHAIN, OneOf("n", [adding("net"), adding("tree")])]),
            CHAIN,
            "model",
            ("fit",),
        ),
    ],
)
def test_an_alternative_less(storage, before, after, place, kept):
    first = Tuner(joined(before), storage=storage, seed=0, method="random")
    first.run(0.0, max_trials=9, progress=False)

    tuner = Tuner(joined(*after), storage=storage, seed=0, n_initial=12, on_change="adopt")
    history = History.of(tuner.study, tuner.pipeline)

    counts = [trial.number for trial in first.study.trials if trial.params[place] in kept]
    assert 0 < len(counts) < 9
    assert [trial.number for trial in history.ended] == counts
    assert not np.isnan(history.stages.total_costs).any()
    assert tuner.best_run(0.0).value == max(first.study.trials[k].value for k in counts)
    assert len(tuner.run(0.0, max_trials=2, progress=False).trials) == 11


def test_trials_without_a_stage_do_not_count_when_it_must_run(storage):
    tuner = Tuner(joined(Optional(adding("fit"))), storage=storage, seed=0, method="random")
    study = tuner.run(0.0, max_trials=8, progress=False)
    with_it = [trial.number for trial in study.trials if trial.params["fit"] == "fit"]
    assert 0 < len(with_it) < 8

    tuner = Tuner(joined(adding("fit")), storage=storage, seed=0, on_change="adopt")
    history = History.of(tuner.study, tuner.pipeline)

    assert [trial.number for trial in history.ended] == with_it
    assert {why for _, why in history.left_out} == {"fit is gone"}
    assert tuner.best_run(0.0).value == max(study.trials[k].value for k in with_it)


def test_the_best_run_is_of_a_trial_that_fits():
    storage = optuna.storages.InMemoryStorage()
    wide = run(Tuner(pipeline(), storage=storage, seed=0), 8)
    narrow = pipeline(lr=Float(0.5, 1.0))

    tuner = Tuner(narrow, storage=storage, seed=0, on_change="adopt")

    fits = [trial.value for trial in wide.trials if trial.params["fit.lr"] >= 0.5]
    assert tuner.best_run().value == max(fits) < wide.best_value


def test_the_best_run_of_a_pipeline_that_nothing_fits():
    storage = optuna.storages.InMemoryStorage()
    run(Tuner(pipeline(), storage=storage, seed=0), 2)
    far = pipeline(lr=Float(5.0, 6.0))

    tuner = Tuner(far, storage=storage, seed=0, on_change="adopt")

    with pytest.raises(ConfigurationError, match="fits the pipeline as it is now"):
        tuner.best_run()


def test_the_best_run_of_trials_with_fewer_stages_and_parameters():
    storage = optuna.storages.InMemoryStorage()
    study = run(Tuner(pipeline(), storage=storage, seed=0), 4)

    tuner = Tuner(pipeline(more=[prep], extra=Float(0.0, 1.0)), storage=storage, on_change="adopt")
    best = tuner.best_run()

    assert best.value == study.best_value
    assert best.stage_costs == [None, 1.0]
    assert best.outputs["prep"] == 4  # runs now


def test_the_best_run_of_a_trial_with_a_parameter_that_is_gone():
    storage = optuna.storages.InMemoryStorage()
    study = run(Tuner(pipeline(extra=Float(0.0, 1.0, step=0.5)), storage=storage, seed=0), 9)
    fits = [trial.value for trial in study.trials if trial.params["fit.extra"] == 0.5]

    tuner = Tuner(pipeline(), storage=storage, seed=0, on_change="adopt")

    assert tuner.best_run().value == max(fits)


def test_a_change_of_what_stages_get_is_told():
    storage = optuna.storages.InMemoryStorage()

    def tune(order):
        both = stage(
            lambda a, b: a - b, name="both", inputs=order, version="1", cost=lambda: 1.0, space={}
        )
        return Tuner(Pipeline([adding("fit"), both], name="p"), storage=storage, seed=0)

    tune(("fit", INPUTS)).run(0.0, max_trials=1, progress=False)
    with pytest.warns(UserWarning, match=r"what goes into the stages \['both'\] has changed"):
        tune((INPUTS, "fit")).run(0.0, max_trials=1, progress=False)


def test_a_study_that_does_not_remember_its_places_goes_on():
    """Those of earlier versions do not; trials may not have come to a place inside of another."""
    storage = optuna.storages.InMemoryStorage()
    inner = OneOf("inner", [adding("net"), adding("tree")])
    both = joined(OneOf("model", [adding("fit"), inner]))
    tuner = Tuner(both, storage=storage, seed=0)
    tuner.enqueue({"model": "fit"})
    study = tuner.run(0.0, max_trials=1, progress=False)
    del storage._studies[study._study_id].user_attrs["eeipu:places"]

    again = Tuner(both, storage=storage, seed=0)

    assert again.study.user_attrs["eeipu:places"]["inner"] == ["net", "tree"]
    assert len(History.of(again.study, both)) == 1
