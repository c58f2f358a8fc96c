"""Stages: declaring them, and the mistakes that are told at once."""

import dataclasses
import functools
import importlib
import inspect
import math
import pickle
import sys
from types import FunctionType

import cloudpickle
import pytest
from optuna.distributions import BaseDistribution

from eeipu import Pipeline, StageCache, Tuner
from eeipu.errors import PipelineError
from eeipu.fingerprints.code import code_fingerprint
from eeipu.fingerprints.reading.definitions import reference_to
from eeipu.space import Categorical, Float, Int
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.declaration import Stage
from eeipu.stages.decorator import stage

X = Float(0.0, 1.0)


# --- the decorator --------------------------------------------------------------------------


def test_a_decorated_function_is_a_stage_and_still_callable():
    @stage(space={"x": X})
    def scale(data, *, x):
        return data * x

    assert isinstance(scale, Stage)
    assert scale(2.0, x=0.5) == 1.0
    assert (scale.name, scale.space) == ("scale", {"x": X})


def test_signature_source_and_documentation_of_a_stage_are_the_functions():
    each = stage(space={"x": X})(takes_x)
    assert list(inspect.signature(each).parameters) == ["data", "x"]
    assert inspect.getsource(each) == inspect.getsource(takes_x)
    assert each.__doc__ == takes_x.__doc__ == "Return x."


def test_a_bare_decorator_makes_a_stage_without_hyper_parameters():
    @stage
    def clean(data):
        return sorted(data)

    assert (clean.name, clean.space, clean([2, 1])) == ("clean", {}, [1, 2])


def test_the_defaults_are_those_of_the_contract():
    for each in (stage()(lambda data: data), Stage(name="train")):
        assert (each.version, each.cost, each.memoize) == (None, None, True)
        assert (each.num_cpus, each.num_gpus) == (1, 0)


def test_every_option_reaches_the_stage():
    def cost(x):
        return x

    each = stage(
        space={"x": X},
        name="s",
        version="2",
        cost=cost,
        memoize=False,
        num_cpus=2,
        num_gpus=0.5,
    )(lambda *, x: x)
    assert (each.name, each.version, each.cost, each.memoize) == ("s", "2", cost, False)
    assert (each.num_cpus, each.num_gpus) == (2, 0.5)


