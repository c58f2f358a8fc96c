"""The rules of a tuner: which algorithm follows them, and when it asks for configurations."""

from itertools import count, cycle, islice

import pytest

from eeipu import ASHA, Float, Hyperband, MedianStopping, PopulationBased, SuccessiveHalving
from eeipu.algorithms.early_stopping import NoStopping, Pruning, Setting
from eeipu.algorithms.full_training import StepByStep
from eeipu.algorithms.halving import Brackets
from eeipu.algorithms.moves import Ask, Stop
from eeipu.errors import ConfigurationError


def setting(configs=None, concurrency=2, steps=27, should_prune=bool):
    source = ({"lr": i / 100} for i in count()) if configs is None else iter(configs)
    return Setting(source, steps, concurrency, {"lr": Float(0.0, 1.0)}, 0, should_prune)


def play(algorithm, value=lambda config, step: config["lr"], most=2000):
    """Answer every question at once, in order: the steps that each trial was trained to."""
    asked, reached, stopped = list(algorithm.start()), {}, []
    while asked and most:
        move, most = asked.pop(0), most - 1
        if isinstance(move, Stop):
            stopped.append(move.trial)
            continue
        reached.setdefault(move.trial, []).append(move.step)
        asked += algorithm.tell(move.trial, move.step, value(move.config, move.step))
    return reached


def configs(n):
    return [{"lr": i / 100} for i in range(n)]


@pytest.mark.parametrize(
    "rule",
    [NoStopping(), ASHA(), SuccessiveHalving(), Hyperband(), MedianStopping(), Pruning(None)],
    ids=lambda rule: type(rule).__name__,
)
def test_configurations_are_asked_for_when_a_worker_has_room(rule):
    drawn = []

    def draw():
        for config in configs(27):
            drawn.append(config)
            yield config

    algorithm = rule.algorithm(setting(draw(), concurrency=3))
    first = [move for move in algorithm.start() if isinstance(move, Ask)]
    assert len(first) == len(drawn) == 3
    list(algorithm.tell(0, first[0].step, None))
    assert len(drawn) == 4


def test_brackets_follow_one_another_while_there_are_configurations():
    reached = play(SuccessiveHalving(min_steps=3).algorithm(setting(configs(20))))
    ends = [max(steps) for _, steps in sorted(reached.items())]
    # Two brackets of nine trials, whose best are the last, and one of the two that are left.
    assert ends == [3] * 6 + [9] * 2 + [27] + [3] * 6 + [9] * 2 + [27] + [3] + [27]


def test_hyperband_has_brackets_of_several_kinds_again_and_again():
    reached = play(Hyperband(min_steps=3).algorithm(setting(configs(40))))
    firsts = [steps[0] for _, steps in sorted(reached.items())]
    assert firsts == list(islice(cycle([3] * 9 + [9] * 5 + [27] * 3), 40))


def test_a_population_takes_its_members_once():
    algorithm = PopulationBased(size=4, every=9).algorithm(setting())
    reached = play(algorithm, value=lambda config, step: float(step))
    assert reached == {member: [9, 18, 27] for member in range(4)}


def test_step_by_step_stops_where_somebody_else_says_so():
    algorithm = StepByStep(configs(3), 9, 3, should_stop=lambda trial: trial == 1)
    assert play(algorithm) == {0: [3, 6, 9], 1: [3], 2: [3, 6, 9]}


@pytest.mark.parametrize(
    "rule",
    [ASHA(min_steps=28), ASHA(reduction=1.0), Hyperband(min_steps=0), MedianStopping(every=28)],
)
def test_a_rule_that_does_not_fit_the_steps_is_refused(rule):
    with pytest.raises(ConfigurationError):
        rule.algorithm(setting())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ASHA(min_steps=28), r"min_steps must be in 1\.\.27.* got min_steps=28"),
        (Hyperband(reduction=1), r"reduction must be above 1, but got reduction=1\."),
        (MedianStopping(min_steps=28), r"min_steps must be in 0\.\.27"),
        (MedianStopping(every=28), r"every must be in 1\.\.27.* got every=28"),
        (PopulationBased(every=0), "got every=0"),
        (PopulationBased(factors=()), r"positive, but got factors=\(\)"),
        (PopulationBased(factors=(0.0, 2.0)), "must be positive"),
    ],
)
def test_what_is_refused_is_named_as_the_rule_names_it(rule, message):
    with pytest.raises(ConfigurationError, match=message):
        rule.algorithm(setting())


def test_a_bracket_without_trials_is_refused():
    with pytest.raises(ConfigurationError, match="at least one trial"):
        SuccessiveHalving(trials=0).algorithm(setting())


def test_brackets_end_with_their_shapes():
    assert play(Brackets(configs(9), [(3, [1, 3])], 3.0, 2)) == {0: [1], 1: [1], 2: [1, 3]}
