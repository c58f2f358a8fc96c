"""Stages of objects: methods, partials, callables, and how they are told apart."""

import abc
import dataclasses
import functools
import gc
import threading
import warnings
import weakref
from types import MethodType

import cloudpickle
import pytest

from eeipu import Float, Int, Pipeline, PipelineError, StageCache, stage
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.declaration import Stage, as_stage

X = Float(0.0, 1.0)
SPACE = {"x": X}


class Model:
    def __init__(self, weight=1.0):
        self.weight = weight

    def scaled(self, data):
        return data * self.weight

    @stage(space={"k": Int(1, 9)})
    def prepare(self, data, *, k):
        return self.scaled(data) * k

    @stage(space=SPACE)
    def fit(self, data, *, x):
        return data + x

    @staticmethod
    @stage(space=SPACE)
    def below(data, *, x):
        return data - x

    @stage(space=SPACE)
    @staticmethod
    def above(data, *, x):
        return data + x

    @classmethod
    @stage(space=SPACE)
    def named(cls, data, *, x):
        return data * x if cls.__name__ == "Model" else -data * x

    @stage(space=SPACE)
    @classmethod
    def called(cls, data, *, x):
        return data * x if cls.__name__ == "Model" else -data * x

    @stage(space=SPACE)
    @functools.cache  # noqa: B019
    def cached(self, data, *, x):
        return self.weight * data * x

    def plain(self, data, *, k, x):
        return (data * k + x) * self.weight

    fixed = stage(functools.partialmethod(plain, k=3), space=SPACE, name="fixed")


class Doubled(Model):
    """Overrides what a stage calls, and a stage, which calls the one above."""

    def scaled(self, data):
        return 2 * super().scaled(data)

    @stage(space=SPACE)
    def fit(self, data, *, x):
        return super().fit(data, x=x) * 10


def run(each, *inputs, **params):
    return Pipeline([each]).run({f"{each.name}.{k}": v for k, v in params.items()}, *inputs).value


# --- which stage an attribute gives -----------------------------------------------------------


def test_a_method_of_an_object_is_a_stage_of_that_object():
    model = Model(2.0)
    assert isinstance(model.prepare, Stage)
    assert model.prepare(3.0, k=2) == 12.0
    assert [p.name for p in model.prepare.positional] == ["data"]
    pipeline = Pipeline([model.prepare, model.fit])
    assert pipeline.run({"prepare.k": 2, "fit.x": 0.5}, 3.0).value == 12.5


def test_an_objects_stage_is_the_same_whenever_it_is_asked_for():
    model, other = Model(), Model()
    held = model.fit
    assert model.fit is held
    assert {held: 1}[model.fit] == 1
    assert model.fit != other.fit
    assert "Model.fit" in repr(held)


def test_an_object_lives_no_longer_than_it_and_its_stages_are_used():
    model = Model()
    gone = weakref.ref(model)
    run(model.fit, 1.0, x=0.5)
    del model
    gc.collect()
    assert gone() is None


def test_static_and_class_methods_are_stages_in_either_order():
    assert run(Model.below, 3.0, x=0.5) == 2.5
    assert run(Model.above, 3.0, x=0.5) == run(Model().above, 3.0, x=0.5) == 3.5
    assert run(as_stage(Model.called), 3.0, x=0.5) == run(as_stage(Model.named), 3.0, x=0.5) == 1.5
    assert run(as_stage(Doubled.called), 3.0, x=0.5) == -1.5


def test_a_class_method_that_python_binds_itself_is_a_stage_in_a_pipeline():
    found = MethodType(vars(Model)["named"].__func__, Doubled)  # as from Python 3.13 on
    assert Pipeline([found]).run({"named.x": 0.5}, 3.0).value == -1.5


def test_methods_with_caches_and_partial_methods_are_stages():
    assert run(Model(2.0).cached, 3.0, x=0.5) == 3.0
    assert run(Model(2.0).fixed, 1.0, x=0.5) == 7.0


def test_a_subclass_inherits_overrides_and_calls_stages():
    assert run(Doubled(3.0).prepare, 1.0, k=2) == 12.0
    assert run(Doubled().fit, 1.0, x=0.5) == 15.0
    assert Doubled(3.0).prepare.fingerprint != Model(3.0).prepare.fingerprint


def test_a_stage_without_its_object_is_refused_with_the_remedy():
    with pytest.raises(PipelineError, match=r"'fit' is a method of Model.*give model\.fit"):
        Pipeline([Model.fit])


