"""Digests of values: tables, files, and inputs whose content their user names."""

import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from eeipu import ConfigurationError, Fingerprinted, Pipeline, StageCache, Tuner, stage
from eeipu.fingerprints.contents import files
from eeipu.fingerprints.keys import inputs_key
from eeipu.fingerprints.values import digest, plain


def table():
    return pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": ["x", "y"]})


def test_how_a_table_lies_in_memory_is_not_its_content():
    one = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    other = pd.DataFrame({"a": [1.0, 2.0]})
    other["b"] = np.array([9.0, 3.0, 9.0, 4.0])[1::2]
    assert digest(one) == digest(other)
    assert digest(one["b"]) == digest(other["b"])


class WithUnit(pd.DataFrame):
    """A table with an attribute of its own."""

    _metadata: ClassVar = ["unit"]


def test_what_a_subclass_adds_to_a_table_counts():
    tables = [WithUnit({"a": [1.0]}) for _ in range(3)]
    for each, unit in zip(tables, ["m", "m", "s"], strict=True):
        each.unit = unit
    one, same, other = map(digest, tables)
    assert one == same != other


def changed_tables():
    """The table above, and others that differ from it in one way each."""
    by_date = pd.date_range(datetime.datetime(2024, 1, 1), periods=2)
    return [
        table(),
        table().assign(a=[1, 3]),
        table().assign(b=[0.5, 0.0]),
        table().assign(c=["x", "z"]),
        table().rename(columns={"a": "A"}),
        table().astype({"a": "int32"}),
        table().astype({"c": "category"}),
        table().set_index("a"),
        table().set_index(["a", "c"]),
        table().set_axis(by_date),
        table().set_axis(pd.DatetimeIndex(by_date, freq=None)),
        table().rename_axis("row"),
        table()[["b", "a", "c"]],
        table().iloc[:0],
        table()["a"],
        table()["a"].rename("A"),
        table().index,
        pd.MultiIndex.from_frame(table()),
    ]


def test_every_difference_between_tables_counts():
    digests = [digest(each) for each in changed_tables()]
    assert len(set(digests)) == len(digests)
    assert [digest(each) for each in changed_tables()] == digests


def test_a_file_counts_by_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("data.csv")
    path.write_text("1,2")
    before = inputs_key((path,))
    moved = tmp_path / "moved" / "data.csv"
    moved.parent.mkdir()
    moved.write_text("1,2")
    monkeypatch.chdir(moved.parent)
    assert inputs_key((path,)) == before
    path.write_text("1,3")
    assert inputs_key((path,)) != before
    assert inputs_key((str(path),)) != inputs_key((path,))


def test_a_path_counts_as_it_is_written(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text("same")
    assert inputs_key((tmp_path / "cats" / "x.png",)) != inputs_key((tmp_path / "dogs" / "x.png",))
    assert inputs_key((tmp_path / "cats",)) != inputs_key((tmp_path / "dogs",))


def test_a_file_beside_that_cannot_be_read_counts_by_its_name(tmp_path, monkeypatch):
    for name in ("scan.img", "scan.key"):
        (tmp_path / name).write_text("1")
    before = digest(tmp_path / "scan.img")
    read = files.file_digest

    def digest_of(path):
        if path.suffix == ".key":
            raise PermissionError(path)
        return read(path)

    monkeypatch.setattr(files, "file_digest", digest_of)
    unread = digest(tmp_path / "scan.img")
    (tmp_path / "scan.key").unlink()
    assert len({before, unread, digest(tmp_path / "scan.img")}) == 3


def test_files_with_the_same_name_and_another_suffix_count(tmp_path):
    path = tmp_path / "scan.img"
    path.write_text("1")
    keys = [inputs_key((path,))]
    for name in ("scan.hdr", "scan", "scan.img.gz"):
        (tmp_path / name).write_text("2")
        keys.append(inputs_key((path,)))
    (tmp_path / "scan.hdr").write_text("3")
    keys.append(inputs_key((path,)))
    assert len(set(keys)) == 5
    (tmp_path / "scanner.img").write_text("4")
    assert inputs_key((path,)) == keys[-1]


def test_a_file_counts_by_its_name_too(tmp_path):
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text("same")
    assert inputs_key((tmp_path / "a.csv",)) != inputs_key((tmp_path / "a.txt",))


def test_a_directory_counts_by_all_that_is_below_it(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    inside = tmp_path / "deep" / "er" / "x"
    keys = [inputs_key((tmp_path,))]
    inside.write_text("1")
    keys.append(inputs_key((tmp_path,)))
    inside.write_text("2")
    keys.append(inputs_key((tmp_path,)))
    inside.rename(inside.with_name("y"))
    keys.append(inputs_key(({"data": tmp_path},)))
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("bound", "value", "named"),
    [("MOST_FILES", 2, "more than 2 files below"), ("LARGEST_BYTES", 5, "0 GiB")],
)
def test_a_folder_with_more_than_can_be_read_is_refused(tmp_path, monkeypatch, bound, value, named):
    monkeypatch.setattr(files, bound, value)
    for number in range(2):
        (tmp_path / f"{number}").write_text("ab")
    digest(tmp_path, reads_paths=True)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "more").write_text("ab")
    with pytest.raises(ValueError, match=named) as caught:
        digest(tmp_path, reads_paths=True)
    assert "eeipu.Fingerprinted.by_stat" in str(caught.value)
    assert digest(tmp_path) == digest(tmp_path)  # by its name
    Fingerprinted.by_stat(tmp_path)


