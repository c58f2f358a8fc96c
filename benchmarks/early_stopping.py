"""Rules that stop trainings early, on problems whose stages train in steps; declared costs.

Each rule spends the same budget, in virtual time, on the same problems and seeds. What is compared
is the best value of a training that was trained to its end, which is what `study.best_value` gives,
and the best value at any step, both by what had been spent. Where two rules train the same on one
seed, this is really trained once; each of them is charged the declared cost all the same.

Run `python benchmarks/early_stopping.py [--json] [--problems ...] [--rules ...] [--seeds 10]
[--first-seed 0] [--trainings 12] [--workers 1] [--out runs.jsonl]`. With `--out`, runs that the
file has are not repeated. Three synthetic problems, five rules and ten seeds take three minutes of
one core with `--trainings 8`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import json
import logging
import math
import time
import warnings
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
import torch
from figures import Figure, arguments_of, show

from eeipu import ASHA, FreezeThaw, Hyperband, StageCache, Tuner
from eeipu.algorithms.node_tasks import NodeTask
from eeipu.benchmarks.learning_curves.problem import CURVE_PROBLEMS, CurveProblem, load
from eeipu.executors.pool import Ended
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stages.paths import Kind
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.running.worker import Job, run_task

RULES: dict[str, tuple[str, Any]] = {
    "model": ("eeipu", FreezeThaw(min_steps=3)),
    "model, random": ("random", FreezeThaw(min_steps=3)),
    "asha": ("eeipu", ASHA(min_steps=3)),
    "asha, random": ("random", ASHA(min_steps=3)),
    "hyperband": ("eeipu", Hyperband(min_steps=3)),
    "hyperband, random": ("random", Hyperband(min_steps=3)),
    "eeipu": ("eeipu", None),
}
SHARES = (0.25, 0.5, 1.0)


class NotingPool(SimulatedPool):
    """A simulated pool that notes each value with the time and the step at which it came.

    Args:
        workers: The number of workers.
        cache: The cache of the rule's tuner.
        problem: The problem.
        made: What was made for other rules: calls whose outputs its cache has are not made again.
    """

    def __init__(self, workers: int, cache: StageCache, problem: CurveProblem, made: Job) -> None:
        super().__init__(
            workers,
            cache,
            problem.cost_of,
            self._value_of,
            driving_s=lambda _: 0.0,
            thinking_s=lambda _: 0.0,
        )
        self._problem = problem
        self._made = made
        self.values: list[tuple[float, int, float]] = []

    def _value_of(self, task: StageTask) -> Any:
        result = run_task(task, self._made)
        run = result.run
        assert run is not None
        if run.error is not None:
            raise RuntimeError(run.error)
        # The tuner only asks what is there: the outputs are in the other cache.
        self.job.cache.put(task.call.key, result.value)
        return result.value

    def wait(self) -> list[Any]:
        """See `SimulatedPool`."""
        events = super().wait()
        for event in events:
            if isinstance(event, Ended) and isinstance(event.task, NodeTask) and event.result:
                call, node = event.task.call, event.task.node
                value = event.result.value
                is_last = call.stage.name == self._problem.pipeline.stage_names[-1]
                if is_last and not call.is_training and node is not None and value is not None:
                    stretches = reversed(node.path.stretches)
                    trained = next(s for s in stretches if s.call.kind is Kind.TRAINING)
                    objective = self._problem.pipeline.objective
                    number = value if objective is None else value[objective]
                    steps = trained.stop - trained.origin
                    self.values.append((self.now(), steps, float(number)))
        return events


def run(
    problem: CurveProblem, rule: str, seed: int, budget: float, workers: int, made: Job
) -> dict[str, Any]:
    """One search: the values with their times and steps, and how long it took."""
    method, early_stopping = RULES[rule]
    cache = StageCache()
    pool = NotingPool(workers, cache, problem, made)
    tuner = Tuner(
        problem.pipeline,
        budget=budget,
        direction=problem.direction,
        method=method,
        early_stopping=early_stopping,
        executor=pool,
        max_parallel=workers,
        cache=cache,
        seed=seed,
    )
    start = time.process_time()
    study = tuner.run(*problem.inputs, progress=False)
    return {
        "problem": problem.name,
        "rule": rule,
        "seed": seed,
        "workers": workers,
        "budget": budget,
        "steps": problem.steps,
        "sign": 1.0 if problem.direction == "maximize" else -1.0,
        "values": pool.values,
        "trials": len(study.trials),
        "spent": tuner.spent,
        "cpu_s": time.process_time() - start,
    }


def best(row: dict[str, Any], share: float, *, ended: bool) -> float:
    """The best value, larger is better, when a share of the budget was spent."""
    until = share * row["budget"] / row["workers"]
    values = [
        row["sign"] * value
        for at, step, value in row["values"]
        if at <= until and (not ended or step == row["steps"])
    ]
    return max(values, default=-math.inf)


def compared(rows: list[dict[str, Any]], problem: str) -> list[Figure]:
    """Ranks and wins of the rules on a problem, over its seeds."""
    mine = [row for row in rows if row["problem"] == problem]
    by = {(row["rule"], row["seed"]): row for row in mine}
    rules = list(dict.fromkeys(row["rule"] for row in mine))
    seeds = sorted({row["seed"] for row in mine})
    seeds = [seed for seed in seeds if all((rule, seed) in by for rule in rules)]
    figures: list[Figure] = []
    for ended in (True, False):
        what = "at the end of a training" if ended else "at any step"
        for share in SHARES:
            values = {r: [best(by[r, s], share, ended=ended) for s in seeds] for r in rules}
            for rule in rules:
                known = [v for v in values[rule] if math.isfinite(v)]
                name = f"{problem}: best {what}, {share:.0%} spent, {rule}"
                mean = fmean(known) if known else math.nan
                error = stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan
                wins = (
                    sum(m > o for m, o in zip(values["model"], values[rule], strict=True))
                    if "model" in rules
                    else 0
                )
                note = f"+- {error:.3g}, {len(known)} of {len(seeds)}, model better in {wins}"
                figures.append(Figure(f"{name} ({note})", mean, ""))
    return figures


def main() -> None:
    """Run what is missing, and print the comparison."""
    parser = arguments_of(__doc__)
    parser.add_argument("--problems", nargs="*", default=list(CURVE_PROBLEMS))
    parser.add_argument("--rules", nargs="*", default=list(RULES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trainings", type=float, default=12.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    if options.out is not None and options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    done = {(row["problem"], row["rule"], row["seed"], row["workers"]) for row in rows}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.problems:
            problem = load(name)
            made = Job(problem.pipeline.stages, problem.inputs, StageCache())
            for rule in options.rules:
                if (name, rule, seed, options.workers) in done:
                    continue
                budget = options.trainings * problem.steps
                row = run(problem, rule, seed, budget, options.workers, made)
                rows.append(row)
                if options.out is not None:
                    with options.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    rows = [row for row in rows if row["workers"] == options.workers]
    for name in options.problems:
        show(compared(rows, name))


if __name__ == "__main__":
    main()
