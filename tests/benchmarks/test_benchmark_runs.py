"""Runs of the benchmarks, and the files that they leave."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from benchmark_toys import CALLS, TOY, options, problem, result
from toys import Toy

from eeipu import StageCache
from eeipu.benchmarks import registry
from eeipu.benchmarks.options import Options
from eeipu.benchmarks.problem import Problem
from eeipu.benchmarks.registry import GROUPS, REGISTRY, Entry, load, named
from eeipu.benchmarks.results import read, read_all, write
from eeipu.benchmarks.runs import machine
from eeipu.benchmarks.runs import run as runs
from eeipu.benchmarks.runs.campaign import comparison, run_all
from eeipu.benchmarks.runs.run import run, run_to_file
from eeipu.errors import ConfigurationError, MissingExtraError, PipelineError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


# --- the registry


def test_names_of_problems_and_groups_stand_for_problems():
    assert named(["noisy", "stacking"]) == ["noisy", "stacking"]
    assert len(named(["synthetic"])) == 9
    assert set(named(["real"])) == {"stacking", "stacking-by-model", "segmentation", "distillation"}
    assert GROUPS == ("synthetic", "variants", "real")


def test_a_name_that_is_none_is_told():
    with pytest.raises(ConfigurationError, match="'rastrigin' is no problem"):
        named(["rastrigin"])


def test_what_a_problem_lacks_is_told_with_its_extra():
    entry = Entry("real", "eeipu.benchmarks.nowhere:problem", "")
    with pytest.raises(MissingExtraError, match=r"nowhere.*pip install \"eeipu\[benchmarks\]\""):
        entry.builder()


def test_an_error_that_names_its_extra_is_let_through(monkeypatch):
    def missing(module):
        raise MissingExtraError("of its own")

    monkeypatch.setattr(registry, "import_module", missing)
    with pytest.raises(MissingExtraError, match="of its own"):
        TOY["toy"].builder()


def test_data_go_to_problems_that_take_any():
    assert load("toy", "cpu", cost="declared", seed=0, data="mine.csv").name == "toy"
    with pytest.raises(
        ConfigurationError, match=r"'noisy' takes no data of yours, but got 'mine.csv'"
    ):
        load("noisy", "cpu", cost="declared", seed=0, data="mine.csv")


def test_what_cannot_be_loaded_is_told():
    with pytest.raises(ConfigurationError, match="'rastrigin' is no problem"):
        load("rastrigin", "cpu", cost="declared", seed=0)
    with pytest.raises(ConfigurationError, match=r"preset must be one of .* 'huge'"):
        load("noisy", "huge", cost="declared", seed=0)


# --- runs


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
    assert own.trials[0]["params"] != same.trials[0]["params"]
    # A warm-up that shares prefixes gets its first stage for nothing at times.
    assert any(trial["memoized"][0] for trial in own.trials[:3])


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


# --- files


def test_a_result_is_the_same_after_writing_and_reading(tmp_path):
    each = run(options("random-grid+cache"))
    write(tmp_path / "a" / "r.json", each)
    assert read(tmp_path / "a" / "r.json") == each
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["r.json"]


def test_a_file_has_a_line_for_each_trial(tmp_path):
    write(tmp_path / "r.json", result([1.0, None, 3.0]))
    lines = (tmp_path / "r.json").read_text().splitlines()
    trials = [json.loads(line.rstrip(",")) for line in lines if line.startswith('  {"number"')]
    assert [trial["value"] for trial in trials] == [1.0, None, 3.0]
    assert json.loads("\n".join(lines))["options"]["contender"] == "ei"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "options": {}}'])
def test_a_file_that_is_no_result_is_told(tmp_path, text):
    path = tmp_path / "x-seed0-0.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"x-seed0-0\.json' is no result"):
        read_all(tmp_path)


def test_no_results_are_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no results in"):
        read_all(tmp_path)


def test_what_a_result_was_made_with_is_in_it():
    each = run(options())
    assert each.versions["eeipu"]
    assert each.versions["python"].startswith("3.")
    told = {"machine", "system", "processor", "cores", "threads", "memory_gb", "gpu"}
    assert set(each.hardware) == told
    assert each.code == machine.code()


def test_the_threads_of_a_run_are_told(tmp_path):
    each = read(run_to_file(options(), tmp_path, threads=1))
    assert each.hardware["threads"] == 1


def test_the_code_that_made_a_result_is_all_of_eeipu(monkeypatch, tmp_path):
    (tmp_path / "benchmarks" / "runs").mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "benchmarks" / "runs" / "machine.py"))
    before, stages = machine.code(), machine.code_of_stages()
    (tmp_path / "search.py").write_text("better")
    assert machine.code() != before
    assert machine.code_of_stages() == stages


def test_a_file_that_does_not_name_its_code_is_read(tmp_path):
    path = run_to_file(options(), tmp_path)
    content = json.loads(path.read_text())
    del content["code"]
    path.write_text(json.dumps(content))
    assert read(path).code == ""


def test_packages_that_are_not_installed_have_no_version(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    assert set(machine.versions()) == {"python", "numpy"}


def test_the_processor_is_named_where_the_system_tells(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor : 0\nmodel name : Abacus 3\n")
    assert machine._processor(told) == "Abacus 3"
    told.write_text("processor : 0\n")
    other = machine._processor(tmp_path / "none")
    assert machine._processor(told) == other


def test_a_gpu_is_named_where_there_is_one(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "G 1")
    assert machine._gpu() == "G 1"


# --- what is there already, and what was left unfinished


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


# --- many runs


def test_a_comparison_is_seed_by_seed_with_each_contender_once():
    names = ["ei", "eeipu+top-q=1+cache", "eeipu+cache+top-q=1"]
    found = comparison(["toy"], names, range(2), preset="smoke", n_initial=3)
    assert [(each.contender, each.seed) for each in found] == [
        ("ei", 0),
        ("eeipu+cache+top-q=1", 0),
        ("ei", 1),
        ("eeipu+cache+top-q=1", 1),
    ]
    assert {each.setting for each in found} == {
        Options("toy", "smoke", "measured", "ei", 0, n_initial=3).setting
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"problems": ["rastrigin"]}, "'rastrigin' is no problem"),
        ({"methods": ["anneal"]}, "no method 'anneal'"),
        ({"seeds": [0, -1]}, "a seed must be 0 to 4294967295, but one is -1"),
        ({"n_initial": 1}, "n_initial must be 2 or more, but got 1"),
        ({"budget": 0.0}, "budget must be positive and finite, but got 0.0"),
        ({"budget": 1.0, "budget_factor": 2.0}, "exclude each other"),
    ],
)
def test_what_cannot_be_compared_is_told(changed, message):
    with pytest.raises(ConfigurationError, match=message):
        comparison(**{"problems": ["toy"], "methods": ["ei"], "seeds": [0]} | changed)


def test_a_comparison_is_plain_data_whatever_its_numbers_are(tmp_path):
    (seeded,) = comparison(["toy"], ["ei"], np.array([3, 3]), data=tmp_path)
    assert seeded.path(tmp_path).name.startswith("ei-seed3-")
    assert seeded.data == str(tmp_path)


@pytest.mark.parametrize("count", ["jobs", "threads"])
def test_a_campaign_of_no_processes_is_told(tmp_path, count):
    with pytest.raises(ConfigurationError, match=f"{count} must be 1 or more, but got 0"):
        run_all([options()], tmp_path, **{count: 0})


def test_a_campaign_makes_what_is_missing(tmp_path):
    done = []
    wanted = [options(text, seed) for text in ("random", "random+cache") for seed in (0, 1)]
    run_to_file(wanted[0], tmp_path)

    run_all(wanted, tmp_path, on_done=done.append)

    assert set(done) == {each.path(tmp_path) for each in wanted}
    assert len(read_all(tmp_path)) == 4
    assert not list(tmp_path.rglob("warm-up*"))  # the problem has a budget


def test_contenders_share_a_budget_that_is_measured(tmp_path):
    wanted = [options(text, cost="measured", budget_factor=2.0) for text in ("random", "tpe")]

    run_all(wanted, tmp_path)

    budgets = {each.problem["budget"] for each in read_all(tmp_path)}
    (warm_up,) = tmp_path.rglob("warm-up-0-*.json")
    assert budgets == {2.0 * json.loads(warm_up.read_text())["spent"]}


def test_a_campaign_looks_at_all_contenders_first(tmp_path):
    with pytest.raises(ConfigurationError, match="no method 'anneal'"):
        run_all([options(), options("anneal")], tmp_path)
    assert not CALLS


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    broken = Entry("toys", "benchmark_toys:broken", "", ("measured", "declared"))
    monkeypatch.setitem(REGISTRY, "broken", broken)
    with pytest.raises(PipelineError, match=r"(?s)1 of 2 runs failed.*broken on purpose"):
        run_all([options(problem="broken"), options()], tmp_path)
    assert len(read_all(tmp_path)) == 1


def test_a_run_that_breaks_shows_where(tmp_path, monkeypatch):
    def fall(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(runs, "load", fall)
    with pytest.raises(PipelineError, match=r"(?s)1 of 1 runs failed.*in fall.*a bug"):
        run_all([options()], tmp_path)


@pytest.mark.slow
def test_runs_in_other_processes_give_the_same(tmp_path):
    wanted = [options("random", seed, "cheap-early") for seed in (0, 1)]
    run_all(wanted, tmp_path / "two", jobs=2)
    run_all(wanted, tmp_path / "one")
    one, two = (
        [[trial["value"] for trial in each.trials] for each in read_all(tmp_path / name)]
        for name in ("one", "two")
    )
    assert one == two
