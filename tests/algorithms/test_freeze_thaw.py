"""The search by a model of learning curves: what it takes up, asks for and gives up."""

from itertools import count

import pytest

from eeipu import Float, FreezeThaw
from eeipu.algorithms.early_stopping import Setting
from eeipu.algorithms.moves import Ask, OtherTrial, Stop
from eeipu.errors import ConfigurationError
from eeipu.methods.freeze_thaw.choice import CurveSearch
from eeipu.methods.freeze_thaw.trials import Choice
from eeipu.space import Space


class Known:
    """A tuner whose method does not learn, and which may have trials of earlier runs."""

    space = Space({"train.lr": Float(0.0, 1.0)})
    columns = ((0,),)
    trained = 0
    takes_orders = False

    def __init__(self, earlier=()):
        self._earlier = list(earlier)
        self.begun = 0

    @property
    def earlier(self):
        return max(0, len(self._earlier) - self.begun)

    def configs(self, most):
        for k in count():
            if self.begun >= most + len(self._earlier):
                return
            self.begun += 1
            yield {"train.lr": (0.5 + 0.61 * k) % 1.0}

    def values(self, trial):
        return self._earlier[trial] if trial < len(self._earlier) else {}

    def has_failed(self, trial):
        return trial < len(self._earlier) and self._earlier[trial] == {}

    def costs(self, trial):
        return [1.0]

    def made(self, params):
        return 0, 0

    def remaining(self):
        return float("inf")


def algorithm(known, most=6, concurrency=2):
    configs = known.configs(most)
    setting = Setting(configs, 9, concurrency, {}, 0, bool, known)
    return FreezeThaw(reduction=3).algorithm(setting)


def play(search, value=lambda config, step: config["train.lr"] - 0.5 / step):
    asked, reached, stopped = list(search.start()), {}, []
    while asked:
        move = asked.pop(0)
        if isinstance(move, Stop):
            stopped.append(move.trial)
            continue
        reached.setdefault(move.trial, []).append(move.step)
        assert len(reached) < 50
        asked += search.tell(move.trial, move.step, value(move.config, move.step))
    return reached, stopped


def test_it_ends_once_nothing_may_begin_and_nothing_is_worth_going_on_with():
    reached, stopped = play(algorithm(Known()))
    assert len(reached) == 6
    assert any(steps[-1] == 9 for steps in reached.values())
    assert all(steps == sorted(set(steps)) for steps in reached.values())
    assert stopped == list(range(6))


def test_as_many_trials_run_as_there_are_workers():
    search = algorithm(Known(), concurrency=3)
    first = search.start()
    assert [type(move) for move in first] == [Ask] * 3
    assert [move.step for move in first] == [1, 1, 1]


def test_trials_of_earlier_runs_are_known_before_anything_is_asked():
    earlier = [{1: 0.0, 3: 0.3, 9: 0.4}, {1: 0.6}, {}]
    known = Known(earlier)
    reached, _ = play(algorithm(known, most=2, concurrency=1))
    assert 0 not in reached  # it has come to its end
    assert 2 not in reached  # it has failed
    assert all(step > 1 for step in reached.get(1, [9]))
    assert len(reached.keys() - {0, 1, 2}) == 2


def test_a_trial_that_fails_is_not_asked_for_again():
    def fails(config, step):
        return None if config["train.lr"] > 0.9 else config["train.lr"] - 0.5 / step

    reached, _ = play(algorithm(Known(), most=8), fails)
    assert len(reached) == 8


def test_steps_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="min_steps"):
        FreezeThaw(min_steps=10).algorithm(Setting(iter([]), 9, 1, {}, 0, bool))


def test_the_trials_of_other_processes_teach_the_model_and_are_not_gone_on_with():
    known = Known()
    elsewhere = [
        OtherTrial(k, {"train.lr": k / 10}, {1: k / 10 - 0.5, 3: k / 10 - 0.17, 9: k / 10})
        for k in range(8)
    ]
    batches = iter([[(None, each) for each in elsewhere], [(elsewhere[0], None)]])
    setting = Setting(known.configs(4), 9, 1, {}, 0, bool, known, lambda: next(batches, ()))
    reached, stopped = play(FreezeThaw(reduction=3).algorithm(setting))
    assert set(reached) <= set(range(4))
    assert sorted(stopped) == sorted(reached)


def test_a_quarter_of_the_training_goes_by_rank_whatever_the_model_says(monkeypatch):
    # This model only begins trials, and would never see where one of them ends.
    always = lambda self, trials, *, may_begin, **_: Choice(None, None, 1) if may_begin else None  # noqa: E731
    monkeypatch.setattr(CurveSearch, "choose", always)
    known = Known()
    reached, _ = play(algorithm(known, most=40, concurrency=1))
    went_on = {trial: steps for trial, steps in reached.items() if len(steps) > 1}
    by_rank = sum(steps[-1] - 1 for steps in went_on.values())
    trained = sum(steps[-1] for steps in reached.values())
    assert by_rank == pytest.approx(trained / 4, abs=6)  # the last step up is six steps long
    assert any(steps == [1, 3, 9] for steps in went_on.values())
    rates = [config["train.lr"] for config in Known().configs(40)]
    median = sorted(rates[trial] for trial in reached)[len(reached) // 2]
    assert all(rates[trial] > median for trial in went_on)


def test_the_best_go_on_by_rank_beside_the_trials_of_other_processes(monkeypatch):
    monkeypatch.setattr(CurveSearch, "choose", lambda *_, **__: None)
    elsewhere = [OtherTrial(k, {"train.lr": 1.0}, {1: 10.0}) for k in range(8)]
    known = Known()
    batches = iter([[(None, each) for each in elsewhere]])
    setting = Setting(known.configs(4), 9, 1, {}, 0, bool, known, lambda: next(batches, ()))
    reached, _ = play(FreezeThaw(reduction=3).algorithm(setting))
    assert all(steps == [1] for steps in reached.values())  # all of them are behind the others
