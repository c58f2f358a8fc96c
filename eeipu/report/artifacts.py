"""Outputs of a trial as artifacts of its study, which Optuna's dashboard offers to look at.

They are artifacts of the study, because Optuna adds none to a trial that has ended. Their names say
which trial they are from.
"""

import json
import pickle
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from eeipu.errors import ConfigurationError

if TYPE_CHECKING:
    from eeipu.pipeline import PipelineRun

__all__ = ["upload_outputs"]


def upload_outputs(
    study: optuna.Study,
    run: "PipelineRun",
    folder: str | Path,
    stages: Iterable[str] | None = None,
    *,
    number: int | None = None,
) -> list[str]:
    """Keep stage outputs beside a study, where Optuna's dashboard shows them.

    `upload_outputs(tuner.study, tuner.best_run(data), "artifacts")`, and then
    `optuna-dashboard sqlite:///tune.db --artifact-dir artifacts`. Texts, tables of pandas and what
    JSON can say are files that people can read, bytes and paths are the files that they are, arrays
    are `.npy`, and everything else is pickled.

    Args:
        study: The study.
        run: The run of a trial, whose outputs are loaded from the cache, or made again.
        folder: The folder of the artifacts; it is made.
        stages: The names of the stages; by default all that were run.
        number: The number of the trial; by default that of the best one.

    Returns:
        The names of the artifacts, such as `"trial-7-train.npy"`.

    Raises:
        ConfigurationError: The run has no such stage.
    """
    names = [each.name for each in run.stage_runs]
    wanted = names if stages is None else list(stages)
    for name in wanted:
        if name not in names:
            raise ConfigurationError(f"the run has no stage {name!r}; its stages are {names}.")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(str(place))
    trial = study.best_trial.number if number is None else number
    made = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in wanted:
            file = _written(run.outputs[name], Path(scratch), f"trial-{trial}-{name}")
            upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=study)
            made.append(file.name)
    return made


def _written(output: Any, folder: Path, name: str) -> Path:
    """Write an output into a file, whose name says what it is."""
    if isinstance(output, Path) and output.is_file():
        return output
    start = folder / name
    if isinstance(output, str):
        return _filled(start, ".txt", output.encode())
    if isinstance(output, bytes):
        return _filled(start, ".bin", output)
    try:
        return _filled(start, ".json", json.dumps(output, indent=1).encode())
    except (TypeError, ValueError):  # not what JSON can say
        pass
    if hasattr(output, "to_csv"):
        return _filled(start, ".csv", output.to_csv().encode())
    if hasattr(output, "__array_interface__"):
        import numpy as np

        file = start.with_name(f"{name}.npy")
        np.save(file, output)
        return file
    return _filled(start, ".pkl", pickle.dumps(output))


def _filled(start: Path, ending: str, content: bytes) -> Path:
    file = start.with_name(start.name + ending)
    file.write_bytes(content)
    return file
