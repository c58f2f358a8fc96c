"""The Optuna sampler: warm-up design first, then the maximiser of a method's acquisition."""

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_limits

from eeipu.errors import BudgetTooSmall, ConfigurationError, NothingWorthwhile
from eeipu.methods.budget import Budget, check_positive
from eeipu.methods.catalogue import Method, eeipu, gittins_index, method_named
from eeipu.methods.history import History
from eeipu.methods.maximisation import Candidate, Score, maximize, prefix_pool, quasi_random
from eeipu.methods.search_state import Search
from eeipu.methods.suggestion_batches import in_turn
from eeipu.methods.warm_up import Design, independent, prefix_sharing
from eeipu.models.devices import checked_device
from eeipu.models.pending_improvement import LogPendingEI
from eeipu.pipeline import Pipeline

__all__ = ["DEFAULT_N_INITIAL", "EEIPUSampler", "check_price"]

# The paper's warm-up.
DEFAULT_N_INITIAL = 10

# Fits go on from the last hyper-parameters, and every so often start from the priors again, so
# that they cannot stay at a local optimum that early data led them to.
REFIT_EVERY = 8

# From so many trials on, torch may use all its threads for a suggestion.
THREADED_FROM = 500

# While many trials run, a maximisation serves one suggestion for every so many of them: the last of
# a batch then knows of a sixteenth fewer of the others' results than it would.
RUNNING_EACH = 16

# Draws at random before a space is searched systematically for what has not run yet.
RANDOM_TRIES = 1_000


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


