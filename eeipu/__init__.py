"""Hyper-parameter optimisation of expensive, multi-stage machine-learning pipelines.

`eeipu` learns what each stage of a pipeline costs, remembers stage outputs, and spends a fixed
budget on the candidates that promise the most improvement per unit of cost, given what is
already computed (EEIPU; Essofi et al. 2024, arXiv 2411.03731).

The house: modules are front doors with the public names, folders (with a slash) are rooms.

    tuner, sampler                 tune until the budget is spent; the same as an Optuna sampler
    pipeline, space                stages joined, with one search space; kinds of hyper-parameters
    cache                          the stage outputs that are kept
    acquisition, cost_models       the mathematics of EEIPU, on BoTorch
    errors, __main__, commands/    the tree of exceptions; the command line and its groups
    studies/ algorithms/           an Optuna study of a pipeline; searches that stop trials early
    methods/ models/               how the next candidate is chosen; the Gaussian processes
    stages/ stage_tree/ executors/ stages and their calls; trials as one tree; where calls run
    caching/ fingerprints/ serialization/    behind the cache: stores, keys, values as bytes
    spaces/                        distributions, the unit cube, constraints and what they allow
    report/ benchmarks/            pictures and pages of studies; comparisons of methods
    html_tables, html_drawings     what objects show of themselves in a notebook
    sklearn/                       pipelines of scikit-learn as pipelines of stages

The public names load on first use, so that importing `eeipu` in a worker process or a shell
completion does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eeipu.algorithms.early_stopping import (
        ASHA,
        FreezeThaw,
        Hyperband,
        MedianStopping,
        PopulationBased,
        SuccessiveHalving,
    )
    from eeipu.cache import IN_MEMORY, CacheStats, StageCache
    from eeipu.errors import (
        BudgetTooSmall,
        CacheAccessError,
        CacheFormatError,
        CacheMiss,
        ConfigurationError,
        EeipuError,
        MissingExtraError,
        NothingWorthwhile,
        PipelineError,
        SearchOver,
        SpaceError,
        SpaceExhausted,
        StorageError,
        StudyMismatchError,
        TrainingError,
        TransientError,
        WorkerMismatchError,
    )
    from eeipu.fingerprints.values import Fingerprinted
    from eeipu.pipeline import (
        INPUTS,
        OneOf,
        Optional,
        Pipeline,
        PipelineRun,
        Stage,
        StageRun,
        stage,
    )
    from eeipu.sampler import EEIPUSampler
    from eeipu.space import Categorical, Float, Int
    from eeipu.stage_tree.tree import StageTree
    from eeipu.stages.iterative import Training, iterative
    from eeipu.stages.running.resuming import check_resuming
    from eeipu.stages.torch_training.stage import torch_training
    from eeipu.tuner import Recommendation, Suggestion, Tuner

__version__ = "0.2.0"

_HOMES = {
    "algorithms.early_stopping": [
        "ASHA",
        "FreezeThaw",
        "Hyperband",
        "MedianStopping",
        "PopulationBased",
        "SuccessiveHalving",
    ],
    "cache": ["IN_MEMORY", "CacheStats", "StageCache"],
    "fingerprints.values": ["Fingerprinted"],
    "errors": [
        "BudgetTooSmall",
        "CacheAccessError",
        "CacheFormatError",
        "CacheMiss",
        "ConfigurationError",
        "EeipuError",
        "MissingExtraError",
        "NothingWorthwhile",
        "PipelineError",
        "SearchOver",
        "SpaceError",
        "SpaceExhausted",
        "StorageError",
        "StudyMismatchError",
        "TrainingError",
        "TransientError",
        "WorkerMismatchError",
    ],
    "pipeline": [
        "INPUTS",
        "OneOf",
        "Optional",
        "Pipeline",
        "PipelineRun",
        "Stage",
        "StageRun",
        "stage",
    ],
    "sampler": ["EEIPUSampler"],
    "space": ["Categorical", "Float", "Int"],
    "stage_tree.tree": ["StageTree"],
    "stages.iterative": ["Training", "iterative"],
    "stages.running.resuming": ["check_resuming"],
    "stages.torch_training.stage": ["torch_training"],
    "tuner": ["Recommendation", "Suggestion", "Tuner"],
}
_HOME_OF = {name: f"eeipu.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "ASHA",
    "INPUTS",
    "IN_MEMORY",
    "BudgetTooSmall",
    "CacheAccessError",
    "CacheFormatError",
    "CacheMiss",
    "CacheStats",
    "Categorical",
    "ConfigurationError",
    "EEIPUSampler",
    "EeipuError",
    "Fingerprinted",
    "Float",
    "FreezeThaw",
    "Hyperband",
    "Int",
    "MedianStopping",
    "MissingExtraError",
    "NothingWorthwhile",
    "OneOf",
    "Optional",
    "Pipeline",
    "PipelineError",
    "PipelineRun",
    "PopulationBased",
    "Recommendation",
    "SearchOver",
    "SpaceError",
    "SpaceExhausted",
    "Stage",
    "StageCache",
    "StageRun",
    "StageTree",
    "StorageError",
    "StudyMismatchError",
    "SuccessiveHalving",
    "Suggestion",
    "Training",
    "TrainingError",
    "TransientError",
    "Tuner",
    "WorkerMismatchError",
    "__version__",
    "check_resuming",
    "iterative",
    "stage",
    "torch_training",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'eeipu' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
