"""Population-based training: copies share the path of their model."""

import pytest

from eeipu import Categorical, Float, Int, Pipeline, stage
from eeipu.algorithms.moves import Ask, Stop
from eeipu.algorithms.population import PopulationBasedTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.errors import ConfigurationError
from eeipu.space import Space
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Constant, MultiStep
from eeipu.stages.searchable_schedules import ScheduleChoice, Searchable

CONFIGS = [{"lr": lr, "loss": "a"} for lr in (0.1, 0.2, 0.3, 0.4)]


def path_of(config, step):
    return Path().train("fit", "v", config, step).evaluate("fit", "v")


def finished_round(population, step, values):
    moves = [
        move for member, value in enumerate(values) for move in population.tell(member, step, value)
    ]
    return {move.trial: move for move in moves}


def test_the_worst_go_on_from_the_best_with_another_value():
    population = PopulationBasedTraining(CONFIGS, 20, every=10, seed=0)
    assert [move.step for move in population.start()] == [10] * 4
    moves = finished_round(population, 10, [1.0, 4.0, 3.0, 2.0])
    copy, model = moves[0].config, moves[1].config
    assert [copy["lr"](step) for step in (0, 9)] == [0.2, 0.2] == [model["lr"](9)] * 2
    assert copy["lr"](10) in (0.2 * 0.8, 0.2 * 1.2)
    assert copy["loss"] == model["loss"] == "a"
    assert moves[3].config["lr"] == Constant(0.4)
    assert all(move.step == 20 for move in moves.values())


def test_a_copy_is_a_shared_prefix():
    plan = SearchPlan()
    population = PopulationBasedTraining(CONFIGS, 30, every=10, seed=0)
    study = StudyRun("pbt", population, path_of)
    cluster = simulated_workers(
        2, lambda node: float(node.steps), lambda node: node.path.schedules(0)["lr"](node.stop - 2)
    )
    run_studies([study], Scheduler(plan), cluster)
    assert plan.spent_s == 4 * 30  # a copy goes on from its model's state, and costs no more
    assert len(study.values) == 12


def test_schedules_can_be_copied_too():
    configs = [{"lr": MultiStep(1.0, [5])}, {"lr": Constant(0.5)}]
    population = PopulationBasedTraining(configs, 20, every=10, factors=[2.0], seed=0)
    population.start()
    moves = finished_round(population, 10, [2.0, 1.0])
    copy = moves[1].config["lr"]
    assert [copy(step) for step in (0, 5, 10)] == [1.0, 0.1, 0.2]


def test_the_end_stops_everyone():
    population = PopulationBasedTraining(CONFIGS, 10, every=10)
    population.start()
    moves = finished_round(population, 10, [1.0, None, 3.0, 2.0])
    assert moves == {member: Stop(member) for member in range(4)}


def test_nobody_copies_a_failure():
    population = PopulationBasedTraining(CONFIGS[:2], 20, every=10, seed=0)
    population.start()
    assert all(isinstance(m, Ask) for m in finished_round(population, 10, [None, 1.0]).values())
    moves = finished_round(population, 20, [None, None])
    assert moves == {0: Stop(0), 1: Stop(1)}


def test_a_population_of_failures_ends():
    population = PopulationBasedTraining(CONFIGS, 20, every=10)
    population.start()
    moves = finished_round(population, 10, [None] * 4)
    assert moves == {member: Stop(member) for member in range(4)}


@pytest.mark.parametrize(("configs", "share"), [(CONFIGS[:1], 0.25), (CONFIGS, 0.6), (CONFIGS, 0)])
def test_a_population_that_makes_no_sense_is_refused(configs, share):
    with pytest.raises(ConfigurationError, match="a population needs"):
        PopulationBasedTraining(configs, 20, every=10, share=share)


