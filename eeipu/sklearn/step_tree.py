"""Which parts of an estimator become stages of their own, and whose the hyper-parameters are.

A pipeline is split into its steps. A `ColumnTransformer` or `FeatureUnion` is split into its
transformers, and a pipeline inside into its steps, where hyper-parameters lie in it: without any,
all of it is reused or nothing is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

from eeipu.errors import ConfigurationError, SpaceError
from eeipu.sklearn.hyper_parameters import HyperParameter
from eeipu.sklearn.joins import REMAINDER

__all__ = ["WHOLE", "StepNode", "step_tree"]

WHOLE = ""
"""Stands among the hyper-parameters of a part for the one that replaces all of it."""

_LISTS = {"transformers", "transformer_list"}
"""The hyper-parameters that say which parts there are."""

Params = Mapping[str, HyperParameter]


@dataclass(frozen=True)
class StepNode:
    """An estimator, or a part of one.

    Attributes:
        path: Its name and before it those of what it lies in; empty for the outermost one.
        estimator: The estimator; or `None`, `"passthrough"` or `"drop"`.
        params: Its own hyper-parameters, by their names without its name in front.
        parts: What it is split into, in order; none where it is one stage.
    """

    path: tuple[str, ...]
    estimator: Any
    params: Params = field(default_factory=dict)
    parts: "tuple[StepNode, ...]" = ()

    @property
    def name(self) -> str:
        """scikit-learn's name of it; "" for the outermost one."""
        return "__".join(self.path)

    @property
    def is_idle(self) -> bool:
        """Whether it passes its data on or drops it, whatever the hyper-parameters are."""
        return _is_idle(self.estimator) and not self.params

    @property
    def is_sequence(self) -> bool:
        """Whether its parts come one after another, and not side by side."""
        return isinstance(self.estimator, Pipeline)

    @property
    def branches(self) -> "tuple[StepNode, ...]":
        """The parts that stages compute."""
        return tuple(each for each in self.parts if not each.is_idle)

    @property
    def stages(self) -> int:
        """How many stages it becomes."""
        if not self.parts:
            return int(not self.is_idle)
        return sum(each.stages for each in self.parts) + (not self.is_sequence)

    def nodes(self) -> "Iterator[StepNode]":
        """The node itself and all that is in it."""
        yield self
        for each in self.parts:
            yield from each.nodes()


def step_tree(estimator: Any, given: Params) -> StepNode:
    """The parts of an estimator.

    Args:
        estimator: A pipeline, or another estimator.
        given: scikit-learn's name -> hyper-parameter.

    Raises:
        SpaceError: A name is not one of the estimator's hyper-parameters.
        ConfigurationError: The last step of the pipeline cannot be scored.
    """
    if not isinstance(estimator, Pipeline):
        _check_names(estimator, given, None)
        return StepNode((), estimator, given)
    steps = list(estimator.steps)
    if not steps or _is_idle(steps[-1][1]):
        raise ConfigurationError(
            f"the last step of the pipeline must be an estimator that can be scored, but the "
            f"steps are {[name for name, _ in steps]} and the last passes the data on."
        )
    _check_names(estimator, given, {name for name, _ in steps})
    _, inner = _shared_out(given, dict(steps))
    parts = [_node((n,), each, inner[n], each is steps[-1][1]) for n, each in steps]
    return StepNode((), estimator, {}, tuple(parts))


def _check_names(estimator: Any, given: Params, steps: set[str] | None) -> None:
    known = estimator.get_params(deep=True)
    for name in given:
        pieces = name.split("__")
        above = ("__".join(pieces[:k]) for k in range(1, len(pieces)))
        is_known = name in known or any(each in given for each in above)
        if not is_known or not (steps is None or pieces[0] in steps):
            names = [each for each in known if each.startswith(f"{pieces[0]}__")] or list(known)
            raise SpaceError(
                f"{name!r} is not a hyper-parameter of the estimator; scikit-learn joins the names "
                f"of steps and parameters by two underscores, and knows {names}."
            )


def _node(path: tuple[str, ...], estimator: Any, given: Params, is_last: bool) -> StepNode:
    """A part of the estimator.

    Args:
        path: Its name and before it those of what it lies in.
        estimator: The part.
        given: Its hyper-parameters and those of what is in it.
        is_last: Whether it gives the predictions.
    """
    whole = StepNode(path, estimator, given)
    parts = _parts(estimator)
    own, inner = _shared_out(given, parts)
    if not given or not parts or own.keys() & {WHOLE, *_LISTS}:
        return whole
    last = list(parts)[-1]
    is_sequence = isinstance(estimator, Pipeline)
    if (own or (is_last and _is_idle(parts[last]))) if is_sequence else is_last:
        return whole
    split = StepNode(
        path,
        estimator,
        own,
        tuple(
            _node((*path, part), each, inner[part], is_last and part == last)
            for part, each in parts.items()
        ),
    )
    # A single stage beside its join would be run with it each time.
    return split if is_sequence or sum(each.stages for each in split.parts) > 1 else whole


def _shared_out(
    given: Params, parts: Mapping[str, Any]
) -> tuple[dict[str, HyperParameter], dict[str, dict[str, HyperParameter]]]:
    """An estimator's own hyper-parameters, and those of each of its parts."""
    own: dict[str, HyperParameter] = {}
    inner: dict[str, dict[str, HyperParameter]] = {part: {} for part in parts}
    for name, each in given.items():
        part, _, rest = name.partition("__")
        if part in parts:
            inner[part][rest or WHOLE] = each
        else:
            own[name] = each
    return own, inner


def _parts(estimator: Any) -> dict[str, Any]:
    """The parts of an estimator that can be stages, by their names.

    A class of the user's own that is derived from scikit-learn's may do anything else with its
    parts, so it has none here. Nor has one whose list scikit-learn will refuse.
    """
    kind = type(estimator)
    listed: list[tuple[str, Any]] = []
    try:
        if kind is Pipeline:
            listed = [] if getattr(estimator, "transform_input", None) else estimator.steps
        elif kind is FeatureUnion:
            listed = estimator.transformer_list
        elif kind is ColumnTransformer:
            listed = [(name, each) for name, each, _ in estimator.transformers]
        found = dict(listed)
    except (TypeError, ValueError):
        return {}
    if len(found) < len(listed) or any(not isinstance(name, str) or not name for name in found):
        return {}
    if kind is ColumnTransformer and not isinstance(estimator.remainder, str):
        found[REMAINDER] = estimator.remainder
    return found


def _is_idle(estimator: Any) -> bool:
    return estimator is None or isinstance(estimator, str)
