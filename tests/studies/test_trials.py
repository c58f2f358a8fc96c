"""How trials begin and end."""

from itertools import pairwise

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from toys import Toy, config, declared

from eeipu.cache import StageCache
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import SpaceExhausted
from eeipu.methods.history import History
from eeipu.sampler import EEIPUSampler
from eeipu.space import Int, suggest
from eeipu.studies.drivers.dead_drivers import enqueue_again
from eeipu.studies.drivers.driver_queue import begun
from eeipu.studies.storages import open_storage
from eeipu.studies.trials import Trials
from eeipu.tuner import Tuner


def driver_name():
    return str(ProcessIdentity.here())


def trials_of(pipeline, *, sampler=None, top_q=2, callbacks=()):
    study = optuna.create_study(direction="maximize", sampler=sampler or RandomSampler(seed=0))
    return Trials(study, pipeline, top_q=top_q, callbacks=callbacks)


def test_a_trial_begins_with_a_configuration_its_driver_and_what_choosing_took():
    trials = trials_of(declared())
    trial, params = trials.begin(frozenset(), "host:1:1.0")

    assert trial.params == params
    assert list(params) == ["prep.x", "fit.y"]
    assert trial.user_attrs["driver"] == "host:1:1.0"
    assert trial.user_attrs["suggest_s"] > 0.0


def test_only_drivers_are_recorded():
    trial, _ = trials_of(declared()).begin(frozenset())

    assert "driver" not in trial.user_attrs


def test_the_sampler_learns_what_is_kept():
    sampler = EEIPUSampler(declared(), budget=1.0, seed=0)
    kept = frozenset({"key"})
    trials_of(declared(), sampler=sampler).begin(kept)

    assert sampler._kept is kept


def test_a_trial_ends_with_a_value_or_as_failed():
    seen = []
    trials = trials_of(
        declared(), callbacks=(lambda study, trial: seen.append((study, trial.state.name)),)
    )
    for value in (1.0, None):
        trial, _ = trials.begin(frozenset())
        trials.end(trial, value)

    assert [trial.value for trial in trials.study.trials] == [1.0, None]
    assert seen == [(trials.study, "COMPLETE"), (trials.study, "FAIL")]


def test_an_interrupted_trial_is_the_next_to_begin():
    trials = trials_of(declared())
    trial, params = trials.begin(frozenset())
    trials.interrupt(trial)

    assert trials.begin(frozenset())[1] == params
    assert [trial.state.name for trial in trials.study.trials] == ["FAIL", "RUNNING"]


def test_an_interrupted_trial_teaches_nothing():
    trials = trials_of(declared())
    trials.interrupt(trials.begin(frozenset())[0])

    assert len(History.of(trials.study, declared())) == 0


