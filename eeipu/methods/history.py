"""The trials of a study as arrays.

Notation:
    n: trials that have run, successfully or not.
    d: hyper-parameters.
    X: `n x d`, points of the unit cube.
    values: `n`, objective values, *maximised*; NaN where the trial failed or was pruned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from eeipu.methods.budget import STUDY_ID, spent
from eeipu.methods.several_objectives.fronts import best_first
from eeipu.methods.trials.configurations import Configurations
from eeipu.methods.trials.forgotten_failures import forgotten_failures
from eeipu.methods.trials.ledger import CHANGES, Ledger
from eeipu.methods.trials.objectives import Objectives
from eeipu.methods.trials.outcomes import Outcomes
from eeipu.methods.trials.stage_records import StageRecords
from eeipu.pipeline import Pipeline

__all__ = ["History"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class History:
    """The trials of a study that have a configuration of a pipeline.

    Attributes:
        pipeline: The pipeline that is tuned.
        ended: The trials that succeeded, failed or were pruned, by number.
        running: The trials that have a configuration but no result yet.
        waiting: The trials that are enqueued with a configuration, and that nobody has begun.
        interrupted: The trials that were cut off; they run again under other numbers.
        forgotten: The trials whose failure no longer counts; they may run again.
        left_out: The trials that ended and have no configuration of this pipeline, with the reason.
        spent: The cost charged to the budget so far, for all trials of the study.
        are_minimized: Whether the study minimises each of its objectives, whose values change sign
            here if so.
        study_id: The study's own name, where it has one.
        former_stages: Pairs of a number and the names of the stages of all trials before it.
        ledger: What is remembered of them, which goes on with the study.
        objective: Which of several objectives `values` are those of.
    """

    pipeline: Pipeline
    ended: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]
    waiting: tuple[FrozenTrial, ...]
    interrupted: tuple[FrozenTrial, ...]
    forgotten: tuple[FrozenTrial, ...]
    left_out: tuple[tuple[FrozenTrial, str], ...]
    spent: float
    are_minimized: tuple[bool, ...]
    study_id: str | None
    former_stages: tuple[tuple[int, tuple[str, ...]], ...]
    ledger: Ledger = field(repr=False, compare=False)
    objective: int = 0

    @classmethod
    def of(
        cls,
        study: optuna.Study,
        pipeline: Pipeline,
        trials: Sequence[FrozenTrial] | None = None,
        ledger: Ledger | None = None,
    ) -> "History":
        """Read a study. Trials without a whole configuration of this pipeline are left out.

        Trials may have parameters besides the pipeline's, which plain Optuna users suggest.

        Args:
            study: The study.
            pipeline: The pipeline that it tunes.
            trials: All trials of the study, if the caller has just read them.
            ledger: The ledger of this study and pipeline, if it is read more than once.
        """
        if trials is None:
            trials = study.get_trials(deepcopy=False)
        ledger = Ledger(pipeline) if ledger is None else ledger
        # Not a copy, which would take longer than all else here.
        told = study._storage.get_study_user_attrs(study._study_id)
        changes, study_id = told.get(CHANGES, {}), told.get(STUDY_ID)
        with ledger.lock:
            ledger.read(trials, study_id, changes)
            ended, running, by_end = ledger.ended, ledger.running, ledger.sorted
            interrupted, waiting = tuple(by_end.interrupted), tuple(by_end.waiting)
            left_out, charged, has_failures = tuple(by_end.left_out), ledger.spent, ledger.failures
        gone = forgotten_failures(told, pipeline, ended) if has_failures else set()
        return cls(
            pipeline=pipeline,
            ended=tuple(trial for trial in ended if trial.number not in gone) if gone else ended,
            running=running,
            waiting=waiting,
            interrupted=interrupted,
            forgotten=tuple(trial for trial in ended if trial.number in gone) if gone else (),
            left_out=left_out,
            spent=charged,
            are_minimized=tuple(each is StudyDirection.MINIMIZE for each in study.directions),
            study_id=study_id,
            former_stages=tuple((end, tuple(names)) for end, names in changes.get("stages", ())),
            ledger=ledger,
        )

    def __len__(self) -> int:
        return len(self.ended)

    # --- What the trials are and have recorded

    @cached_property
    def X(self) -> Array:  # noqa: N802
        """The configurations that have run, `n x d`."""
        return self.ledger.arrays.X(self.ended)

    @cached_property
    def running_X(self) -> Array:  # noqa: N802
        """The configurations that are running, `m x d`."""
        return self.pipeline.cube.encode([trial.params for trial in self.running])

    @cached_property
    def configurations(self) -> Configurations:
        """Which configurations have run, are running or will run, and which are new."""
        return Configurations(
            self.ledger, self.ended, self.running, self.waiting, self.interrupted, self.forgotten
        )

    @cached_property
    def objectives(self) -> Objectives:
        """The values of all objectives, and which trials have them."""
        told = self.ledger.arrays.values(self.ended, len(self.are_minimized))
        return Objectives(self.ended, told, self.are_minimized)

    @cached_property
    def stages(self) -> StageRecords:
        """What the trials recorded of their stages: costs and observations."""
        return StageRecords(self.pipeline, self.ended, self.interrupted, self.former_stages)

    @cached_property
    def outcomes(self) -> Outcomes:
        """What the constraints on outcomes are about, and how far trials are beyond limits."""
        return Outcomes(self.stages)

    # --- How good they are, and what they cost

    @property
    def sign(self) -> float:
        """-1 if the study minimises the objective of `values`, otherwise 1."""
        return -1.0 if self.are_minimized[self.objective] else 1.0

    @property
    def values(self) -> Array:
        """The values of one objective, `n`; NaN for failed and pruned trials, and infinite ones."""
        return self.objectives.values[:, self.objective]

    @cached_property
    def feasible(self) -> Flags:
        """Which trials succeeded and are not known to be beyond a limit, `n`."""
        return self.objectives.succeeded & ~(self.outcomes.violations > 0).any(axis=1)

    @cached_property
    def best_first(self) -> NDArray[np.intp]:
        """The trials that succeeded, the best one first; see `eeipu.methods.several_objectives`."""
        return best_first(self.objectives.values, self.outcomes.violations)

    def top(self, q: int) -> tuple[FrozenTrial, ...]:
        """The best `q` trials that succeeded, best first; see `best_first`.

        Of those that have the same configuration, the best one counts.
        """
        identities = self.ledger.arrays.identities(self.ended)
        best: dict[tuple[float, ...], FrozenTrial] = {}
        for i in self.best_first:
            if len(best) == q:
                break
            best.setdefault(identities[i], self.ended[i])
        return tuple(best.values())

    def spent_by(self, count: int) -> float:
        """The cost charged for the first `count` trials and all that were enqueued as warm-up."""
        warm_up = [
            trial
            for position, trial in enumerate(self.ended)
            if position < count or trial.user_attrs.get("warm_up")
        ]
        return spent(warm_up, self.study_id)