def test_a_stage_cannot_be_changed():
    each = stage()(lambda data: data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        each.name = "other"


def test_a_stage_keeps_its_own_copy_of_the_space():
    space = {"x": X}
    each = stage(space=space)(lambda data, *, x: x)
    space["y"] = X
    assert each.space == {"x": X}


def test_a_function_given_with_options_is_a_stage_with_these_options():
    each = stage(takes_x, space={"x": X}, name="mine", version="3", num_cpus=2, memoize=False)
    assert (each.name, each.version, each.space) == ("mine", "3", {"x": X})
    assert (each.num_cpus, each.memoize, each.function) == (2, False, takes_x)
    assert stage(len, "size", "1").name == "size"


def test_a_space_may_stand_first():
    assert stage({"x": X}, "mine")(takes_x).name == "mine"
    assert stage({"x": X})(takes_x).space == {"x": X}
    assert stage(None, name="mine")(len).name == "mine"


@pytest.mark.parametrize("thing", [3, "train", X, ["x"]])
def test_what_is_neither_function_nor_space_is_refused_with_the_remedy(thing):
    with pytest.raises(PipelineError, match=r"takes a function or a space, but got.*stage\(space="):
        stage(thing)


def test_a_stage_is_not_made_a_stage_again():
    each = stage(takes_x, space={"x": X})
    with pytest.raises(PipelineError, match=r"'takes_x' is a stage already.*dataclasses\.replace"):
        stage(each, name="other")


def test_two_spaces_are_refused():
    with pytest.raises(PipelineError, match="two spaces"):
        stage({"x": X}, space={"x": X})


# --- mistakes -------------------------------------------------------------------------------


def takes_x(data, *, x):
    """Return x."""
    return x


def takes_x_first(x, data):
    return x


def positional_only(data, x, /):
    return x


def no_default(data, *, x, momentum):
    return x


class OtherDistribution(BaseDistribution):
    def to_internal_repr(self, param_value_in_external_repr):
        return 0.0

    def single(self):
        return True

    def _contains(self, param_value_in_internal_repr):
        return True


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (takes_x, {"space": {"x": X, "lr": X}}, r"'takes_x'.*space for 'lr'.*\['data', 'x'\]"),
        (positional_only, {"space": {"x": X}}, "'positional_only'.*space for 'x'"),
        (no_default, {"space": {"x": X}}, "'no_default'.*'momentum' has neither a space nor"),
        (takes_x_first, {"space": {"x": X}}, "'takes_x_first'.*input 'data'.*inputs first"),
        (takes_x, {"space": {"x": 0.5}}, "'takes_x'.*space of 'x'.*0.5"),
        (takes_x, {"space": {"x": (0, 1)}}, "'takes_x'.*space of 'x'"),
        (takes_x, {"space": {"x": OtherDistribution()}}, "'takes_x'.*space of 'x'.*Other"),
        (takes_x, {"space": ["x"]}, r"'takes_x'.*must be a dict.*\['x'\]"),
        (takes_x, {"space": X}, "'takes_x'.*must be a dict.*FloatDistribution"),
        (takes_x, {"space": {"x": X}, "name": ""}, "non-empty.*''"),
        (takes_x, {"space": {"x": X}, "name": "a.b"}, "without dots.*'a.b'"),
        (takes_x, {"space": {"x": X}, "num_cpus": -1}, "'takes_x'.*num_cpus.*-1"),
        (takes_x, {"space": {"x": X}, "num_gpus": -1}, "'takes_x'.*num_gpus.*-1"),
        (takes_x, {"space": {"x": X}, "cost": 3.0}, "'takes_x'.*cost must be a function.*3.0"),
        (takes_x, {"space": {"x": X}, "cost": lambda y: y}, r"'takes_x'.*\['x'\].*'y'"),
        (takes_x, {"space": {"x": X}, "cost": lambda: 1.0}, r"'takes_x'.*\['x'\].*'x'"),
        (functools.partial(takes_x), {"space": {"x": X}}, r"non-empty.*stage\(name=...\)"),
        (3, {"name": "s"}, "'s'.*parameters of 3 cannot be read"),
        (max, {}, "'max'.*parameters of .*max.* cannot be read"),
    ],
)
def test_a_stage_that_cannot_run_is_refused_by_name(function, options, message):
    with pytest.raises(PipelineError, match=message):
        stage(**options)(function)


def test_a_stage_without_a_function_says_who_runs_it():
    each = Stage(name="train", space={"x": X})
    with pytest.raises(PipelineError, match=r"'train'.*Tuner\.ask and Tuner\.tell"):
        each(1)


# --- fingerprints ---------------------------------------------------------------------------


def test_the_version_replaces_the_code():
    one = stage(name="s", version="1")(lambda data: data)
    same = stage(name="s", version="1")(lambda data: -data)
    other = stage(name="s", version="2")(lambda data: data)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_an_empty_version_is_a_version():
    assert stage(name="s", version="")(lambda data: data).fingerprint == "version "


def test_without_a_version_the_code_counts():
    one = stage(name="s")(lambda data: data)
    same = stage(name="s")(lambda data: data)
    other = stage(name="s")(lambda data: -data)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_version_is_the_way_out_for_code_that_cannot_be_fingerprinted():
    stream = (x for x in [1])

    def guarded(data):
        return next(stream)

    with pytest.raises(PipelineError, match="version="):
        stage(guarded).fingerprint  # noqa: B018 - computing it is what is tested
    assert stage(version="1")(guarded).fingerprint == "version 1"


def test_a_stage_without_a_function_has_an_empty_fingerprint():
    assert Stage(name="train").fingerprint == ""


# --- declared costs -------------------------------------------------------------------------


def costing(cost):
    return stage(space={"n": Int(1, 9), "kind": Categorical(["a", "b"])}, name="s", cost=cost)(
        lambda data, *, n, kind: n
    )


def test_the_declared_cost_is_a_function_of_the_hyper_parameters():
    each = costing(lambda n, kind: n * 2 if kind == "a" else n)
    assert each.declared_cost({"n": 3, "kind": "a"}) == 6.0
    assert type(each.declared_cost({"n": 3, "kind": "b"})) is float


def test_a_constant_cost_can_be_declared():
    assert costing(lambda **_: 5).declared_cost({"n": 1, "kind": "a"}) == 5.0


def test_a_builtin_can_be_the_cost():
    # Some do not tell what they take; then only calling it shows.
    each = stage(space={"n": Int(1, 9)}, name="s", cost=max)(lambda data, *, n: n)
    assert each.cost is max