def test_interruption_while_a_configuration_is_chosen_closes_the_trial():
    class Interrupted(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            if name == "fit.y":
                raise KeyboardInterrupt
            return super().sample_independent(study, trial, name, distribution)

    trials = trials_of(declared(), sampler=Interrupted())

    with pytest.raises(KeyboardInterrupt):
        trials.begin(frozenset())
    assert [trial.state.name for trial in trials.study.trials] == ["FAIL"]


def test_a_space_without_anything_left_begins_no_trial():
    trials = trials_of(declared(x=Int(1, 1), y=Int(1, 2)))
    trials.begin(frozenset())
    trial, _ = trials.begin(frozenset())
    while trial.params == trials.study.trials[0].params:  # Optuna's samplers repeat themselves
        trial, _ = trials.begin(frozenset())
    count = len(trials.study.trials)

    with pytest.raises(SpaceExhausted, match="all 2 configurations of 'prep -> fit -> score'"):
        trials.begin(frozenset())
    assert len(trials.study.trials) == count


def test_the_keys_to_go_on_with_are_those_of_the_best_trials_memoized_stages():
    pipeline = Toy().pipeline  # its last stage may not be memoized
    trials = trials_of(pipeline, top_q=2)
    keys = {}
    for value in (1.0, 3.0, None, 2.0):
        trials.study.enqueue_trial(config(x=(value or 0.0) / 4))
        trial, params = trials.begin(frozenset())
        keys[value] = [call.key for call in pipeline.calls(params)]
        trial.set_user_attr("stage_keys", keys[value])
        trials.end(trial, value)

    assert trials.keys_to_go_on_with() == {*keys[3.0][:2], *keys[2.0][:2]}


def test_trials_without_keys_keep_nothing():
    trials = trials_of(declared())
    trial, _ = trials.begin(frozenset())
    trials.end(trial, 1.0)

    assert trials.keys_to_go_on_with() == set()


def test_a_method_that_stays_in_a_region_finds_the_outputs_that_it_stays_behind():
    pipeline = Toy().pipeline
    tuner = Tuner(
        pipeline,
        budget=1e9,
        method="lambo",
        cache=StageCache(),
        top_q=1,
        n_initial=4,
        seed=0,
    )
    trials = tuner.run(0.0, max_trials=24, progress=False).trials[4:]

    stayed = [
        trial.user_attrs["memoized"][0]
        for last, trial in pairwise(trials)
        if last.params["prep.x"] == trial.params["prep.x"]
    ]
    assert len(stayed) > 5
    assert all(stayed)


@pytest.fixture
def stored(tmp_path):
    """Two drivers' views of one study."""
    pipeline = declared(x=Int(0, 1), y=Int(0, 0))
    views = []
    for _ in range(2):
        storage = open_storage(f"sqlite:///{tmp_path}/tune.db")
        study = optuna.create_study(
            storage=storage,
            study_name="s",
            direction="maximize",
            load_if_exists=True,
            sampler=EEIPUSampler(pipeline, budget=10.0, seed=0),
        )
        views.append(Trials(study, pipeline, top_q=2))
    yield views
    for trials in views:
        trials.study._storage._backend.engine.dispose()


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("price", [None, 1e-9])
def test_a_driver_alone_reads_its_study_once_a_suggestion(is_stored, price, tmp_path, monkeypatch):
    pipeline = declared()
    storage = open_storage(f"sqlite:///{tmp_path}/tune.db") if is_stored else None
    sampler = EEIPUSampler(pipeline, budget=100.0, n_initial=2, seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler, direction="maximize")
    trials = Trials(study, pipeline, top_q=2, price=price)
    for value in (1.0, 3.0, 2.0):
        trial, _ = trials.begin(frozenset(), driver_name())
        trial.set_user_attr("stage_costs", [1.0, 1.0, 1.0])
        trials.end(trial, value)
    trials.begin(frozenset(), driver_name())  # and still runs

    reads = []
    get_all_trials = study._storage.get_all_trials
    monkeypatch.setattr(
        study._storage,
        "get_all_trials",
        lambda *args, **kw: reads.append(kw.get("states")) or get_all_trials(*args, **kw),
    )
    trials.begin(frozenset(), driver_name())

    # Optuna itself looks for enqueued trials.
    assert reads == [None, (TrialState.WAITING,)]
    if is_stored:
        study._storage._backend.engine.dispose()


def test_a_caller_who_asks_reads_the_study_once_and_learns_what_to_keep(monkeypatch):
    sampler = EEIPUSampler(declared(), budget=100.0, n_initial=2, seed=0)
    trials = trials_of(declared(), sampler=sampler, top_q=1)
    for value in (1.0, 3.0):
        trial, _, _ = trials.begin_for_caller(keeps_best=True)
        trial.set_user_attr("stage_keys", [f"{value}", f"{value}-", f"{value}--"])
        trials.end(trial, value)

    reads, get_trials = [], trials.study.get_trials
    monkeypatch.setattr(
        trials.study, "get_trials", lambda **kw: reads.append(1) or get_trials(**kw)
    )
    _, _, kept = trials.begin_for_caller(keeps_best=True)

    assert kept == {"3.0", "3.0-", "3.0--"}
    assert len(reads) == 1
    assert trials.begin_for_caller(keeps_best=False)[2] is None


def test_a_driver_reads_again_what_others_chose_before_its_turn(stored, monkeypatch):
    """The only configuration that is left is not chosen twice."""
    first, second = stored
    choosing = begun(first.study, {})
    choosing.set_user_attr("driver", driver_name())

    def let_it_choose(study, number, names):
        suggest(choosing, first.pipeline.space)
        return 0.0

    monkeypatch.setattr("eeipu.studies.trials.await_turn", let_it_choose)
    _, params = second.begin(frozenset(), driver_name())

    assert {params["prep.x"], choosing.params["prep.x"]} == {0, 1}


def test_what_two_drivers_enqueued_is_begun_once(stored):
    first, second = stored
    for trials in stored:
        params = {"prep.x": 1, "fit.y": 0}
        trials.study.enqueue_trial(params, user_attrs={"warm_up": True})
    begun = [trials.begin(frozenset(), driver_name())[1]["prep.x"] for trials in stored]

    assert begun == [1, 0]
    _, repetition, _ = first.study.trials
    assert repetition.state.name == "FAIL"
    told = {"warm_up": True, "interrupted": True, "repeats": 0}
    assert repetition.user_attrs.items() >= told.items()
    assert len(History.of(second.study, second.pipeline).ended) == 0


def test_what_another_driver_has_begun_and_not_written_is_not_chosen(stored):
    """An enqueued trial runs some time before its parameters are in the storage."""
    first, second = stored
    first.study.enqueue_trial({"prep.x": 1, "fit.y": 0})
    begun(first.study, {"driver": driver_name()})

    assert second.begin(frozenset(), driver_name())[1] == {"prep.x": 0, "fit.y": 0}
    with pytest.raises(SpaceExhausted):
        second.begin(frozenset(), driver_name())


@pytest.mark.parametrize("is_closed_first", [False, True])
def test_what_is_about_to_run_again_is_not_chosen(stored, is_closed_first, monkeypatch):
    """A driver that has begun a trial chooses while another closes one and enqueues it again."""
    first, second = stored
    trial, params = first.begin(frozenset(), driver_name())
    enqueued = []
    if is_closed_first:  # it takes a while to enqueue it
        monkeypatch.setattr("eeipu.studies.trials.enqueue_again", lambda *of: enqueued.append(of))
    monkeypatch.setattr(second, "_is_next", lambda *of: first.interrupt(trial))
    _, others = second.begin(frozenset(), driver_name())
    monkeypatch.undo()
    for of in enqueued:
        enqueue_again(*of)

    assert others["prep.x"] == 1 - params["prep.x"]
    assert first.begin(frozenset(), driver_name())[1] == params


def test_what_is_enqueued_waits_for_the_choices_before_it(stored, monkeypatch):
    """A configuration enqueued while another driver is choosing it does not run twice."""
    first, second = stored
    choosing = begun(first.study, {"driver": driver_name()})
    second.study.enqueue_trial({"prep.x": 1, "fit.y": 0}, user_attrs={"warm_up": True})

    def let_it_choose(study, number, names):
        if not choosing.params:
            with first.study.sampler.knowing(first.history, choosing.number):
                monkeypatch.setattr(
                    first.study.sampler, "sample_relative", lambda *of: {"prep.x": 1, "fit.y": 0}
                )
                suggest(choosing, first.pipeline.space)
        return 0.0

    monkeypatch.setattr("eeipu.studies.trials.await_turn", let_it_choose)
    _, params = second.begin(frozenset(), driver_name())

    assert params == {"prep.x": 0, "fit.y": 0}
    assert second.study.trials[1].user_attrs["repeats"] == choosing.number


def test_what_is_left_may_go_to_another_driver_while_one_waits(stored, monkeypatch):
    first, second = stored
    choosing = begun(first.study, {})
    choosing.set_user_attr("driver", driver_name())

    def let_another_go_first(study, number, names):
        first.study.add_trial(
            optuna.trial.create_trial(
                value=1.0, params={"prep.x": 0, "fit.y": 0}, distributions=first.pipeline.space
            )
        )
        first.study.add_trial(
            optuna.trial.create_trial(
                value=1.0, params={"prep.x": 1, "fit.y": 0}, distributions=first.pipeline.space
            )
        )
        return 0.0

    monkeypatch.setattr("eeipu.studies.trials.await_turn", let_another_go_first)
    with pytest.raises(SpaceExhausted):
        second.begin(frozenset(), driver_name())
    assert second.study.trials[1].state.name == "FAIL"
    assert second.study.trials[1].params == {}


def test_begin_and_end_outside_of_optunas_loop_warn_of_nothing(stored):
    trial, _ = stored[0].begin(frozenset(), driver_name())
    stored[0].end(trial, 1.0)
    assert trial.study.trials[0].value == 1.0


def test_a_trial_that_another_driver_took_over_is_not_enqueued_twice():
    trials = trials_of(declared())
    trial, _ = trials.begin(frozenset(), driver_name())
    trials.study.tell(trial, state=optuna.trial.TrialState.FAIL)
    trials.interrupt(trial)

    assert [each.state.name for each in trials.study.trials] == ["FAIL"]