def test_parameters_of_templates_and_of_plain_stages_can_be_explored():
    @stage(space={"alpha": Float(0.0, 1.0)}, version="1")
    def prep(data, *, alpha):
        return data

    drop = Searchable(MultiStep, Float(0.1, 1.0), [3], 0.5)
    template = ScheduleChoice(flat=Float(0.1, 1.0), drop=drop)
    train = iterative(Training(int, max, float), {"lr": template}, 9, "train", version="1")
    pipeline = Pipeline([prep, train])
    names = {"prep.alpha": 0.5, "train.lr": "drop", "train.lr_flat": 0.3}
    configs = [names | {"train.lr_drop_initial": value} for value in (0.2, 0.4, 0.6, 0.8)]
    paths = {}

    def noted(config, step):
        paths[step] = stage_path(pipeline.stages, config, "", step)
        return paths[step]

    plan = SearchPlan()
    algorithm = PopulationBasedTraining(configs, 9, every=3, factors=[2.0], seed=0)
    study = StudyRun("pbt", algorithm, noted)
    cluster = simulated_workers(2, lambda node: float(node.steps), lambda node: node.cost_s or 1.0)
    run_studies([study], Scheduler(plan), cluster)
    assert len(study.values) == 12
    assert study.errors == {}
    lr = study.configs[3]["train.lr_drop_initial"]
    rate = train.schedules({"lr": "drop", "lr_flat": 0.3, "lr_drop_initial": lr})
    assert rate["lr"](0) == lr(0)
    assert rate["lr"](6) == 0.5 * lr(6) == 0.5 * 2.0 * lr(0)
    assert all(path.stretches[0].call.params == {"alpha": 0.5} for path in paths.values())


def test_nobody_of_an_odd_population_copies_and_is_copied():
    configs = [{"lr": lr} for lr in (0.1, 0.2, 0.4)]
    population = PopulationBasedTraining(configs, 20, every=10, share=0.5, factors=[2.0], seed=0)
    population.start()
    moves = finished_round(population, 10, [3.0, 2.0, 1.0])
    assert [moves[member].config["lr"](10) for member in range(3)] == [0.1, 0.2, 0.2]


@pytest.mark.parametrize("first", [1.0, MultiStep(1.0, [3])])
def test_what_is_copied_over_and_over_is_no_deeper_for_it(first):
    rounds, every = 500, 4
    population = PopulationBasedTraining([{"lr": first}] * 2, 9999, every, factors=[2.0, 0.5])
    population.start()
    values = [first(0) if callable(first) else first]
    for step in range(every, rounds * every, every):
        better = (step // every) % 2  # whoever copied is copied next
        moves = finished_round(population, step, [float(better), float(1 - better)])
        lr = moves[better].config["lr"]
        values.append(lr(step))
    assert [lr(k * every) for k in range(rounds)] == values
    assert len(lr.runs(rounds * every)) >= rounds


SPACE = {
    "drop": Float(0.0, 0.9),
    "grid": Float(0.0, 1.0, step=0.25),
    "depth": Int(1, 8),
    "width": Int(16, 64, step=16),
    "loss": Categorical(["a", "b", "c"]),
    "base": Int(1, 2**40, log=True),
}


def test_members_explore_inside_of_the_space_and_all_of_it():
    config = {"drop": 0.8, "grid": 0.5, "depth": 2, "width": 32, "loss": "a", "base": 64}
    population = PopulationBasedTraining(
        [config] * 2, 9999, 1, factors=[0.5, 2.0], seed=0, space=SPACE
    )
    population.start()
    seen = {name: set() for name in SPACE}
    for step in range(1, 120):
        better = step % 2
        moves = finished_round(population, step, [float(better), float(1 - better)])
        for name, schedule in moves[better].config.items():
            seen[name].add(schedule(step))

    for name, distribution in SPACE.items():
        for value in seen[name]:
            assert Space({name: distribution}).canonical({name: value})[name] == value
    assert seen["depth"] >= {1, 2, 4, 8}
    assert seen["loss"] == {"a", "b", "c"}
    assert seen["width"] >= {16, 32, 64}
    assert max(seen["drop"]) == 0.9


@pytest.mark.parametrize(("value", "next_one"), [(2, 3), (-2, -3)])
def test_an_integer_moves_at_least_to_its_neighbour(value, next_one):
    configs = [{"depth": value}, {"depth": value}]
    space = {"depth": Int(-8, 8)}
    population = PopulationBasedTraining(configs, 20, 10, factors=[1.2], seed=0, space=space)
    population.start()
    moves = finished_round(population, 10, [1.0, 0.0])
    assert [moves[1].config["depth"](step) for step in (9, 10)] == [value, next_one]


def test_without_a_space_integers_and_choices_stay():
    population = PopulationBasedTraining([{"n": 3, "loss": "a"}] * 2, 20, 10, seed=0)
    population.start()
    assert finished_round(population, 10, [1.0, 0.0])[1].config == {"n": 3, "loss": "a"}


def test_a_chance_above_one_is_refused():
    with pytest.raises(ConfigurationError, match="resample must be"):
        PopulationBasedTraining(CONFIGS, 20, every=10, resample=1.5)
