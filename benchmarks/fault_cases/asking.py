"""What the programs of cases import: they run stages on a cache beside them, and say what came out.

A program says one value, as JSON, which is compared with what is right. An error of eeipu's that
reaches the top is a refusal.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from eeipu import Categorical, EeipuError, Float, Pipeline, StageCache, stage

SAID, REFUSED = "SAID ", "REFUSED "

optuna.logging.set_verbosity(optuna.logging.ERROR)


def cache() -> StageCache:
    """The cache of the case, which all its processes share."""
    return StageCache("cache")


def say(value: Any) -> None:
    """Say what came out."""
    print(f"\n{SAID}{json.dumps(value)}", flush=True)


def fixed(
    function: Callable[..., Any], params: dict[str, Any] | None = None, **options: Any
) -> Any:
    """A stage whose hyper-parameters have one value each."""
    space = {name: Categorical([value]) for name, value in (params or {}).items()}
    return stage(function, space=space, **options)


def on_each_trial(function: Callable[..., Any], data: Any) -> list[float]:
    """What a function makes of the data in three trials, without the `x` that it adds to it."""
    searched = stage(function, space={"x": Float(0.0, 1.0)}, name="work")
    study = tune([searched], data, trials=3)
    return [round(trial.value - trial.params["work.x"], 9) for trial in study.trials]


def config(stages: list[Any]) -> dict[str, Any]:
    """The one configuration of stages that are `fixed`."""
    return {
        f"{each.name}.{name}": distribution.choices[0]
        for each in stages
        for name, distribution in each.space.items()
    }


def run_stages(stages: list[Any], *inputs: Any) -> Any:
    """Run stages that are `fixed` on the cache of the case."""
    run = Pipeline(stages).run(config(stages), *inputs, cache=cache())
    if run.error is not None and run.stage_runs[-1].output is None:
        raise _error(run.error)
    return run


def run(function: Callable[..., Any], *inputs: Any, **params: Any) -> Any:
    """The output of a function as the one stage of a pipeline."""
    return run_stages([fixed(function, params)], *inputs).stage_runs[-1].output


def would_hit(function: Callable[..., Any], *inputs: Any, **params: Any) -> bool | str:
    """Whether the output of a function is reused, or else the reason why it is not."""
    stages = [fixed(function, params)]
    (look,) = Pipeline(stages).explain(config(stages), *inputs, cache=cache())
    return look.reason if look.would_run else True


def again(function: Callable[..., Any], *inputs: Any) -> None:
    """Run a function as a stage, or say whether its output is reused if it has run before."""
    if Path("has-run").exists():
        say(would_hit(function, *inputs))
    else:
        Path("has-run").touch()
        run(function, *inputs)


def tune(stages: list[Any], *inputs: Any, trials: int = 1, objective: str | None = None,
         **options: Any) -> Any:  # fmt: skip
    """The study of a tuner on the cache of the case, all of whose trials have a value."""
    from eeipu import Tuner  # which loads torch, in seconds, and most cases do without it

    tuner = Tuner(Pipeline(stages, objective), budget=1e6, method="random", seed=0,
                  cache=cache(), **options)  # fmt: skip
    study = tuner.run(*inputs, max_trials=trials, progress=False)
    for trial in study.trials:
        if "error" in trial.user_attrs:
            raise _error(trial.user_attrs["error"])
    return study


def edit(file: str, old: str, new: str) -> None:
    """Edit a file of the case."""
    text = Path(file).read_text()
    assert old in text, f"{file} has no {old!r}"
    Path(file).write_text(text.replace(old, new))


def _error(text: str) -> Exception:
    return EeipuError(text) if "eeipu.errors." in text else RuntimeError(text)


def _show(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if isinstance(error, EeipuError):
        print(f"\n{REFUSED}{' '.join(str(error).split())}", flush=True)
    traceback.print_exception(kind, error, trace)


sys.excepthook = _show
