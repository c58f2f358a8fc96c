"""Objects that read files when they are used count by these files, or are refused."""

import warnings
from pathlib import Path

import pandas as pd
import pytest

from eeipu import Float, Pipeline, StageCache, stage
from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import inputs_key
from eeipu.serialization.files import scans_files


def _write(folder, value):
    pd.DataFrame({"x": [value]}).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def _data_set(path):
    return pytest.importorskip("pyarrow.dataset").dataset(path)


def _several(path):
    return pytest.importorskip("pyarrow.dataset").dataset([_data_set(path), _data_set(path)])


def _open_file(path):
    return pytest.importorskip("fsspec").open(str(path))


def _hub(path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_pandas(pd.read_parquet(path))
    table.save_to_disk(path.with_suffix(""))
    return datasets.load_from_disk(path.with_suffix(""))


def _lightgbm(path):
    return pytest.importorskip("lightgbm").Dataset(str(path))


@pytest.mark.parametrize("read", [_data_set, _several, _open_file, _hub, _lightgbm])
def test_the_files_count(tmp_path, read):
    before = read(_write(tmp_path, 1.0))
    key = inputs_key((before,))
    assert inputs_key((read(_write(tmp_path, 1.0)),)) == key
    assert inputs_key((read(_write(tmp_path, 2.0)),)) != key


def test_a_table_of_the_hub_counts_alike_in_memory_and_in_a_file(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = _write(tmp_path, 1.0)
    in_memory = datasets.Dataset.from_pandas(pd.read_parquet(path))
    assert inputs_key((in_memory,)) == inputs_key((_hub(path),))


def test_a_file_elsewhere_is_refused():
    fsspec = pytest.importorskip("fsspec")
    file = fsspec.open("memory://somewhere")
    with pytest.raises(PipelineError, match=r"not on this machine.*Fingerprinted"):
        inputs_key((file,))


def test_a_lazy_frame_that_reads_files_is_refused(tmp_path):
    pl = pytest.importorskip("polars")
    with pytest.raises(PipelineError, match=r"pass their pathlib\.Path"):
        inputs_key((pl.scan_parquet(_write(tmp_path, 1.0)).filter(pl.col("x") > 0),))
    frames = [pl.DataFrame({"a": [n]}).lazy().filter(pl.col("a") > 0) for n in (1, 1, 2)]
    first, again, other = [inputs_key((each,)) for each in frames]
    assert first == again != other


class _Frame:
    """A lazy frame of polars, by its names."""

    def __init__(self, plan):
        self.plan = plan

    def explain(self, *, optimized):
        return self.plan


_Frame.__module__, _Frame.__name__ = "polars.lazyframe.frame", "LazyFrame"


def test_lazy_frames_are_told_by_their_plans():
    with pytest.raises(PipelineError, match=r"frame\.collect"):
        inputs_key((_Frame("FILTER a\nFROM\n  Parquet SCAN [a.parquet]"),))
    assert not scans_files(_Frame('FILTER a == " SCAN "\nFROM\n  DF ["a"]'))


READ = {
    _hub: lambda table: table[0]["x"],
    _data_set: lambda table: table.to_table()["x"][0].as_py(),
    _open_file: lambda file: pd.read_parquet(file.open())["x"][0],
}


@pytest.mark.parametrize("make", READ)
def test_an_output_is_that_of_its_own_configuration(tmp_path, make):
    def train(folder, *, x):
        return make(_write(Path(folder), x))

    def score(made, *, y):
        return float(READ[make](made)) + y

    spaces = {"x": Float(0.0, 10.0)}, {"y": Float(0.0, 1.0)}
    made = [stage(version="1", space=spaces[0])(train), stage(version="1", space=spaces[1])(score)]
    pipeline = Pipeline(made)
    cache, values = StageCache(), []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for x, y in ((1.0, 0.0), (2.0, 0.0), (1.0, 0.5)):
            params = {"train.x": x, "score.y": y}
            values.append(pipeline.run(params, str(tmp_path), cache=cache).value)
    assert values == [1.0, 2.0, 1.5]
    told = [str(each.message) for each in found if "could not be kept" in str(each.message)]
    assert (len(told) > 0) == (make is not _hub)
    assert all("pathlib.Path" in each for each in told)
