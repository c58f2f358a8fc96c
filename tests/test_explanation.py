"""What `Pipeline.explain` says of a run before it begins, and from which entries."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from eeipu import Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.caching.inventory import inventory
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.explanation import explain_entry


def pipeline(version="1", *, memoize=True):
    @stage(space={"dims": Int(1, 8)}, version=version, memoize=memoize)
    def features(data, *, dims):
        return [dims * each for each in data]

    @stage(space={"lr": Float(0.0, 1.0)}, version="1")
    def train(made, *, lr):
        return lr * sum(made)

    return Pipeline([features, train])


def config(dims=4, lr=0.5):
    return {"features.dims": dims, "train.lr": lr}


@pytest.fixture(params=["memory", "directory", "remote"])
def cache(request, tmp_path):
    location = {"memory": None, "directory": tmp_path, "remote": f"memory://{tmp_path}"}
    return StageCache(location[request.param])


def test_a_part_that_differs_is_named_wherever_entries_are(cache):
    pipeline().run(config(), [1, 2], cache=cache)
    first, second = pipeline().explain(config(lr=0.25), [1, 2], cache=cache)
    assert (first.would_run, second.would_run) == (False, True)
    assert second.differences == ("the hyper-parameter lr (0.5 there, 0.25 here)",)
    first, second = pipeline("2").explain(config(), [1, 2], cache=cache)
    assert first.differences == ("the declared version ('1' there, '2' here)",)
    assert second.differences == ("its input, the output of features",)
    first, _ = pipeline().explain(config(), [1, 3], cache=cache)
    assert first.differences == ("the input data",)


def test_explaining_agrees_with_running(cache):
    for asked in [config(), config(lr=0.25), config(dims=3), config()]:
        explained = pipeline().explain(asked, [1], cache=cache)
        done = pipeline().run(asked, [1], cache=cache)
        assert [not each.would_run for each in explained] == done.memoized
        assert [each.key for each in explained] == [run.key for run in done.stage_runs]


def test_the_nearest_entry_has_the_same_hyper_parameters_if_there_is_one(cache):
    for dims in (3, 4, 5):
        pipeline("1").run(config(dims=dims), [1], cache=cache)
    pipeline("2").run(config(dims=6), [2], cache=cache)
    first, _ = pipeline("2").explain(config(dims=5), [2], cache=cache)
    assert set(first.differences) == {
        "the declared version ('1' there, '2' here)",
        "the input data",
    }


def test_a_stage_that_was_renamed_is_recognised(cache):
    Pipeline([stage(halved, name="half", space={"x": Float(0.0, 1.0)})]).run(
        {"half.x": 0.5}, [1], cache=cache
    )
    renamed = Pipeline([stage(halved, name="other", space={"x": Float(0.0, 1.0)})])
    (look,) = renamed.explain({"other.x": 0.5}, [1], cache=cache)
    assert look.differences == ("the stage's name ('half' there)",)


def halved(data, *, x):
    return sum(data) * x


def test_without_entries_or_a_cache_it_says_so(cache):
    first, _ = pipeline().explain(config(), [1], cache=cache)
    assert str(first) == "features: would run; there is no entry of features"
    first, _ = pipeline().explain(config(), [1])
    assert str(first) == "features: would run; no cache was given"
    cache.put("k" * 64, 1, stage="features")
    first, _ = pipeline().explain(config(), [1], cache=cache)
    assert first.reason == "the entry of features was put without the parts of keys"


def test_what_is_not_memoized_is_told_with_what_comes_after_it(cache):
    unkept = pipeline(memoize=False)
    first, second = unkept.explain(config(), [1], cache=cache)
    assert first.reason == "it is not memoized"
    assert second.reason == "it comes after features, which is not memoized"


def test_a_trial_says_its_configuration(cache):
    tuner = Tuner(pipeline(), budget=1.0, cache=cache, method="random", seed=0)
    best = tuner.run([1, 2], max_trials=3, progress=False).best_trial
    assert not any(look.would_run for look in pipeline().explain(best, [1, 2], cache=cache))


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(ConfigurationError, match="StageCache"):
        pipeline().explain(config(), [1], cache="cache/")
    with pytest.raises(PipelineError, match="takes the inputs"):
        pipeline().explain(config())


def test_many_differences_are_counted(cache):
    space = {f"p{i}": Int(0, 9) for i in range(9)}

    @stage(space=space, version="1", name="wide")
    def wide(**params):
        return float(sum(params.values()))

    def at(value):
        return {f"wide.{name}": value for name in space}

    Pipeline([wide]).run(at(1), cache=cache)
    (look,) = Pipeline([wide]).explain(at(2), cache=cache)
    assert len(look.differences) == 9
    assert "and 3 further parts" in str(look)
    assert json.loads(json.dumps(look.as_json()))["nearest"]["params"]["p0"] == 1


def test_worker_processes_write_the_same_parts_as_this_one(tmp_path):
    caches = {name: StageCache(tmp_path / name) for name in ("here", "there")}
    for name, executor in (("here", None), ("there", "processes")):
        tuner = Tuner(
            module_pipeline(), budget=1e3, cache=caches[name], method="random", seed=0, top_q=9,
            executor=executor,
        )  # fmt: skip
        tuner.run([1, 2], max_trials=2, progress=False)
    here, there = (
        {entry.key: entry.parts for entry in inventory(each.place)} for each in caches.values()
    )
    assert len(here) == 4
    assert here == there
    assert all(entry["code"] for entry in here.values())


FACTOR = 3


def module_pipeline():
    @stage(space={"dims": Int(1, 8)})
    def features(data, *, dims):
        return [FACTOR * dims * each for each in data]

    @stage(space={"lr": Float(0.0, 1.0)})
    def train(made, *, lr):
        return lr * sum(made)

    return Pipeline([features, train])


def test_an_edit_is_named_in_another_process_and_after_a_move(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "own.py").write_text("def scale(x):\n    return 2 * x\n")
    (project / "train.py").write_text(
        textwrap.dedent("""
        import sys
        from pathlib import Path
        import own
        from eeipu import Float, Pipeline, StageCache, stage

        @stage(space={"lr": Float(0.0, 1.0)})
        def train(data, *, lr):
            return lr * own.scale(data)

        act = getattr(Pipeline([train]), sys.argv[1])
        print(act({"train.lr": 0.5}, 3, cache=StageCache(Path(__file__).parent / "cache")))
        """)
    )

    def call(folder, act):
        command = [sys.executable, "-B", "train.py", act]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call(project, "run")
    moved = shutil.move(project, tmp_path / "moved")
    assert "is reused" in call(moved, "explain")
    (moved / "own.py").write_text("def scale(x):\n    return x + x\n")
    assert call(moved, "explain").endswith("differs in the code of own.scale\n")


def test_an_entry_is_explained_by_what_was_there_before_it(tmp_path):
    now = [1000.0]
    cache = StageCache(tmp_path, now=lambda: now[0])
    for lr in (0.5, 0.25):
        now[0] += 60
        pipeline().run(config(lr=lr), [1], cache=cache)
    entries = inventory(cache.place)
    early, late = sorted(
        (entry for entry in entries if entry.stage == "train"), key=lambda each: each.created_s
    )
    assert explain_entry(early, entries).reason == "there is no entry of train"
    assert explain_entry(late, entries).nearest.key == early.key
    now[0] += 60
    pipeline().run(config(dims=3, lr=0.25), [1], cache=cache)
    entries = inventory(cache.place)
    newest = max((entry for entry in entries if entry.stage == "train"), key=lambda e: e.created_s)
    assert explain_entry(newest, entries).differences == ("its input, the output of features",)
    cache.put("k", 1)
    (bare,) = [entry for entry in inventory(cache.place) if entry.key == "k"]
    assert "without the parts" in explain_entry(bare, entries).reason
