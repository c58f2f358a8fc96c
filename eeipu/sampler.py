"""The Optuna sampler: first a warm-up design, then the maximiser of a method's acquisition."""

import logging
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from eeipu.errors import ConfigurationError, SpaceError
from eeipu.methods.budget import Budget, check_one_unit, check_positive
from eeipu.methods.catalogue import Method, method_named
from eeipu.methods.history import History
from eeipu.methods.learning.fits import Refits
from eeipu.methods.proposals import (
    DONE,
    Proposals,
    check_affordable,
    check_not_done,
    check_worth_at,
    unseen,
)
from eeipu.methods.recommendation import Recommendation, best_believed
from eeipu.methods.search_models import SearchModels
from eeipu.methods.search_state import Search
from eeipu.methods.suggestion_batches import SuggestionsInStock
from eeipu.methods.transfer.earlier_trials import EarlierTrials
from eeipu.methods.warm_up import (
    LEARNT_TRIALS,
    USUAL_TRIALS,
    Design,
    design_for,
    prefix_sharing,
    within_budget,
)
from eeipu.models.devices import checked_device
from eeipu.pipeline import Pipeline
from eeipu.space import Params, cell_count
from eeipu.stages.running.limits import loaded_libraries

__all__ = ["EEIPUSampler", "Recommendation", "check_price", "recommended"]

logger = logging.getLogger("eeipu")

# With at least this many trials, torch may use all its threads for a suggestion.
THREADED_FROM = 500

# While many trials run, a maximisation makes one suggestion for every RUNNING_EACH of them. The
# last of these suggestions is then made with a sixteenth fewer of the others' results.
RUNNING_EACH = 16


def check_price(price: float) -> float:
    """The price of a unit of cost as a float.

    Raises:
        ConfigurationError: It is not a positive, finite number.
    """
    return check_positive(price, "the price of a unit of cost", "in the unit of the objective")


def _check_counts(counts: Mapping[str, Any], least: int) -> None:
    for name, count in counts.items():
        is_whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not is_whole or count < least:
            raise ConfigurationError(
                f"{name} must be a whole number >= {least}, but got {count!r}."
            )


