"""Check the cells of docs/comparison.md against the code of the peers, as far as code can tell.

    pip install --no-deps --target peers ax-platform==1.3.1 smac==2.4.1 syne-tune==0.16.0 \
        sf-hamilton==1.90.0 redun==0.44.1 dvc==3.67.1 optuna==5.0.0 ray==2.60.0 joblib==1.6.0 \
        scikit-learn==1.9.1
    python docs/check_comparison.py peers

Nothing is imported. Each line is a cell, and where the code of a peer has, or lacks, what decides
it.
The exit code is 1 if any cell is no longer true.
"""

import re
import sys
from pathlib import Path

# Package, row, whether the code has it, the files to read in the package, what to look for in them.
CELLS = [
    ("optuna", "no model of costs", False, "samplers/**/*.py", r"(?i)cost_aware|per_second|eips"),
    ("optuna", "ends by a terminator", True, "terminator/terminator.py", r"class Terminator"),
    ("optuna", "gRPC", True, "storages/_grpc/server.py", r"def run_grpc_proxy_server"),
    ("ax", "no model of costs", False, "generators/**/*.py", r"(?i)cost_aware|InverseCost"),
    ("ax", "early stopping: percentile", True, "early_stopping/strategies/percentile.py", "class"),
    ("ax", "early stopping: threshold", True, "early_stopping/strategies/threshold.py", "class"),
    ("ax", "global stopping", True, "global_stopping/strategies/improvement.py", "class"),
    ("ax", "constraints on outcomes", True, "core/outcome_constraint.py", "class Outcome"),
    ("ax", "hierarchical spaces", True, "core/search_space.py", "(?i)hierarchical"),
    ("smac", "EI per second", True, "acquisition/function/expected_improvement.py", "class EIPS"),
    ("smac", "trials, wall or CPU time", True, "scenario.py", "cputime_limit: float"),
    ("smac", "ParEGO", True, "multi_objective/parego.py", "class ParEGO"),
    ("smac", "no constraints on outcomes", False, "scenario.py", "(?i)outcome|feasib"),
    ("smac", "Hyperband, halving", True, "intensifier/hyperband.py", "class Hyperband"),
    ("smac", "Dask", True, "runner/dask_runner.py", "class Dask"),
    ("syne_tune", "ends at a cost", True, "stopping_criterion.py", "max_cost: float"),
    ("syne_tune", "ends at a value", True, "stopping_criterion.py", "max_metric_value"),
    ("syne_tune", "no model of costs", False, "optimizer/**/*.py", r"(?i)cost.?aware|CostModel"),
    ("syne_tune", "no constraints", False, "optimizer/**/*.py", r"(?i)constraint_attr|Constrained"),
    ("syne_tune", "CQR", True, "optimizer/schedulers/searchers/conformal/*.py", "class Conformal"),
    ("syne_tune", "BORE", True, "optimizer/schedulers/searchers/bore/bore.py", "class Bore"),
    ("syne_tune", "one machine", True, "backend/**/*.py", r"class PythonBackend\(LocalBackend\)"),
    ("syne_tune", "no SageMaker any more", False, "backend/**/*.py", "class SageMakerBackend"),
    ("ray", "ends at a time", True, "tune/tune_config.py", "time_budget_s: Optional"),
    ("ray", "ends at a plateau", True, "tune/stopper/experiment_plateau.py", "class"),
    ("ray", "conditional: sample_from", True, "tune/search/sample.py", "def sample_from"),
    ("ray", "PB2", True, "tune/schedulers/pb2.py", "class PB2"),
    ("ray", "models of others", True, "tune/search/optuna/optuna_search.py", "class OptunaSearch"),
    ("ray", "constraints by Ax", True, "tune/search/ax/ax_search.py", "outcome_constraints"),
    ("joblib", "by bytes, items or age", True, "memory.py", r"bytes_limit=None, items_limit=None"),
    ("joblib", "says that code has changed", True, "memory.py", r"\) has changed\."),
    ("joblib", "a file, by your callback", True, "memory.py", "cache_validation_callback"),
    ("joblib", "nobody waits", False, "memory.py", r"(?i)\block\b"),
    (
        "sklearn",
        "all but the last step",
        True,
        "pipeline.py",
        r"last step\s+will never be cached",
    ),
    ("hamilton", "entries that expire", True, "caching/stores/base.py", "expires_in"),
    ("hamilton", "nobody waits", False, "caching/**/*.py", r"(?i)\bfilelock\b|\bFileLock\b"),
    ("redun", "hash_includes", True, "task.py", "hash_includes"),
    ("redun", "a reason in a dry run", True, "scheduler.py", "explain_cache_miss"),
    ("redun", "records pushed and pulled", True, "cli.py", r'"push", help="Sync'),
    ("dvc", "a lock on the repository", True, "lock.py", "class Lock"),
    ("dvc", "gc", True, "commands/gc.py", "class CmdGC"),
    ("dvc", "grids through Hydra", True, "utils/hydra.py", "(?i)sweep"),
]


def main(places: list[Path]) -> int:
    """Print what is true of each cell; returns the exit code."""
    wrong = 0
    for package, row, expected, files, pattern in CELLS:
        roots = [place / package for place in places if (place / package).is_dir()]
        if not roots:
            print(f"?    {package}: not there")
            continue
        texts = [(path, path.read_text(errors="replace")) for path in roots[0].glob(files)]
        found = [
            str(path.relative_to(roots[0])) for path, text in texts if re.search(pattern, text)
        ]
        good = bool(texts) and bool(found) == expected
        wrong += not good
        print(f"{'ok' if good else 'NO':4} {package}: {row}  [{', '.join(found[:2]) or files}]")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main([Path(each) for each in sys.argv[1:]] or [Path("peers")]))