def test_a_stage_may_take_no_core_and_cost_nothing():
    each = stage(name="s", num_cpus=0, cost=lambda: 0)(lambda data: data)
    assert (each.num_cpus, each.declared_cost({})) == (0, 0.0)


def test_stages_are_equal_only_to_themselves():
    one, other = (Stage(name="train") for _ in range(2))
    assert one != other


def test_without_a_declaration_the_cost_is_measured():
    assert costing(None).declared_cost({"n": 1, "kind": "a"}) is None


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_a_cost_that_is_no_cost_is_refused_with_its_arguments(cost):
    with pytest.raises(PipelineError, match=rf"'s'.*'n': 1.*{cost}"):
        costing(lambda n, kind: cost).declared_cost({"n": 1, "kind": "a"})


def test_a_cost_may_depend_on_what_the_stage_gets():
    each = costing(lambda data, n, kind: len(data) * n)
    assert each.cost_takes_inputs
    assert each.declared_cost({"n": 3, "kind": "a"}, ([1, 2],)) == 6.0
    assert not costing(lambda n, kind: n).cost_takes_inputs
    assert not costing(max).cost_takes_inputs
    assert not costing(None).cost_takes_inputs


def test_a_cost_of_inputs_that_nobody_knows_asks_to_be_told():
    with pytest.raises(PipelineError, match=r"'s' depends on the stage's inputs.*stage_costs"):
        costing(lambda data, n, kind: n).declared_cost({"n": 3, "kind": "a"})


FACTORS = {"k": 1}


def times(data):
    return data * FACTORS["k"]


def test_a_global_that_changes_between_runs_is_a_miss(monkeypatch):
    each, cache = stage(times), StageCache()
    pipeline = Pipeline([each])
    assert [pipeline.run({}, 2.0, cache=cache).memoized for _ in range(2)] == [[False], [True]]
    monkeypatch.setitem(FACTORS, "k", 3)
    with pytest.warns(
        RuntimeWarning, match=r"'times' uses \(the global FACTORS\) have changed.*version="
    ):
        run = pipeline.run({}, 2.0, cache=cache)
    assert (run.value, run.memoized) == (6.0, [False])
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match="have changed"):
        assert pipeline.run({}, 2.0, cache=cache).memoized == [True]


def test_a_global_that_changes_between_calls_of_a_tuner_is_a_miss(monkeypatch):
    last = stage(space={"x": X}, version="1")(lambda data, *, x: data)
    tuner = Tuner(Pipeline([stage(times), last]), budget=100.0, method="random", cache=StageCache())
    tuner.run(2.0, max_trials=1, progress=False)
    monkeypatch.setitem(FACTORS, "k", 3)
    with pytest.warns(match="changed since"):
        study = tuner.run(2.0, max_trials=2, progress=False)
    assert study.trials[-1].value == 6.0


def helping(helper, config):
    """A stage that calls a helper and uses a global."""
    scope = {"__name__": __name__, "helper": helper, "CONFIG": config}
    return stage(name="s")(FunctionType(calling.__code__, scope))


