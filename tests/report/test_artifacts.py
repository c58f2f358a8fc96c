"""Outputs as artifacts, as Optuna's dashboard finds them."""

import numpy as np
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta

from eeipu import Float, Pipeline, StageCache, Tuner, stage
from eeipu.errors import ConfigurationError
from eeipu.report.artifacts import upload_outputs


@stage(space={"x": Float(0.0, 1.0)}, version="1")
def text(data, *, x):
    return f"{data} {x}"


@stage(space={}, version="1")
def array(said):
    return np.full(3, float(said.split()[1]))


@stage(space={}, version="1")
def table(numbers):
    return {"mean": float(numbers.mean())}


@stage(space={}, version="1")
def thing(found):
    return found["mean"], {1, 2}


@stage(space={}, version="1")
def score(pair):
    return pair[0]


@pytest.fixture
def tuner(tmp_path):
    pipeline = Pipeline([text, array, table, thing, score])
    url = f"sqlite:///{tmp_path}/tune.db"
    tuner = Tuner(pipeline, method="random", seed=0, cache=StageCache(), storage=url)
    tuner.run("a", max_trials=2, progress=False)
    yield tuner
    tuner.study._storage._backend.engine.dispose()


def test_outputs_of_the_best_trial_are_files_that_say_what_they_are(tuner, tmp_path):
    study, folder = tuner.study, tmp_path / "artifacts"

    names = upload_outputs(study, tuner.best_run("a"), folder)

    start = f"trial-{study.best_trial.number}-"
    ends = ["text.txt", "array.npy", "table.json", "thing.pkl", "score.json"]
    assert names == [start + end for end in ends]
    found = get_all_artifact_meta(study)
    assert {each.filename for each in found} == set(names)
    store = FileSystemArtifactStore(str(folder))
    by_name = {each.filename: each.artifact_id for each in found}
    with store.open_reader(by_name[f"{start}text.txt"]) as file:
        assert file.read().decode() == f"a {study.best_params['text.x']}"
    with store.open_reader(by_name[f"{start}array.npy"]) as file:
        assert np.load(file)[0] == study.best_value


def test_some_outputs_of_some_trial(tuner, tmp_path):
    study = tuner.study
    other = 1 - study.best_trial.number

    assert upload_outputs(study, tuner.best_run("a"), tmp_path, ["table"], number=other) == [
        f"trial-{other}-table.json"
    ]
    assert len(get_all_artifact_meta(study)) == 1
    with pytest.raises(ConfigurationError, match="no stage 'tabel'"):
        upload_outputs(study, tuner.best_run("a"), tmp_path, ["tabel"])
