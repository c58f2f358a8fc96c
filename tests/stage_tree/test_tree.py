"""Stage trees: laws of merging, and what they say of themselves."""

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eeipu.errors import ConfigurationError
from eeipu.stage_tree.tree import StageTree
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Constant, Cosine, Function, MultiStep

LENGTH = 8


def train(lr, steps=90, **schedules):
    return Path().train("fit", "v", {"lr": lr, **schedules}, steps)


@st.composite
def paths(draw):
    """A plain stage, some training, perhaps an evaluation; few values, so that much is shared."""
    values = draw(st.lists(st.sampled_from([0.1, 0.2]), min_size=1, max_size=LENGTH))
    path = Path().call("prep", "v", {"dims": draw(st.sampled_from([8, 9]))})
    path = path.train("fit", "v", {"lr": Function(values.__getitem__)}, len(values))
    return path.evaluate("fit", "v") if draw(st.booleans()) else path


forests = st.lists(paths(), min_size=1, max_size=6)


def ends(tree):
    return {node.key for node in tree}


# --- laws -----------------------------------------------------------------------------------


@given(forests, st.randoms(use_true_random=False))
def test_the_order_of_insertion_is_irrelevant(forest, random):
    shuffled = random.sample(forest, len(forest))
    assert StageTree.build(shuffled) == StageTree.build(forest)


@given(forests)
def test_nodes_equal_distinct_prefixes(forest):
    tree = StageTree.build(forest)
    # Prefixes end at the cuts of any path through them, and where two paths part.
    cut = {path.key(position) for path in forest for position in path.cuts}
    for one in forest:
        for other in forest:
            limit = min(len(one), len(other)) + 1
            shared = [p for p in range(limit) if one.key(p) == other.key(p)]
            cut.add(one.key(max(shared)))
    assert ends(tree) == cut - {""}
    assert len(tree) == len(list(tree)) == len(ends(tree))


@given(forests)
def test_distinct_steps_equal_distinct_positions(forest):
    tree = StageTree.build(forest)
    positions = {
        path.key(p) for path in forest for p in range(1, len(path) + 1) if path.steps(p - 1, p) > 0
    }
    assert tree.distinct_steps == len(positions)


@given(forests)
def test_merged_work_never_exceeds_separate_work(forest):
    tree = StageTree.build(forest)
    assert tree.distinct_steps <= tree.requested_steps == sum(p.steps(0, len(p)) for p in forest)
    assert tree.merge_rate >= 1.0


@given(forests)
def test_every_node_continues_its_parent(forest):
    for node in StageTree.build(forest):
        assert node.start == node.parent.stop < node.stop
        assert node.path.key(node.start) == node.parent.key
        assert node.path.key(node.stop) == node.key


@given(forests, forests)
def test_merging_trees_is_building_them_together(one, other):
    a = StageTree.build({("a", i): path for i, path in enumerate(one)})
    b = StageTree.build({("b", i): path for i, path in enumerate(other)})
    merged = a.merge(b)
    assert merged == StageTree.build([*one, *other])
    assert merged.requested_steps == a.requested_steps + b.requested_steps


@given(forests)
def test_the_critical_path_is_the_costliest_of_all(forest):
    tree = StageTree.build(forest)

    def cost(node):
        return 1.0 + len(node.stretches) * int(node.key[:2], 16)

    found = tree.critical_path(cost)
    brute = max(sum(cost(node) for node in end.ancestry()) for end in tree)
    assert found.cost == pytest.approx(brute)
    assert sum(map(cost, found.nodes)) == pytest.approx(brute)
    assert all(b.parent is a for a, b in pairwise(found.nodes))


@given(forests, st.integers(0, 99), st.integers(1, 99))
def test_a_split_keeps_keys_and_work(forest, which, where):
    tree = StageTree.build(forest)
    before, steps = ends(tree), tree.distinct_steps
    node = list(tree)[which % len(tree)]
    if node.stop - node.start < 2:
        return
    position = node.start + 1 + where % (node.stop - node.start - 1)
    upper = tree.split(node, position)
    assert ends(tree) == before | {upper.key}
    assert tree[upper.key] is upper is node.parent
    assert tree.distinct_steps == steps


