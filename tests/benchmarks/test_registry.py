"""The registry of benchmark problems."""

import pytest
from benchmark_toys import CALLS, TOY

from eeipu.benchmarks import registry
from eeipu.benchmarks.registry import GROUPS, REGISTRY, Entry, load, named
from eeipu.errors import ConfigurationError, MissingExtraError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


def test_names_of_problems_and_groups_stand_for_problems():
    assert named(["noisy", "stacking"]) == ["noisy", "stacking"]
    assert len(named(["synthetic"])) == 9
    stacking = {"stacking", "stacking-by-model", "stacking-graph"}
    assert set(named(["real"])) == {*stacking, "segmentation", "distillation"}
    assert GROUPS == ("synthetic", "variants", "noise", "graphs", "held-out", "real")


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