def test_a_method_that_is_no_stage_is_refused_with_the_remedy():
    with pytest.raises(PipelineError, match=r"Model\.plain.*is not a stage.*stage\(\.\.\., space"):
        Pipeline([Model().plain])


@stage(space=SPACE)
def shift(data, *, x):
    return data + x


def test_a_stage_that_a_class_only_keeps_is_no_method():
    class Parts:
        shift = shift

        @stage(space=SPACE)
        def scale(data, *, x):  # noqa: N805
            return data * x

    assert Parts().shift is Parts.shift is shift
    assert run(Parts.scale, 2.0, x=0.5) == 1.0


def test_a_decorator_without_wraps_hides_no_method():
    def plain(function):
        def inner(*args, **kwargs):
            return function(*args, **kwargs)

        return inner

    class Logged:
        @stage(space=SPACE, name="fit")
        @plain
        def fit(self, data, *, x):
            return data * x

    assert run(Logged().fit, 2.0, x=0.5) == 1.0


def test_an_abstract_stage_keeps_its_class_abstract():
    class Base(abc.ABC):
        @stage(space=SPACE)
        @abc.abstractmethod
        def fit(self, data, *, x): ...

    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_an_object_may_have_a_space_and_a_name_of_its_own():
    model, other = Model(), Model(2.0)
    wide = dataclasses.replace(model.fit, space={"x": Float(0.0, 9.0)}, name="wide")
    assert run(wide, 1.0, x=8.0) == 9.0
    with pytest.raises(PipelineError, match=r"two stages are named 'fit'.*dataclasses\.replace"):
        Pipeline([model.fit, other.fit])
    assert Pipeline([model.fit, wide]).space.keys() == {"fit.x", "wide.x"}


# --- declared costs ---------------------------------------------------------------------------


class Costly:
    rate = 3.0

    def cost_of_fit(self, data, *, x):
        return self.rate * data * x

    @stage(space=SPACE, cost=cost_of_fit)
    def fit(self, data, *, x):
        return data * x

    @stage(space=SPACE, cost=lambda self, *, x: self.rate * x)
    def short(self, data, *, x):
        return data * x

    @stage(space=SPACE, cost=lambda data, *, x: data * x)
    def free(self, data, *, x):
        return data * x


def test_a_cost_that_begins_with_self_gets_the_object():
    costly = Costly()
    costly.rate = 5.0
    costs = [
        each.declared_cost({"x": 0.5}, (4.0,)) for each in (costly.fit, costly.short, costly.free)
    ]
    assert costs == [10.0, 2.5, 2.0]
    assert [each.cost_takes_inputs for each in (costly.fit, costly.short, costly.free)] == [
        True,
        False,
        True,
    ]


# --- what is fingerprinted ----------------------------------------------------------------------


def test_objects_with_other_attributes_have_other_keys():
    one, other = Model(1.0), Model(2.0)
    assert one.fit.fingerprint == Model(1.0).fit.fingerprint
    assert one.fit.fingerprint != other.fit.fingerprint


def test_a_version_names_the_code_and_not_the_object():
    class Versioned:
        def __init__(self, weight):
            self.weight = weight
            self.lock = threading.Lock()

        @stage(space=SPACE, version="1")
        def fit(self, data, *, x):
            return data * x * self.weight

    assert Versioned(1.0).fit.fingerprint == Versioned(1.0).fit.fingerprint
    assert Versioned(1.0).fit.fingerprint != Versioned(2.0).fit.fingerprint
    model = Versioned(1.0)
    pipeline = Pipeline([model.fit])
    assert pipeline.run({"fit.x": 0.5}, 2.0).value == 1.0
    model.weight = 3.0
    with pytest.warns(RuntimeWarning, match=r"'fit' uses \(self\) have changed"):
        assert pipeline.run({"fit.x": 0.5}, 2.0).value == 3.0
    cache, params = StageCache(), {"fit.x": 0.5}
    pipeline.run(params, 2.0, cache=cache)
    other = Pipeline([Versioned(9.0).fit])
    assert "differs in the object that it is a method of" in str(
        other.explain(params, 2.0, cache=cache)
    )
    model.weight = (each for each in [1])  # has no digest: the version vouches for it
    with pytest.warns(RuntimeWarning, match="have changed"):
        refresh_code([model.fit])
    assert model.fit.fingerprint == "version 1"
    assert "unsupported operand" in pipeline.run(params, 2.0).error