# --- examples -------------------------------------------------------------------------------


def test_trials_share_up_to_where_they_part():
    tree = StageTree.build([train(MultiStep(0.1, [30])), train(MultiStep(0.1, [60]))])
    spans = sorted((node.start, node.stop) for node in tree)
    assert spans == [(0, 30), (30, 60), (30, 90), (60, 90)]
    assert (tree.requested_steps, tree.distinct_steps) == (180, 150)
    assert tree.merge_rate == pytest.approx(1.2)


def test_a_later_trial_splits_a_smooth_stretch_where_it_leaves_it():
    cosine = Cosine(0.1, 0.0, 90)
    tree = StageTree.build([train(cosine)])
    tree.add(train(Function(lambda step: cosine(step) if step < 40 else 0.5)), trial="mine")
    assert sorted((node.start, node.stop) for node in tree) == [(0, 40), (40, 90), (40, 90)]


def test_a_trial_that_asks_for_more_counts_once():
    tree = StageTree()
    path = train(Constant(0.1))
    for stop in (30, 90, 60):
        tree.add(path, stop, trial=0)
    assert (tree.requested_steps, tree.distinct_steps, len(tree)) == (90, 90, 3)


def test_an_empty_tree_has_nothing_to_merge():
    tree = StageTree()
    assert (len(tree), tree.merge_rate, tree.critical_path().cost) == (0, 1.0, 0.0)
    assert tree.critical_path().nodes == ()


def test_nodes_are_found_by_key():
    path = train(Constant(0.1))
    tree = StageTree.build([path])
    assert path.key(90) in tree
    assert path.key(30) not in tree
    assert tree[path.key(90)].steps == 90


def test_the_critical_path_counts_steps_by_default():
    tree = StageTree.build([train(0.1, 50), train(0.2, 70)])
    assert tree.critical_path().cost == 70


def test_trees_compare_with_trees_only():
    assert StageTree() != []


def text(tree):
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(tree)
    return console.file.getvalue()


def test_a_tree_draws_itself():
    one = Path().call("prep", "v", {"dims": 8}).train("fit", "v", {"lr": MultiStep(0.5, [30])}, 60)
    two = Path().call("prep", "v", {"dims": 8}).train("fit", "v", {"lr": Cosine(1.0, 0.0, 60)}, 60)
    drawn = text(StageTree.build([one, two.evaluate("fit", "v")]))
    assert "2 trials, 5 nodes, 122 steps requested, 121 distinct: merge rate 1.01" in drawn
    assert "prep dims=8  x2" in drawn
    assert "fit [0, 30) lr=0.5  x1" in drawn
    assert "fit [0, 60) lr=1.0.." in drawn
    assert "fit evaluation  x1" in drawn


def test_nodes_show_what_they_do():
    tree = StageTree.build([train(0.1)])
    assert repr(next(iter(tree))) == "Node('fit [0, 90) lr=0.1')"
    assert repr(tree.root) == "Node('inputs')"


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 91])
def test_a_position_off_the_path_is_refused(stop):
    with pytest.raises(ConfigurationError, match=f"position {stop} does not lie on"):
        StageTree().add(train(0.1), stop)


@pytest.mark.parametrize("position", [0, 90])
def test_a_split_needs_a_position_inside(position):
    tree = StageTree.build([train(0.1)])
    with pytest.raises(ConfigurationError, match=f"position {position} does not lie inside"):
        tree.split(next(iter(tree)), position)


def test_trees_with_a_trial_of_the_same_name_do_not_merge():
    with pytest.raises(ConfigurationError, match="two trees have a trial 0"):
        StageTree.build([train(0.1)]).merge(StageTree.build([train(0.2)]))