def calling(data):
    return helper(data) * CONFIG["k"]  # noqa: F821 - both are given to it


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A module `doubling` with a function `double`, and its file."""
    path = tmp_path / "doubling.py"
    path.write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("doubling"), path
    del sys.modules["doubling"]


def test_a_global_that_changes_after_an_edit_of_a_helper_is_a_miss(helper):
    module, path = helper
    config, cache = {"k": 1}, StageCache()
    pipeline = Pipeline([helping(module.double, config)])
    assert pipeline.run({}, 10.0, cache=cache).value == 20.0
    path.write_text("def double(x):\n    y = x * 2\n    return y\n")
    for k in (7, 9):
        config["k"] = k
        with pytest.warns(RuntimeWarning, match=r"'s' uses \(the global CONFIG\) have changed"):
            run = pipeline.run({}, 10.0, cache=cache)
        assert (run.value, run.memoized) == (20.0 * k, [False])
    assert pipeline.run({}, 10.0, cache=cache).memoized == [True]


def test_a_helper_that_is_first_used_after_its_edit_asks_for_a_restart(helper):
    module, path = helper
    each = helping(len, {"k": 1})
    pipeline = Pipeline([each])
    assert pipeline.run({}, "ab", cache=StageCache()).value == 2
    path.write_text("def double(x):\n    y = x * 2\n    return y\n")
    each.function.__globals__["helper"] = module.double
    with pytest.raises(PipelineError, match=r"double cannot be read.*restart"):
        pipeline.run({}, 10.0, cache=StageCache())


def test_a_global_that_cannot_be_hashed_any_more_is_an_error(helper):
    module, _ = helper
    config, cache = {"k": 1}, StageCache()
    pipeline = Pipeline([helping(module.double, config)])
    pipeline.run({}, 10.0, cache=cache)
    config.update(k=7, stream=(x for x in [1]))
    with pytest.raises(PipelineError, match=r"the global CONFIG, which cannot be hashed.*version="):
        pipeline.run({}, 10.0, cache=cache)


def test_a_stage_from_another_process_may_bring_code_without_source():
    each = stage(times)
    known = each.fingerprint
    there = pickle.loads(cloudpickle.dumps(each))
    gone = eval("lambda data: data")
    object.__setattr__(there, "function", gone)
    refresh_code([there])
    assert there.fingerprint == known
    object.__setattr__(each, "function", gone)
    with pytest.raises(PipelineError, match="source of <lambda> cannot be read"):
        refresh_code([each])


def test_a_stage_from_another_process_follows_the_code_that_it_finds(monkeypatch):
    each = stage(times)
    known = each.fingerprint
    there = pickle.loads(cloudpickle.dumps(each))
    monkeypatch.setitem(there.function.__globals__["FACTORS"], "k", 3)
    with pytest.warns(RuntimeWarning, match="have changed"):
        refresh_code([there])
    assert there.fingerprint != known


def test_a_stage_with_another_option_has_the_same_fingerprint_and_a_reading_of_its_own():
    each = stage(times)
    refresh_code([each])
    other = dataclasses.replace(each, timeout=3.0)
    assert other.known_code.reading is None
    assert (other.timeout, other.fingerprint) == (3.0, each.fingerprint)


def test_code_that_calls_a_stage_counts_its_function_alone():
    def calling(called):
        return lambda data: called(data)

    one, other = stage(times), stage(name="other", timeout=3.0)(times)
    before = code_fingerprint(calling(one))
    refresh_code([one])
    assert code_fingerprint(calling(one)) == before == code_fingerprint(calling(other))
    assert code_fingerprint(calling(stage(name="times")(lambda data: data))) != before


def test_code_that_stages_share_is_read_once(monkeypatch):
    references = []
    monkeypatch.setattr(
        "eeipu.fingerprints.code.reference_to",
        lambda *a: references.append(a[0]) or reference_to(*a),
    )
    stages = [stage(name=name)(times) for name in "abc"]
    for times_read in (1, 0):  # the second time, it is only compared
        refresh_code(stages)
        assert references.count("the global FACTORS") == times_read
        references.clear()
    assert len({each.fingerprint for each in stages}) == 1


def test_code_that_has_not_changed_is_not_read_again(monkeypatch):
    stages = [stage(name=name)(times) for name in "ab"]
    refresh_code(stages)
    readings = [each.known_code.reading for each in stages]
    monkeypatch.setattr("eeipu.fingerprints.syntax.sources.ast", None)
    refresh_code(stages)
    assert all(
        each.known_code.reading is reading for each, reading in zip(stages, readings, strict=True)
    )


class Estimator:
    def fit(self, X):
        return self

    def get_params(self):
        return {}


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (lambda each: ("prep", each), r"without its name, or name it with stage\(name='prep'\)"),
        (lambda each: [each, each], "a list does not stand for its stages"),
        (lambda each: Estimator(), r"eeipu\.sklearn\.from_pipeline"),
        (lambda each: print, r"decorate it with @stage\(...\)"),
    ],
    ids=["pair", "list", "estimator", "function"],
)
def test_what_is_no_stage_comes_with_what_to_write(given, remedy):
    each = stage(lambda data: data, name="each", version="1")
    with pytest.raises(PipelineError, match=f"is not a stage; .*{remedy}"):
        Pipeline([given(each)])


@pytest.mark.parametrize("spaces", [[("prep", {})], None, "prep"])
def test_a_declared_pipeline_is_a_dict(spaces):
    with pytest.raises(PipelineError, match="a dict from their names to their spaces"):
        Pipeline.declare(spaces)


def test_the_name_of_a_stage_is_a_text():
    with pytest.raises(PipelineError, match="name must be non-empty and without dots, but got 3"):
        Pipeline.declare({3: {}})