def test_a_folder_that_is_a_link_counts_by_what_is_in_it(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    before = inputs_key((tmp_path / "data",))
    (tmp_path / "elsewhere" / "x").write_text("1")
    assert inputs_key((tmp_path / "data",)) != before


class Measured(np.ndarray):
    unit = "m"


def measured(unit):
    array = np.arange(3.0).view(Measured)
    array.unit = unit
    return array


def test_what_a_subclass_adds_to_an_array_counts():
    assert digest(measured("m")) == digest(measured("m")) != digest(measured("cm"))


def test_masked_arrays_count_by_data_mask_and_fill_value():
    def masked(data=2.0, mask=True, fill=0.0):
        return np.ma.array([1.0, data], mask=[False, mask], fill_value=fill)

    digests = {digest(m) for m in (masked(), masked(3.0), masked(mask=False), masked(fill=1.0))}
    assert len(digests) == 4
    assert digest(masked()) in digests


def test_a_path_to_nothing_counts_by_its_name(tmp_path):
    assert inputs_key((tmp_path / "a",)) != inputs_key((tmp_path / "b",))


def test_outside_of_the_inputs_a_file_counts_by_content_and_a_folder_by_its_name(tmp_path):
    path = tmp_path / "a"
    before, folder = digest(path), digest(tmp_path)
    path.write_text("content")
    assert digest(path) != before
    assert digest(tmp_path) == folder


def test_a_file_may_count_by_its_stat(tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(b"12")
    before = Fingerprinted.by_stat(path)
    assert before == Fingerprinted.by_stat(str(path))
    assert before.value == path
    path.write_bytes(b"123")
    assert Fingerprinted.by_stat(path).fingerprint != before.fingerprint
    folder = Fingerprinted.by_stat(tmp_path).fingerprint
    (tmp_path / "more").write_text("")
    assert Fingerprinted.by_stat(tmp_path).fingerprint != folder


def test_a_stat_of_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="typo"):
        Fingerprinted.by_stat(tmp_path / "typo")


class Unhashable:
    def __reduce__(self):
        raise AssertionError("too large to hash")


def test_a_fingerprint_takes_the_place_of_the_content():
    one, same = Fingerprinted(Unhashable(), "v1"), Fingerprinted(Unhashable(), "v1")
    assert inputs_key((one,)) == inputs_key((same,))
    assert inputs_key((one,)) != inputs_key((Fingerprinted(Unhashable(), "v2"),))


@pytest.mark.parametrize("fingerprint", ["", None, 1])
def test_a_fingerprint_is_a_string_with_something_in_it(fingerprint):
    with pytest.raises(ConfigurationError, match="fingerprint"):
        Fingerprinted(1, fingerprint)


def test_a_stage_gets_the_value_without_its_fingerprint():
    @stage(version="1")
    def double(data):
        return 2.0 * data

    pipeline = Pipeline([double])
    assert pipeline.run({}, Fingerprinted(3.0, "v1")).value == 6.0
    assert plain(3.0) == 3.0


def test_a_tuner_takes_paths_and_fingerprints(tmp_path):
    from eeipu import Float

    path = tmp_path / "x.txt"
    path.write_text("2")

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def read(path, scale, *, x):
        return float(Path(path).read_text()) * scale + x

    tuner = Tuner(Pipeline([read]), budget=10.0, method="random", cache=StageCache())
    study = tuner.run(path, Fingerprinted(3.0, "v1"), max_trials=1)
    assert 6.0 <= study.best_value <= 7.0


def test_the_gradient_of_a_tensor_counts():
    def with_gradient(value):
        tensor = torch.ones(1, requires_grad=True)
        tensor.grad = None if value is None else torch.full((1,), value)
        return tensor

    found = {digest(with_gradient(value)) for value in (None, 2.0, 3.0)}
    assert len(found) == 3
    assert digest(with_gradient(2.0)) in found
    assert digest(with_gradient(2.0) * 1) == digest(with_gradient(3.0) * 1)  # no leaf has one


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_what_scipy_has_noticed_about_a_sparse_matrix_does_not_count(form, kind):
    make = getattr(scipy.sparse, f"{form}_{kind}")
    matrix, other = make(np.eye(3)), make(2 * np.eye(3))
    before = digest(matrix)
    matrix @ matrix
    matrix.sum_duplicates()
    assert digest(matrix) == before == digest(make(np.eye(3)))
    assert digest(other) != before
