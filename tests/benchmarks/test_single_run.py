"""One run of a benchmark, and how it goes on after it was killed."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from benchmark_toys import CALLS, TOY, options, problem
from toys import Toy

from eeipu import StageCache
from eeipu.benchmarks.problem import Problem
from eeipu.benchmarks.registry import REGISTRY, Entry
from eeipu.benchmarks.runs import single_run as runs
from eeipu.benchmarks.runs.results import read, write
from eeipu.benchmarks.runs.single_run import run, run_to_file
from eeipu.errors import PipelineError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


def test_contenders_share_budget_and_warm_up():
    found = [
        run(options(text, budget=32.0)) for text in ("random", "random+cache", "tpe", "eeipu+cache")
    ]

    assert {each.problem["budget"] for each in found} == {32.0}
    assert len({each.start for each in found}) == 1
    points = [[trial["params"] for trial in each.trials[:3]] for each in found]
    assert all(each == points[0] for each in points)
    assert [t["warm_up"] for t in found[0].trials] == [True] * 3 + [False] * (
        len(found[0].trials) - 3
    )
    # Without reuse every trial costs 6.5.
    assert found[0].candidates == found[2].candidates == 5
    assert found[3].candidates > 5


def test_warm_up_is_charged():
    each = run(options())
    assert [trial["spent"] for trial in each.trials[:3]] == [6.5, 13.0, 19.5]
    assert each.trials[-1]["spent"] >= 60.0 > each.trials[-2]["spent"]


def test_another_seed_is_another_warm_up():
    assert run(options(seed=0)).start != run(options(seed=1)).start


@pytest.mark.parametrize(
    ("changes", "budget"),
    [({"budget": 40.0}, 40.0), ({"budget_factor": 2.0}, 39.0), ({"cost": "measured"}, 58.5)],
)
def test_the_budget_is_the_user_s_the_problem_s_or_a_multiple_of_the_warm_up(changes, budget):
    assert run(options(**changes)).problem["budget"] == pytest.approx(budget)


@pytest.mark.parametrize("text", ["eeipu+cache", "eeipu+cache+design=prefix-sharing"])
def test_who_chooses_its_warm_up_starts_from_the_same_value(text):
    same = run(options("eeipu+cache", budget=25.0))
    own = run(options(text, budget=25.0, own_warm_up="design" not in text))

    assert own.start == same.start
    first_three = [[trial["params"] for trial in each.trials[:3]] for each in (own, same)]
    assert first_three[0] != first_three[1]
    # A warm-up that shares prefixes gets its first stage for nothing at times.
    assert any(trial["memoized"][0] for trial in own.trials[:3])


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("eeipu+cache+n-initial=2", {}, 2),
        ("eeipu+cache+n-initial=usual", {}, 10),
        ("eeipu+cache", {"own_warm_up": True}, 10),
        ("eeipu+cache", {"own_warm_up": True, "n_initial": 4}, 4),
        ("eeipu+cache", {}, 3),  # the problem's
    ],
)
def test_the_length_of_a_warm_up(text, changes, expected):
    each = run(options(text, budget=60.0, **changes))

    assert sum(trial["warm_up"] for trial in each.trials) == expected
    assert each.problem["n_initial"] == expected


def test_who_has_no_warm_up_chooses_from_the_first_trial_on():
    own = run(options("random-grid", own_warm_up=True))
    given = run(options("random-grid"))
    assert [trial["warm_up"] for trial in own.trials[:3]] == [False] * 3
    assert [trial["warm_up"] for trial in given.trials[:3]] == [True] * 3


def test_minimising_improves_downwards(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", Entry("toys", "benchmark_toys:minimized", ""))
    each = run(options())
    values = [trial["value"] for trial in each.trials]
    assert each.start == min(values[:3])
    assert each.improvement == pytest.approx(each.start - min(values))


def test_a_problem_that_fails_from_the_start_is_an_error(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", Entry("toys", "benchmark_toys:broken", ""))
    with pytest.raises(PipelineError, match=r"none of 3 warm-up trials(?s:.*)broken on purpose"):
        run(options())


def test_failed_trials_are_kept_with_their_error(monkeypatch):
    def fail_at_times(name, params):
        if name == "fit" and params["y"] > 0.7:
            raise ValueError("too large")

    monkeypatch.setattr(
        runs,
        "load",
        lambda *_, **__: problem("cpu", cost="declared", seed=0, on_call=fail_at_times),
    )
    each = run(options())

    failed = [trial for trial in each.trials if trial["value"] is None]
    assert failed
    assert all("too large" in trial["error"] for trial in failed)
    assert {trial["failed_stage"] for trial in failed} == {"fit"}
    assert each.candidates == len(each.trials) - len(failed)


def test_a_result_that_is_there_is_not_made_again(tmp_path):
    path = run_to_file(options(), tmp_path)
    calls = CALLS.copy()
    assert run_to_file(options(), tmp_path) == path
    assert calls == CALLS
    run_to_file(options(), tmp_path, again=True)
    assert calls != CALLS


def test_other_options_have_other_files(tmp_path):
    paths = {
        options(**changes).path(tmp_path)
        for changes in ({}, {"seed": 1}, {"budget": 3.0}, {"preset": "cpu"}, {"n_initial": 4})
    }
    assert len(paths) == 5


class Killed(BaseException):
    pass


def load_toy(on_call):
    made = Toy(on_call).pipeline
    return lambda *_, **__: Problem("toy", made, (0.0,), "maximize", 3, 60.0)


MEASURED = {"cost": "measured", "budget": 60.0}


def kill_in_the_fifth_trial(monkeypatch, asked, out):
    begun = []

    def die(name, params):
        begun.append(name)
        if begun.count("prep") == 5 and name == "fit":
            raise Killed

    monkeypatch.setattr(runs, "load", load_toy(die))
    with pytest.raises(Killed):
        run_to_file(asked, out)
    assert not asked.path(out).exists()


def test_a_measured_run_that_was_killed_goes_on_after_its_last_trial(tmp_path, monkeypatch):
    asked = options("random+cache", **MEASURED)
    kill_in_the_fifth_trial(monkeypatch, asked, tmp_path)
    (lines,) = tmp_path.rglob("trials.jsonl")
    with lines.open("a") as file:
        file.write('{"state": "COMP')  # killed in the middle of a line

    after = []
    monkeypatch.setattr(runs, "load", load_toy(lambda name, params: after.append(name)))
    each = read(run_to_file(asked, tmp_path))

    assert after.count("fit") == each.candidates - 4
    whole = run(options("random+cache"))
    columns = ("number", "state", "warm_up", "value", "spent", "stage_costs", "memoized", "params")
    assert [[trial[c] for c in columns] for trial in each.trials] == [
        [trial[c] for c in columns] for trial in whole.trials
    ]
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_run_that_was_killed_twice_goes_on_after_the_second_time(tmp_path, monkeypatch):
    begun = []

    def die(name, params):
        begun.append(name)
        if begun.count("score") in (3, 6) and name == "score":
            raise Killed

    monkeypatch.setattr(runs, "load", load_toy(die))
    for _ in range(2):
        with pytest.raises(Killed):
            run_to_file(options("random", **MEASURED), tmp_path)
        (lines,) = tmp_path.rglob("trials.jsonl")
        with lines.open("a") as file:
            file.write('{"sta')

    assert read(run_to_file(options("random", **MEASURED), tmp_path)).candidates == 10


@pytest.mark.parametrize("stage", ["fit", "score"])
def test_a_run_that_ctrl_c_ended_is_not_complete(tmp_path, monkeypatch, caplog, stage):
    def press(name, params):
        if name == stage:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs, "load", load_toy(press))
    with pytest.raises(KeyboardInterrupt):
        run_to_file(options(), tmp_path)
    assert not options().path(tmp_path).exists()
    assert "stopped by Ctrl-C" not in caplog.text  # the command line says how to go on

    monkeypatch.setattr(runs, "load", load_toy(None))
    assert read(run_to_file(options(), tmp_path)).candidates == 10


def test_a_warm_up_that_ctrl_c_ended_is_not_complete(tmp_path, monkeypatch, caplog):
    def press(name, params):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs, "load", load_toy(press))
    with pytest.raises(KeyboardInterrupt):
        run_to_file(options(budget_factor=2.0), tmp_path)
    assert not list(tmp_path.rglob("warm-up*"))
    assert "stopped by Ctrl-C" not in caplog.text


def test_a_budget_that_ends_within_the_warm_up_ends_the_run():
    each = run(options(budget=10.0))
    assert [trial["warm_up"] for trial in each.trials] == [True, True]


@pytest.mark.parametrize("contender", ["eeipu+cache", "ei", "tpe", "gp"])
def test_a_declared_run_that_was_killed_ends_as_if_nothing_had_happened(
    contender, tmp_path, monkeypatch
):
    asked = options(contender, budget=36.0)
    kill_in_the_fifth_trial(monkeypatch, asked, tmp_path)
    after = []
    monkeypatch.setattr(runs, "load", load_toy(lambda name, params: after.append(name)))
    each = read(run_to_file(asked, tmp_path))

    executed = [trial for trial in each.trials if trial["stage_costs"][0] is not None]
    assert after.count("prep") == len(executed) - 5  # one was cut off behind it
    columns = ("value", "spent", "stage_costs", "memoized", "params")
    assert [[trial[c] for c in columns] for trial in each.trials] == [
        [trial[c] for c in columns] for trial in run(asked).trials
    ]


def test_a_run_again_is_a_run_from_the_beginning(tmp_path, monkeypatch):
    begun = []

    def die(name, params):
        begun.append(name)
        if len(begun) == 7:
            raise Killed

    asked = options("random", **MEASURED)
    monkeypatch.setattr(runs, "load", load_toy(die))
    with pytest.raises(Killed):
        run_to_file(asked, tmp_path)
    after = []
    monkeypatch.setattr(runs, "load", load_toy(lambda name, params: after.append(name)))
    each = read(run_to_file(asked, tmp_path, again=True))
    assert after.count("prep") == len(each.trials)


def test_a_measured_run_waits_for_whoever_makes_it(tmp_path, monkeypatch):
    asked = options("random", **MEASURED)
    path = asked.path(tmp_path)
    claims = StageCache(path.with_suffix(".unfinished") / "claims").holders
    calls = []
    monkeypatch.setattr(runs, "load", load_toy(lambda name, params: calls.append(name)))
    with ThreadPoolExecutor(1) as pool:
        with claims.claim(runs.RUN):
            waiting = pool.submit(run_to_file, asked, tmp_path)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
            write(path, run(asked))  # what the other process does
            calls.clear()
        assert waiting.result(timeout=60) == path
    assert not calls


def test_a_warm_up_of_none_has_no_trials():
    each = run(options("eeipu+design=none", budget=30.0))
    assert not any(trial["warm_up"] for trial in each.trials)
