"""Tables of pandas and Arrow count by types, labels and values."""

import datetime
import decimal
import itertools
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eeipu.fingerprints.contents import tables
from eeipu.fingerprints.values import digest


def arrow(values, kind):
    return pd.array(values, dtype=pd.ArrowDtype(kind))


COLUMNS = {
    "integers": [1, 2, 3, 4],
    "floats": [1.0, np.nan, -0.0, 0.0],
    "objects": [1, "a", None, 2.5],
    "strings": pd.array(["a", None, "bc", "d"], dtype="str"),
    "nullable strings": pd.array(["a", None, "bc", "d"], dtype="string"),
    "python strings": pd.array(["a", None, "bc", "d"], dtype="string[python]"),
    "nullable integers": pd.array([1, None, 3, 4], dtype="Int64"),
    "nullable booleans": pd.array([True, None, False, True], dtype="boolean"),
    "categories": pd.Categorical(["x", "y", "x", None]),
    "times": pd.date_range("2024", periods=4),
    "times with a zone": pd.date_range("2024", periods=4, tz="Europe/Berlin"),
    "durations": pd.to_timedelta([1, 2, 3, None], unit="s"),
    "periods": pd.period_range("2024", periods=4, freq="M"),
    "intervals": pd.interval_range(0, 4),
    "sparse": pd.arrays.SparseArray([0, 0, 1, 0]),
    "arrow integers": arrow([1, None, 3, 4], pa.int64()),
    "arrow booleans": arrow([True, None, False, True], pa.bool_()),
    "arrow strings": arrow(["a", None, "bc", "d"], pa.string()),
    "arrow bytes": arrow([b"a", None, b"bc", b"d"], pa.binary()),
    "arrow categories": arrow(["a", None, "b", "a"], pa.dictionary(pa.int32(), pa.string())),
    "arrow times": arrow([datetime.datetime(2024, 1, 1)] * 4, pa.timestamp("us")),
    "arrow decimals": arrow([decimal.Decimal("1.5"), None] * 2, pa.decimal128(5, 2)),
    "arrow lists": arrow([[1], None, [2, 3], []], pa.list_(pa.int64())),
    "arrow records": arrow([{"a": 1}, None, {"a": 2}, {"a": None}], pa.struct([("a", pa.int64())])),
    "arrow maps": arrow([[("a", 1)], None, [], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    "arrow nothing": arrow([None] * 4, pa.null()),
}
columns = pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)


@columns
def test_a_column_counts_the_same_wherever_it_lies(values):
    column = pd.Series(values)
    halves = pd.concat([column.iloc[:2], column.iloc[2:]])
    for same in (column.copy(), pickle.loads(pickle.dumps(column)), halves):
        assert digest(same) == digest(column)
        assert digest(same.iloc[1:3]) == digest(column.iloc[1:3].copy())
    assert digest(pd.DataFrame({"a": halves})) == digest(pd.DataFrame({"a": column}))


@columns
def test_each_value_and_its_place_count(values):
    column = pd.Series(values)
    orders = [column.take(list(order)).array for order in itertools.permutations(range(4))]
    expected = {repr([repr(value) for value in order]) for order in orders}
    assert len(set(map(digest, orders))) == len(expected)
    assert digest(column) != digest(column.iloc[:3])


def test_every_type_of_column_is_another():
    found = [digest(pd.Series(values)) for values in COLUMNS.values()]
    assert len(set(found)) == len(found)


def test_where_one_string_ends_counts():
    lists = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"], ["abc", None]]
    for dtype in ("str", "string[python]", object):
        assert len({digest(pd.Series(each, dtype=dtype)) for each in lists}) == len(lists)


def test_what_lies_behind_a_missing_value_does_not_count():
    values, other = (pd.array([1, 2, 3], dtype="Int64") for _ in range(2))
    other[1] = 7
    values[1] = other[1] = None
    assert digest(values) == digest(other)
    one, two = (pa.array([1, x, 3], mask=np.array([False, True, False])) for x in (5, 6))
    assert digest(one) == digest(two)


@pytest.mark.parametrize("names", [[None, None], [0, 1], ["0", "1"], [None, 1]])
def test_the_names_of_levels_count(names):
    index = pd.MultiIndex.from_tuples([(1, 2)])
    others = [[None, None], [0, 1], ["0", "1"], [None, 1]]
    found = [digest(index.set_names(each)) for each in others]
    assert found.count(digest(index.set_names(names))) == 1


def test_levels_that_no_row_has_count_as_a_stage_can_see_them():
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]])
    assert digest(index[:2]) != digest(index[:2].remove_unused_levels())
    assert digest(index[:2]) == digest(index[:2].copy(deep=True))


def test_labels_and_flags_count():
    table = pd.DataFrame({"a": [1, 2]})
    others = [
        table.set_flags(allows_duplicate_labels=False),
        table.rename_axis(columns="x"),
        table.set_axis([0, 2]),
        table.set_axis(pd.Index([0, 1])),
        table.set_axis(["a"], axis=1).astype("i4"),
        pd.DataFrame({"a": [1, 2]}, index=pd.Index([0, 1], name=0)),
    ]
    assert len({digest(each) for each in [table, *others]}) == 1 + len(others)
    column = table["a"]
    assert digest(column) != digest(column.set_flags(allows_duplicate_labels=False))


def test_looking_at_a_table_does_not_change_it():
    table = pd.DataFrame({name: pd.Series(values) for name, values in COLUMNS.items()})
    before = digest(table)
    simple = ["integers", "strings", "nullable integers", "arrow integers", "times with a zone"]
    table[simple].describe(include="all")
    repr(table)
    table.memory_usage(deep=True)
    table["nullable strings"].str.upper()
    table.groupby("strings").size()
    assert table.index.is_unique
    assert digest(table) == before


@pytest.mark.parametrize("extra", [[], ["text"]])
def test_a_wide_table_counts_by_its_columns(extra):
    count = tables._WIDE_COLUMNS
    table = pd.DataFrame({f"x{i}": [float(i), 0.0] for i in range(count)})
    table = table.assign(**{name: ["a", "b"] for name in extra})
    fragmented = pd.concat([table[[name]] for name in table], axis=1)
    assert digest(table) == digest(fragmented) == digest(table.copy())
    others = [
        table.assign(x7=[7.0, 1.0]),
        table.rename(columns={"x3": "y3"}),
        table.assign(x9=[9, 0]),
        table.assign(x9=["9", "0"]),
        table[table.columns[::-1]],
    ]
    assert len({digest(each) for each in [table, *others]}) == 1 + len(others)


def test_arrow_tables_count_by_their_values():
    rows = range(20)
    table = pa.table({"a": list(rows), "s": [str(i) for i in rows], "l": [[i] for i in rows]})
    part = table.slice(3, 4)
    copied = pa.Table.from_pylist(part.to_pylist(), schema=part.schema)
    assert digest(part) == digest(copied) == digest(pa.concat_tables([part[:1], part[1:]]))
    others = [
        table,
        table.replace_schema_metadata({"unit": "m"}),
        table.rename_columns(["b", "s", "l"]),
        table.select(["a", "s"]),
        table.slice(1),
        table["a"],
        table["a"].combine_chunks(),
        table["a"].cast(pa.int32()),
    ]
    assert len(set(map(digest, others))) == len(others)