# Four of its methods are Optuna's, and nine are what others say and ask.
class EEIPUSampler(BaseSampler):
    """Suggests the configurations of a pipeline that promise the most per unit of cost.

    `Tuner` makes one. On its own it serves a plain Optuna study: pass the trial to
    `pipeline.run(trial, ...)`, which records the stage costs that the sampler learns from.

    Args:
        pipeline: The pipeline to tune.
        budget: What all trials together may cost; it sets the pace of cost cooling.
        top_q: The number of best trials whose kept outputs are offered.
        n_initial: The number of trials in the warm-up design, before models are fitted. `None`:
            10, or fewer, but not fewer than 3, if these have cost a quarter of the budget (always
            10 for `"eeipu-paper"`).
        cache: Contains the content keys of the stage outputs that can be reused now; `None` if
            there never are any. See `reuse_from`.
        method: A name in `eeipu.methods.catalogue.METHODS`, or a method of one's own.
        seed: Makes suggestions repeatable, given the same trials. (Fits start from the result of
            the last one. Therefore a sampler that has seen a study grow may differ in the last
            digits from one that is given the grown study. It may differ by more if many trials
            run at once, because one maximisation then makes several suggestions.)
        device: Where models are fitted, `"cpu"` or a GPU such as `"cuda"`. `None`: on a GPU if this
            process uses one anyway and there are enough trials for it to be faster, otherwise on
            the CPU.
        learn_from: Earlier studies, or one, from whose trials the models begin; see
            `eeipu.methods.transfer`. Trials that are no configurations of the pipeline are left
            out. The warm-up is then shorter.

    Raises:
        ConfigurationError: An argument is out of range, or the method needs a chain and the
            pipeline is none.
        SpaceError: The method needs finitely many configurations, and there are more.
        PipelineError: Some stages declare their costs and others do not.

    Attributes:
        ordered: The configuration that is suggested next, where somebody else has chosen it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        budget: float | Budget,
        top_q: int = 5,
        n_initial: int | None = None,
        cache: Container[str] | None = None,
        method: str | Method = "eeipu",
        seed: int | None = None,
        device: str | torch.device | None = None,
        learn_from: optuna.Study | Iterable[optuna.Study] = (),
    ) -> None:
        _check_counts({"top_q": top_q}, 1)
        _check_counts({} if n_initial is None else {"n_initial": n_initial}, 1)
        _check_counts({} if seed is None else {"seed": seed}, 0)
        check_one_unit(pipeline)
        self.pipeline = pipeline
        self.budget = Budget.of(budget)
        self.top_q = top_q
        self.method = method if isinstance(method, Method) else method_named(method)
        if self.method.needs_finite and pipeline.cube.product is None:
            endless = next(n for n, d in pipeline.space.items() if cell_count(d) is None)
            raise SpaceError(
                f"method {self.method.name!r} needs finitely many configurations, and {endless!r} "
                f"is continuous; use Categorical, Int or Float(step=...), or another method."
            )
        self.method.check_suits(pipeline)
        self.earlier = EarlierTrials.in_studies(learn_from, pipeline)
        self._n_initial = self.method.n_initial if n_initial is None else n_initial
        self.device = checked_device(device)
        self.stored_space = self.pipeline.space  # as the study's storage knows it
        self._kept = cache
        self._keeps_last = True
        self._is_beside_workers = False
        self._entropy = np.random.SeedSequence(seed).entropy
        self._independent = RandomSampler(seed=seed)
        self._refits = Refits()
        self._stock = SuggestionsInStock()
        self._known: tuple[int, History] | None = None
        self._reasons: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._checked: Proposals | None = None
        self._has_said_done = False
        self.ordered: dict[str, Any] | None = None

    @property
    def n_initial(self) -> int:
        """The number of trials in the warm-up, if the budget is large enough for it."""
        knows_values = self.earlier is not None and self.earlier.know_values
        usual = LEARNT_TRIALS if knows_values else USUAL_TRIALS
        return usual if self._n_initial is None else self._n_initial

    def warm_up_trials(self, history: History) -> int:
        """The number of trials in the warm-up, given what those so far have cost."""
        if self._n_initial is None:
            return min(self.n_initial, within_budget(history, self.budget))
        return self._n_initial

    def reseed_rng(self) -> None:
        """Start from fresh randomness (Optuna calls this in parallel workers)."""
        self._entropy = np.random.SeedSequence().entropy
        self._independent.reseed_rng()
        self._stock.clear()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The space of the pipeline; all parameters are sampled jointly."""
        self.method.check_objectives(len(study.directions))
        fixed = trial.system_attrs.get("fixed_params", {})
        return {} if self.pipeline.cube.is_whole(fixed) else dict(self.stored_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value for a parameter that does not belong to the pipeline."""
        self.method.check_objectives(len(study.directions))
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The next configuration."""
        if not search_space:
            return {}
        number, history = self._known or (None, None)
        if history is None or number != trial.number:
            history = History.of(study, self.pipeline)
        whose = id(study._storage), study._study_id
        given = self.pipeline.cube.fitting_part(trial.system_attrs.get("fixed_params", {}))
        params = None if given else self._stock.take(whose, history)
        if self.ordered is not None and not given:
            params, self.ordered = self.ordered, None
        if params is None:
            fits = self.method.score is not None  # otherwise no matrix is multiplied
            with _threads(len(history), self._is_beside_workers) if fits else nullcontext():
                params, *others = self._choose(history, trial.number, given)
            if not given:
                self._stock.put(whose, others)
        # Some may have been fixed by a sampler around this one.
        return {name: params[name] for name in search_space}

    def recommend(self, study: optuna.Study) -> Recommendation:
        """The configuration that the models believe to be best; see `Tuner.recommend`.

        Args:
            study: The study that this sampler has served, or any other of the pipeline.
        """
        return recommended(History.of(study, self.pipeline), self)

    # --- What `Tuner` tells the sampler, and asks it

    def reuse_from(self, kept: Container[str] | None, *, keeps_last: bool = True) -> None:
        """Say which stage outputs the next suggestions can count on.

        Args:
            kept: Contains the content keys of the outputs that can be reused; it is asked at each
                suggestion. `None`: there never are any.
            keeps_last: Whether the outputs of the last trial are among them even if it is none of
                the best, so that a warm-up can share them.
        """
        self._kept, self._keeps_last = kept, keeps_last

    def share_processors(self, with_workers: bool) -> None:
        """Say whether busy workers may run on this machine while a suggestion is made.

        If so, a suggestion takes one thread, however many trials there are.
        """
        self._is_beside_workers = with_workers

    def builds_on(self, history: History) -> tuple[FrozenTrial, ...]:
        """The trials whose stage outputs the next suggestions may reuse: these are worth keeping.

        They are the `top_q` best ones. If the method leaves early stages as they are, or during a
        warm-up that shares prefixes, it is also the last one, however good it was.

        Args:
            history: The trials so far.
        """
        is_within = len(history) < self.warm_up_trials(history)
        is_sharing = self._design is prefix_sharing and is_within
        builds_on_last = self.method.region is not None or is_sharing
        return (*history.top(self.top_q), *(history.ended[-1:] if builds_on_last else ()))

    @contextmanager
    def knowing(self, history: History, number: int) -> Iterator[None]:
        """Within this block, suggest for a trial from a history that has been read already.

        Without it the sampler reads the study at each suggestion.

        Args:
            history: The trials so far.
            number: The number of the trial.
        """
        self._known = number, history
        try:
            yield
        finally:
            self._known = None

    def reason(self, params: Params) -> dict[str, Any]:
        """What was known of a configuration when this sampler chose it; empty if it did not.

        Args:
            params: The configuration.
        """
        whole = self.pipeline.cube.settled(params)
        return next((reason for chosen, reason in self._reasons if chosen == whole), {})

    def check_worth(
        self,
        history: History,
        number: int,
        price: float | None = None,
        *,
        stop_when_done: bool = False,
    ) -> None:
        """Check that another trial is worth its cost, if the user or the method asks for it.

        Args:
            history: The trials so far.
            number: The number of the trial that is to begin.
            price: What a unit of cost is worth, in the unit of the objective; `None`: any trial is
                worth its cost.
            stop_when_done: Whether a trial has to tell more than is known; see `Tuner`.

        Raises:
            NothingWorthwhile: No candidate's expected improvement is worth its expected cost at
                `price`; or none tells more than is known, and `stop_when_done` is set.
            BudgetTooSmall: The method is careful, and the chance that the remaining budget covers
                the next candidate is less than a half.
        """
        stop_when_done = stop_when_done and self.method.score is not None
        if price is None and not stop_when_done and not self.method.is_careful:
            return
        proposals = self._proposals(history, number)
        if proposals.warm_up_point is not None:
            return
        with _threads(len(history), self._is_beside_workers):
            if price is not None:
                check_worth_at(price, proposals)
            if stop_when_done:
                check_not_done(proposals)
            if self.method.is_careful:
                check_affordable(proposals)
        self._checked = proposals  # with its models, for the suggestion that follows

    # --- How it chooses

    def _choose(self, history: History, number: int, given: Params) -> list[dict[str, Any]]:
        """The next configuration, and further ones if one maximisation is to serve several."""
        is_single = not (given or history.objectives.are_several)
        is_batch = self.method.in_batches and is_single
        count = 1 + len(history.running) // RUNNING_EACH if is_batch else 1
        proposals = self._proposals(history, number)
        if given:
            proposals = replace(proposals, given=given)
        new = proposals.new(count)
        if proposals.warm_up_point is None and self.method.score is not None:
            self._refits.note(history, proposals.search.fits)
            if not given:
                self._say_if_done(proposals)
        chosen = new or [unseen(history, self.method.levels, self._seed(number), given)]
        self._reasons = [(params, proposals.reason(params)) for params in chosen]
        return chosen

    def _say_if_done(self, proposals: Proposals) -> None:
        """Tell the user, once, that trials can be expected to change nothing any more."""
        if proposals.seeks_news and not self._has_said_done and proposals.is_done:
            logger.warning("%s. Tuner(stop_when_done=True) ends a search here.", DONE)
            self._has_said_done = True

    def _proposals(self, history: History, number: int) -> Proposals:
        """What the method proposes: as just checked for this trial, or from a new search."""
        checked, self._checked = self._checked, None
        if checked is not None:
            search = checked.search
            if search.history is history and search.number == number:
                return checked
        search = Search(
            history,
            self.budget,
            self.warm_up_trials(history),
            number,
            self._seed(),
            fits=self._refits.start(history),
            device=self.device,
            earlier=self.earlier,
        )
        kept = () if self._kept is None else self._kept
        return Proposals(search, self.method, self._design, self.top_q, kept)

    @property
    def _design(self) -> Design:
        keeps_last = self._kept is not None and self._keeps_last
        return design_for(self.method.design, self.pipeline, keeps_last=keeps_last)

    def _seed(self, *path: int) -> int:
        """A seed for a purpose. Trials have their own, so that a resumed study goes on alike."""
        sequence = np.random.SeedSequence(self._entropy, spawn_key=path)
        return int(sequence.generate_state(1)[0])


def recommended(history: History, sampler: BaseSampler) -> Recommendation:
    """The configuration of a history that models believe to be best, whatever chose its trials.

    Args:
        history: The trials.
        sampler: What chose them; if it learnt from earlier studies, models begin from these too.

    Raises:
        ConfigurationError: See `best_believed`.
    """
    device, earlier = None, None
    if isinstance(sampler, EEIPUSampler):
        device, earlier = sampler.device, sampler.earlier
    with _threads(len(history), is_beside_workers=False):
        return best_believed(SearchModels(history, device=device, earlier=earlier))


@contextmanager
def _threads(trials: int, is_beside_workers: bool) -> Iterator[None]:
    """Use one thread while matrices are small or workers are busy; undo it afterwards.

    Threads gain nothing there, and beside another busy process they wait for each other: on two
    cores suggestions were measured to take six times as long.
    """
    limit = 1 if trials < THREADED_FROM or is_beside_workers else None
    with loaded_libraries().limit(limits=limit):
        yield