def test_an_object_that_the_user_changes_has_another_key_and_a_warning():
    model, cache = Model(1.0), StageCache()
    pipeline = Pipeline([model.prepare])
    assert pipeline.run({"prepare.k": 2}, 3.0, cache=cache).value == 6.0
    model.weight = 2.0
    with pytest.warns(RuntimeWarning, match=r"'prepare' uses \(self\) have changed"):
        assert pipeline.run({"prepare.k": 2}, 3.0, cache=cache).value == 12.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pipeline.run({"prepare.k": 2}, 3.0, cache=cache).memoized == [True]


def test_an_object_that_cannot_be_hashed_is_named_with_its_attribute():
    model = Model()
    model.rows = iter([])
    model.made = (each for each in [])
    with pytest.raises(
        PipelineError, match=r"Model\.fit has self \(self\.made\).*__getstate__.*stage\(version="
    ):
        run(model.fit, 1.0, x=0.5)
    with pytest.raises(PipelineError, match=r"Scale has self \(self\.made\)"):
        run(stage(Scale(model.made), space=SPACE), 1.0, x=0.5)


class Scale:
    def __init__(self, made):
        self.made = made

    def __call__(self, data, *, x):
        return data * x * self.made


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    weight: float

    def fit(self, data, *, x):
        return self.weight * data * x


def test_callable_objects_and_slots_count_by_their_content():
    assert run(stage(Scale(3.0), space=SPACE), 2.0, x=0.5) == 3.0
    assert stage(Scale(3.0), space=SPACE).name == "Scale"
    fits = [stage(Slotted(weight).fit, space=SPACE) for weight in (1.0, 1.0, 2.0)]
    assert run(fits[2], 3.0, x=0.5) == 3.0
    assert fits[0].fingerprint == fits[1].fingerprint != fits[2].fingerprint


def power(data, *, base, x):
    return data * base**x


def test_what_a_partial_binds_counts():
    bound = [stage(functools.partial(power, base=b), space=SPACE, name="p") for b in (4, 4, 9)]
    assert run(bound[2], 2.0, x=0.5) == 6.0
    assert bound[0].fingerprint == bound[1].fingerprint != bound[2].fingerprint
    with pytest.raises(PipelineError, match=r"power has the bound argument 'base'.*version"):
        run(stage(functools.partial(power, base=(i for i in [])), space=SPACE, name="p"), 1, x=1)


def test_a_partial_that_changes_has_another_key():
    bound = functools.partial(power, base=4)
    each = stage(bound, space=SPACE, name="p")
    before = each.fingerprint
    bound.keywords["base"] = 9
    with pytest.warns(RuntimeWarning, match="the bound argument 'base'"):
        refresh_code([each])
    assert each.fingerprint != before


def test_a_hyper_parameter_that_a_partial_binds_is_refused():
    with pytest.raises(PipelineError, match=r"'p' has a space for 'x', and its partial binds it"):
        stage(functools.partial(power, x=0.5), space={**SPACE, "base": X}, name="p")


def test_a_function_with_a_cache_is_a_stage():
    @functools.cache
    def squared(data, *, x):
        return data * x**2

    assert run(stage(squared, space=SPACE), 2.0, x=0.5) == 0.5


def test_a_lambda_with_a_name_is_a_stage():
    assert run(stage(lambda d, *, x: d * x, name="scale", space=SPACE), 2.0, x=0.5) == 1.0


def test_a_class_is_a_stage_that_makes_objects_of_hyper_parameters():
    pipeline = Pipeline([stage(Slotted, space={"weight": X}), stage(lambda s: s.weight, name="w")])
    assert pipeline.run({"Slotted.weight": 0.5}).value == 0.5


# --- travelling ---------------------------------------------------------------------------------


def test_stages_of_an_object_travel_with_it_once():
    model = Model(2.0)
    prepare, fit = cloudpickle.loads(cloudpickle.dumps([model.prepare, model.fit]))
    assert prepare.function.__self__ is fit.function.__self__
    assert (prepare.name, prepare(3.0, k=2)) == ("prepare", 12.0)


def test_the_functions_of_a_stage_are_those_that_have_its_globals():
    bound = functools.partial(Model().plain, k=2)
    for each in (Model().fit, stage(bound, name="p", space=SPACE), stage(Scale(1), space=SPACE)):
        assert [function.__globals__ is globals() for function in each.functions] == [True]
