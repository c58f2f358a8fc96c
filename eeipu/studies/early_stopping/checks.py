"""Checks of what is asked of a tuner whose trainings may stop early, before any work begins."""

from typing import Any

from optuna.pruners import BasePruner, NopPruner

from eeipu.algorithms.early_stopping import (
    EarlyStopping,
    FreezeThaw,
    NoStopping,
    PopulationBased,
    Pruning,
    Setting,
)
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.pipeline import Pipeline
from eeipu.stages.iterative import IterativeStage
from eeipu.studies.early_stopping.trial_paths import (
    TrialPaths,
    counted_stages,
    iterative_stages,
)

__all__ = ["check_metrics", "checked_rule", "pruner_of"]


def checked_rule(
    early_stopping: Any, pipeline: Pipeline, *, has_cache: bool
) -> EarlyStopping | None:
    """The rule that a tuner's argument `early_stopping` stands for.

    Args:
        early_stopping: The argument.
        pipeline: The pipeline that is tuned.
        has_cache: Whether the tuner has a cache.

    Returns:
        The rule; `None` where there is nothing to train in stretches.

    Raises:
        ConfigurationError: It is no rule, or does not go together with the other arguments.
        PipelineError: No stage of the pipeline trains in steps.
    """
    trained = iterative_stages(pipeline)
    lost = _lost_output(pipeline)
    is_single = len(pipeline.objectives) == 1
    if early_stopping is None:
        return NoStopping() if trained and has_cache and lost is None and is_single else None
    if not is_single:
        raise ConfigurationError(
            f"early_stopping compares trials by one value, and the pipeline has the objectives "
            f"{list(pipeline.objectives)}; name one of them, or leave early_stopping out."
        )
    rule = Pruning(early_stopping) if isinstance(early_stopping, BasePruner) else early_stopping
    rule = FreezeThaw() if isinstance(rule, str) and rule == "model" else rule
    if isinstance(rule, type) or not isinstance(rule, EarlyStopping):
        raise ConfigurationError(
            f'early_stopping must be a rule such as eeipu.ASHA(min_steps=3), "model", a pruner of '
            f"Optuna's, or None, but got {early_stopping!r}."
        )
    if not trained:
        raise PipelineError(
            f"early_stopping needs a stage that trains in steps, and the stages "
            f"{list(pipeline.stage_names)} do not; make one with eeipu.torch_training(...) or "
            f"eeipu.iterative(...)."
        )
    if lost is not None:
        raise ConfigurationError(
            f"early_stopping needs the cache where several stages get one output, and that of "
            f"stage {lost!r} is not kept (memoize=False, here or above it); let it be memoized, "
            f"or leave early_stopping out."
        )
    if not has_cache:
        raise ConfigurationError(
            "early_stopping needs a cache, where the checkpoints are from which a trial goes on; "
            "leave cache out, or give a StageCache."
        )
    paths = TrialPaths(pipeline, "")
    if isinstance(rule, PopulationBased):
        _check_explorable(paths, pipeline)
    if isinstance(rule, FreezeThaw):
        _check_chain(pipeline)
    rule.algorithm(Setting(iter([{}] * 2), paths.steps, 2, paths.space, 0, bool))
    return rule


def check_metrics(pipeline: Pipeline) -> None:
    """Check that the objective is a metric that a training gives, where these are known before.

    Raises:
        PipelineError: It is none of them, or none is named.
    """
    for place in pipeline.graph.ends or (len(pipeline.stages) - 1,):
        stage = pipeline.stages[place]
        known = stage.metrics if isinstance(stage, IterativeStage) else ()
        unknown = [name for name in pipeline.objectives if name not in known]
        if not known or not unknown:
            continue
        is_unnamed = unknown[0] is None
        why = "none of them is named as the objective" if is_unnamed else f"{unknown[0]!r} is none"
        raise PipelineError(
            f"the last stage, {stage.name!r}, gives the metrics {list(known)}, and {why}; name one "
            f"with Pipeline(stages, objective={known[0]!r}), or add a stage that makes a number of "
            f"them."
        )


def _lost_output(pipeline: Pipeline) -> str | None:
    """A stage whose output no cache keeps and several stages get, if there is one.

    A plan would run it once for each of them, and they might get different outputs.
    """
    for stage, memoized, takers in zip(
        pipeline.stages, pipeline.memoizes, pipeline.graph.needed_by, strict=True
    ):
        if not memoized and len(takers) > 1:
            return stage.name
    return None


def _check_chain(pipeline: Pipeline) -> None:
    """Check that the model of learning curves knows the pipeline's form.

    Raises:
        ConfigurationError: It is a graph, or has alternatives.
    """
    if pipeline.layout.places or not pipeline.graph.is_chain:
        raise ConfigurationError(
            'early_stopping="model" knows the costs of stages that stand in a chain, and '
            "this pipeline is a graph or has alternatives; choose another rule, such as "
            "eeipu.ASHA()."
        )


def _check_explorable(paths: TrialPaths, pipeline: Pipeline) -> None:
    """Check that the members of a population can change what they are trained with."""
    counted = counted_stages(pipeline)
    places = [pipeline.stages.index(stage) for stage in counted]
    if any(pipeline.layout.chosen_by[place] for place in places):
        names = [stage.name for stage in counted]
        raise ConfigurationError(
            f"population-based training changes the hyper-parameters of one stage while it trains, "
            f"and {names} are alternatives; choose one of them, or another rule such as "
            f"eeipu.ASHA()."
        )
    stage = counted[-1]
    fixed = [name for name in stage.space if name not in stage.templates]
    if fixed or not paths.space:
        raise ConfigurationError(
            f"population-based training changes the hyper-parameters of stage {stage.name!r} while "
            f"it trains, and {fixed or 'none of them'} can be changed; give the stage's space "
            f"distributions, and no schedules: what members do is a schedule."
        )


def pruner_of(rule: EarlyStopping | None) -> BasePruner:
    """The pruner that a study gets from a rule."""
    return rule.pruner if isinstance(rule, Pruning) else NopPruner()
