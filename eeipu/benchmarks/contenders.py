"""The contenders of a comparison: methods, with or without a cache, possibly with changed parts."""

from dataclasses import dataclass

from optuna.samplers import BaseSampler, GPSampler, TPESampler

from eeipu.benchmarks.ablations import Ablation
from eeipu.errors import ConfigurationError
from eeipu.methods.catalogue import METHODS, method_named
from eeipu.methods.warm_up import no_design
from eeipu.pipeline import Pipeline
from eeipu.sampler import EEIPUSampler

__all__ = ["OPTUNA", "Contender"]

# As in the paper.
DEFAULT_TOP_Q = 5

# Optuna's own samplers, by their names in comparisons, and the trials of their warm-up by default.
OPTUNA = ("gp", "tpe")
OPTUNA_TRIALS = 10


@dataclass(frozen=True)
class Contender:
    """A method, with or without a cache.

    Attributes:
        method: One of `eeipu.methods.catalogue.METHODS` or `OPTUNA`.
        cached: Whether stage outputs are reused.
        ablation: The parts of the method that are changed.
    """

    method: str
    cached: bool = False
    ablation: Ablation = Ablation()  # noqa: RUF009 - it is frozen

    @classmethod
    def parse(cls, text: str) -> "Contender":
        """Read a contender such as `"ei"`, `"eeipu+cache"` or `"eeipu+cache+top-q=1+cooling=off"`.

        Raises:
            ConfigurationError: The method, a change or its value is not known.
        """
        method, *parts = text.strip().split("+")
        if method not in METHODS and method not in OPTUNA:
            raise ConfigurationError(
                f"{text!r}: there is no method {method!r}; choose among "
                f"{sorted([*METHODS, *OPTUNA])}."
            )
        cached = "cache" in parts
        changes = [part.partition("=") for part in parts if part != "cache"]
        strange = [name for name, equals, _ in changes if not equals]
        if strange:
            raise ConfigurationError(
                f"{text!r}: after a method comes '+cache' or a change such as '+top-q=1', not "
                f"{'+' + strange[0]!r}."
            )
        names = [name for name, _, _ in changes]
        if len(names) > len(set(names)):
            raise ConfigurationError(f"{text!r} changes something twice; name each change once.")
        ablation = Ablation.parse({name: value for name, _, value in changes})
        contender = cls(method, cached, ablation)
        contender._check()
        return contender

    def _check(self) -> None:
        if self.method in METHODS:
            self.ablation.applied_to(method_named(self.method))
        elif set(dict(self.ablation.texts)) - {"top-q"}:
            raise ConfigurationError(
                f"{str(self)!r}: of Optuna's samplers only top-q can be changed, which determines "
                f"what the cache keeps."
            )

    def __str__(self) -> str:
        return f"{self.method}{'+cache' if self.cached else ''}{self.ablation}"

    @property
    def has_no_warm_up(self) -> bool:
        """Whether it has no warm-up of its own, and so chooses the first trial already."""
        if self.method in OPTUNA:
            return False
        return self.ablation.applied_to(method_named(self.method)).design is no_design

    @property
    def top_q(self) -> int:
        """The number of best trials whose stage outputs are kept."""
        return self.ablation.top_q or DEFAULT_TOP_Q

    def own_n_initial(self, given: int | None) -> int | None:
        """The number of trials in a warm-up that it chooses itself; `None`: as usual.

        Args:
            given: The number that the user gave for all contenders; `None`: none.
        """
        changed = self.ablation.n_initial
        if changed is None:
            return given
        return None if changed == "usual" else changed

    def sampler(
        self, pipeline: Pipeline, *, budget: float, n_initial: int | None, seed: int
    ) -> BaseSampler:
        """The Optuna sampler that chooses the configurations.

        Args:
            pipeline: The pipeline to tune.
            budget: The budget of the run, in units of cost.
            n_initial: The number of warm-up trials; `None`: as usual.
            seed: The seed of the sampler.
        """
        startup = OPTUNA_TRIALS if n_initial is None else n_initial
        match self.method:
            case "tpe":
                return TPESampler(seed=seed, n_startup_trials=startup)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=startup)
            case name:
                return EEIPUSampler(
                    pipeline,
                    budget=budget,
                    top_q=self.top_q,
                    n_initial=n_initial,
                    method=self.ablation.applied_to(method_named(name)),
                    seed=seed,
                )