class EEIPUSampler(BaseSampler):
    """Suggests the configurations of a pipeline that promise the most per unit of cost.

    `Tuner` makes one. On its own it serves a plain Optuna study: hand the trial to
    `pipeline.run(trial, ...)`, which fills in what the sampler learns stage costs from.

    Args:
        pipeline: The pipeline to tune.
        budget: What all trials together may cost; sets the pace of cost cooling.
        top_q: From how many of the best trials kept prefixes are offered.
        n_initial: Trials of the warm-up design, before models are fitted.
        cache: Tells which stage outputs are there now, by content key; `None`: none ever are.
        method: A name in `eeipu.methods.catalogue.METHODS`, or a method of one's own.
        seed: Makes suggestions repeatable, given the same trials. (Fits go on from the last one's
            result, so a sampler that has seen a study grow may differ in the last digits from
            one that meets it grown; and beside very many running trials, where suggestions are made
            in batches, in more.)
        device: Where models are fitted, `"cpu"` or a GPU such as `"cuda"`; `None`: a GPU where this
            process uses one anyway and there are enough trials for it to be faster, else the CPU.

    Raises:
        ConfigurationError: An argument is out of range.

    Attributes:
        keeps_last: Whether the last trial's outputs are in the cache, so that a warm-up can share
            them.
        beside_workers: Whether busy workers may be on this machine, so that a suggestion takes one
            thread however many trials there are.
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
    ) -> None:
        n_initial = DEFAULT_N_INITIAL if n_initial is None else n_initial
        _check_counts({"top_q": top_q, "n_initial": n_initial}, 1)
        _check_counts({} if seed is None else {"seed": seed}, 0)
        self.pipeline = pipeline
        self.budget = Budget.of(budget)
        self.top_q = top_q
        self.n_initial = n_initial
        self.cache = cache
        self.method = method if isinstance(method, Method) else method_named(method)
        self.device = checked_device(device)
        self.keeps_last = True
        self.beside_workers = False
        self._entropy = np.random.SeedSequence(seed).entropy
        self._independent = RandomSampler(seed=seed)
        self._fitted: dict[str, torch.Tensor] = {}
        self._checked: Search | None = None
        self._batch: tuple[object, list[dict[str, Any]]] = (None, [])

    def reseed_rng(self) -> None:
        """Start from fresh randomness (Optuna calls this in parallel workers)."""
        self._entropy = np.random.SeedSequence().entropy
        self._independent.reseed_rng()
        self._batch = None, []

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The pipeline's space; all of it is sampled jointly."""
        self._raise_error_if_multi_objective(study)
        fixed = trial.system_attrs.get("fixed_params", {})
        return {} if fixed.keys() >= self.pipeline.space.keys() else dict(self.pipeline.space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value for a parameter that is not the pipeline's."""
        self._raise_error_if_multi_objective(study)
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
        history = History.of(study, self.pipeline)
        whose = id(study._storage), study._study_id
        params = self._from_batch(whose, history)
        if params is None:
            with self._threads_for(history):
                params, *others = self._next(history, trial.number)
            self._batch = whose, others
        # Some may have been fixed by a sampler around this one.
        return {name: params[name] for name in search_space}

    @contextmanager
    def _threads_for(self, history: History) -> Iterator[None]:
        """One thread while matrices are small, and what there was before afterwards.

        Threads gain nothing there, and beside another busy process they wait for each other: on two
        cores suggestions were measured to take six times as long.
        """
        is_small = len(history) < THREADED_FROM
        with threadpool_limits(1 if is_small or self.beside_workers else None):
            yield

    def _from_batch(self, whose: object, history: History) -> dict[str, Any] | None:
        """What the last maximisation for a study has left, if there is anything that is new."""
        owner, left = self._batch
        while owner == whose and left:
            params = left.pop(0)
            if history.identity(params) not in history.configurations:
                return params
        return None

    def _next(self, history: History, number: int) -> list[dict[str, Any]]:
        """The most preferred configurations that have not run: one, or a batch for later."""
        count = 1 + len(history.running) // RUNNING_EACH if self.method.in_batches else 1
        proposals = self._proposals(history, number, count)
        new = (p for p in proposals if history.identity(p) not in history.configurations)
        return list(islice(new, count)) or [self._unseen(history, number)]

    def _proposals(self, history: History, number: int, count: int = 1) -> Iterator[dict[str, Any]]:
        """Configurations in order of preference; the caller passes over those that have run.

        Args:
            history: The trials so far.
            number: The trial's that is to begin.
            count: For how many trials they are; of several, each is chosen beside those before it.
        """
        search = self._search(history, number)
        point = self._warm_up(search)
        if point is not None:
            yield self.pipeline.cube.decode(point)
        elif self.method.score is not None:
            candidates = self._maximizers(search, self.method.score(search))
            for candidate in candidates if count == 1 else self._in_turn(search, candidates, count):
                self._fitted = search.fitted
                yield candidate.params

    def _in_turn(
        self, search: Search, candidates: Iterator[Candidate], count: int
    ) -> Iterator[Candidate]:
        """A batch of the candidates that have not run."""
        history, pending = search.history, search.X_pending
        assert pending is not None
        new = [c for c in candidates if history.identity(c.params) not in history.configurations]
        if new:
            X = torch.from_numpy(self.pipeline.cube.encode([c.params for c in new]))
            improvement = LogPendingEI(
                search.objective, search.best_f, pending, seed=search.trial_seed
            )
            yield from in_turn(new, X, improvement, count)

    def _search(self, history: History, number: int) -> Search:
        """The state of the search: that which was just checked for this trial, or a new one."""
        checked, self._checked = self._checked, None
        if checked is not None and checked.number == number:
            return checked
        warm_start = self._fitted if number % REFIT_EVERY else {}
        return Search(
            history,
            self.budget,
            self.n_initial,
            number,
            self._seed(),
            warm_start,
            device=self.device,
        )

    @property
    def design(self) -> Design:
        """The warm-up: the method's, or one that shares prefixes where that saves something."""
        can_share = (
            self.cache is not None
            and self.keeps_last
            and any(stage.memoize for stage in self.pipeline.stages[:-1])
        )
        return self.method.design or (prefix_sharing if can_share else independent)

    def _warm_up(self, search: Search) -> NDArray[np.float64] | None:
        """The next point of the warm-up; `None` when it is over."""
        point = self.design(search)
        if (
            point is None
            and self.method.score is not None
            and np.count_nonzero(~np.isnan(search.history.values)) < 2
        ):
            point = quasi_random(len(self.pipeline.cube), 1, search.seed, skip=search.number)[0]
        return point

    def _maximizers(self, search: Search, score: Score) -> Iterator[Candidate]:
        """The maximisers of a score where the method may search, best first."""
        history, cube = search.history, self.pipeline.cube
        top = history.top(self.top_q)
        kept = self.cache if self.cache is not None and self.method.uses_prefixes else ()
        pool, bounds = prefix_pool(self.pipeline, (*top, *history.running), kept), None
        if self.method.region is not None:
            region = self.method.region(search)
            pool, bounds = [region.prefix], region.bounds
        return maximize(
            score,
            cube,
            pool,
            seed=search.trial_seed,
            incumbents=cube.encode([trial.params for trial in top]),
            bounds=bounds,
        )

    def _first_new(self, search: Search, score: Score) -> Candidate | None:
        """The best candidate that has not run."""
        seen = search.history.configurations
        candidates = self._maximizers(search, score)
        return next((c for c in candidates if search.history.identity(c.params) not in seen), None)

    def check_worth(self, study: optuna.Study, price: float | None) -> None:
        """Check that another trial is worth its cost, where the user or the method asks for it.

        Args:
            study: The study.
            price: What a unit of cost is worth, in the unit of the objective; `None`: anything.

        Raises:
            NothingWorthwhile: No candidate's expected improvement is worth its expected cost at
                `price`: the stopping rule of Xie et al. 2025, arXiv 2507.12453.
            BudgetTooSmall: The method is careful, and what is left of the budget pays for the next
                candidate with a chance of less than a half.
        """
        if price is None and not self.method.is_careful:
            return
        history = History.of(study, self.pipeline)
        search = self._search(history, len(study.get_trials(deepcopy=False)))
        if self._warm_up(search) is not None:
            return
        with self._threads_for(history):
            if price is not None:
                self._check_price(search, price)
            if self.method.is_careful:
                self._check_chance(search)
        self._checked = search  # with its models, for the suggestion that follows at once

    def _check_price(self, search: Search, price: float) -> None:
        score = gittins_index(search, price / search.unit)
        best = self._first_new(search, score)
        if best is not None and best.score <= search.best_f:
            raise NothingWorthwhile(
                f"no candidate's expected improvement is worth its expected cost at a price of "
                f"{price!r} per unit of cost; lower the price to go on."
            )

    def _check_chance(self, search: Search) -> None:
        assert self.method.score is not None
        best = self._first_new(search, self.method.score(search))
        if best is None:
            return
        X = torch.from_numpy(self.pipeline.cube.encode([best.params]))
        memoized = torch.tensor(best.prefix.memoized)
        chance = eeipu(search).log_chance_to_pay(X, memoized, search.uncommitted).exp().item()
        if chance < 0.5:
            raise BudgetTooSmall(
                f"what is left of the budget, {search.uncommitted:.4g}, pays for the next "
                f"candidate with a chance of {chance:.0%}; raise the budget to go on."
            )

    def _unseen(self, history: History, number: int) -> dict[str, Any]:
        """A random configuration that has not run; any one where all have.

        Where the method has levels, one of its grid as long as that is not used up.
        """
        rng = np.random.default_rng(self._seed(number))
        cube = self.pipeline.cube
        for attempt in range(RANDOM_TRIES):
            point = rng.random(len(cube))
            if self.method.levels is not None and 2 * attempt < RANDOM_TRIES:
                point = (np.floor(point * self.method.levels) + 0.5) / self.method.levels
            params = cube.decode(point)
            if history.identity(params) not in history.configurations:
                return params
        return next(
            (
                params
                for params in cube.configurations()
                if history.identity(params) not in history.configurations
            ),
            params,
        )

    def _seed(self, *path: int) -> int:
        """A seed for a purpose; trials have theirs by number, so that a resumed study goes on."""
        sequence = np.random.SeedSequence(self._entropy, spawn_key=path)
        return int(sequence.generate_state(1)[0])
