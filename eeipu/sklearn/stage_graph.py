"""The stages that the parts of an estimator become, joined into a graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from sklearn import get_config
from sklearn.compose import ColumnTransformer

from eeipu.sklearn.columns import Selection
from eeipu.sklearn.fold_stages import (
    STEP,
    FirstStep,
    FoldScore,
    FoldTransform,
    LaterStep,
    Step,
    Work,
)
from eeipu.sklearn.folds import Splitting
from eeipu.sklearn.hyper_parameters import HyperParameter
from eeipu.sklearn.joins import REMAINDER, FoldJoin
from eeipu.sklearn.step_tree import StepNode
from eeipu.stages.declaration import INPUTS, Source, Stage
from eeipu.stages.decorator import stage

__all__ = ["StageGraph", "stages_of"]

_USUAL = {
    "array_api_dispatch": False,
    "assume_finite": False,
    "enable_metadata_routing": False,
    "transform_output": "default",
}
"""scikit-learn's configuration as far as it says what estimators make, and how it is at first."""


@dataclass(frozen=True)
class _Origin:
    """Where the data of a stage comes from.

    Attributes:
        sources: What the stage gets besides branches; none for the first stage.
        selections: What it works on, of that.
    """

    sources: tuple[Source, ...] = ()
    selections: tuple[Selection, ...] = ()

    @property
    def is_raw(self) -> bool:
        """Whether the data has yet to be split."""
        return INPUTS in self.sources


@dataclass
class StageGraph:
    """Stages as they are made.

    Attributes:
        splitting: How the data is split.
        scoring: Makes the work of the last stage, of its step.
        num_cpus: CPU cores that a call of a stage takes.
        rows_name: The name of the stage that splits the data, where several branches begin with it.
        stages: The stages, in an order in which everything comes before its use.
        hyper_parameters: What the stages call a hyper-parameter, `"clf.C"` -> what it is.
    """

    splitting: Splitting
    scoring: Callable[[Step], FoldScore]
    num_cpus: float
    rows_name: str = "folds"
    stages: list[Stage] = field(default_factory=list)
    hyper_parameters: dict[str, HyperParameter] = field(default_factory=dict)

    def add(
        self, node: StepNode, origin: _Origin, *, is_last: bool = False, **role: bool
    ) -> _Origin:
        """Add the stages of a part.

        Args:
            node: The part.
            origin: Where its data comes from.
            is_last: Whether it gives the predictions.
            role: What `FoldTransform` has to know of it.

        Returns:
            Where the data is that it has made.
        """
        if node.parts and node.is_sequence:
            for each in node.parts:
                origin = self.add(each, origin, is_last=is_last and each is node.parts[-1])
            return origin
        if node.parts:
            return self._add_join(node, origin)
        if node.is_idle:
            return origin
        step = _step_of(node)
        work = self.scoring(step) if is_last else FoldTransform(step, **role)
        return self._add_stage(node, work, origin)

    def add_first(self, root: StepNode) -> None:
        """Add all stages."""
        origin = _Origin()
        for each in root.parts or (root,):
            is_last = each is (root.parts or (root,))[-1]
            origin = self.add(each, origin, is_last=is_last, resamples=not is_last)

    def _add_join(self, node: StepNode, origin: _Origin) -> _Origin:
        if not origin.sources:
            self.stages.append(stage(self.splitting.rows, name=self.rows_name, inputs=INPUTS))
            origin = _Origin((self.rows_name, INPUTS))
        ends = []
        for each in node.branches:
            inside = replace(origin, selections=(*origin.selections, _selection(node, each)))
            (end,) = self.add(each, inside, is_branch=True).sources
            ends.append(end)
        names = tuple(each.path[-1] for each in node.branches)
        return self._add_stage(node, FoldJoin(_step_of(node), names), origin, ends)

    def _add_stage(
        self, node: StepNode, work: Work, origin: _Origin, branches: Sequence[Source] = ()
    ) -> _Origin:
        config = {
            name: each for name, each in get_config().items() if each != _USUAL.get(name, each)
        }
        splitting = self.splitting if origin.is_raw else None
        function: FirstStep | LaterStep = (
            LaterStep(work, len(branches), splitting, origin.selections, config)
            if origin.sources
            else FirstStep(work, self.splitting, config)
        )
        name = self._free_name(node.name or type(node.estimator).__name__.lower())
        self.stages.append(
            stage(
                function,
                space={param or STEP: each.distribution for param, each in node.params.items()},
                name=name,
                num_cpus=self.num_cpus,
                inputs=(*branches, *origin.sources) or None,
            )
        )
        for param, each in node.params.items():
            self.hyper_parameters[f"{name}.{param or STEP}"] = each
        return _Origin((name,))

    def _free_name(self, wanted: str) -> str:
        """A name that a stage may have: without dots, and that no other one has."""
        wanted = name = wanted.replace(".", "_")
        taken = {each.name for each in self.stages}
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        return name


def stages_of(
    root: StepNode, splitting: Splitting, scoring: Callable[[Step], FoldScore], num_cpus: float
) -> StageGraph:
    """The stages of an estimator.

    Args:
        root: The estimator with its parts.
        splitting: How the data is split.
        scoring: Makes the work of the last stage, of its step.
        num_cpus: CPU cores that a call of a stage takes.
    """
    names = {each.name.replace(".", "_") for each in root.nodes()}
    rows_name = next(
        n for n in chain(["folds"], map("folds_{}".format, count(2))) if n not in names
    )
    graph = StageGraph(splitting, scoring, num_cpus, rows_name)
    graph.add_first(root)
    return graph


def _step_of(node: StepNode) -> Step:
    labelled = {
        param or STEP: each.labelled for param, each in node.params.items() if each.labelled
    }
    return Step(node.name, node.estimator, labelled)


def _selection(node: StepNode, branch: StepNode) -> Selection:
    """What a branch gets of the data of a `ColumnTransformer` or a `FeatureUnion`."""
    if not isinstance(node.estimator, ColumnTransformer):
        return Selection()
    columns: dict[str, Any] = {name: each for name, _, each in node.estimator.transformers}
    own = branch.path[-1]
    is_remainder = own == REMAINDER and own not in columns
    return (
        Selection.remainder(list(columns.values()))
        if is_remainder
        else Selection.columns(columns[own])
    )
