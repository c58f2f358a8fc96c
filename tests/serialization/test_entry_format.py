"""The form of an entry, and what is noticed of damage to it."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeipu import ConfigurationError, StageCache
from eeipu.serialization import entry_format
from eeipu.serialization.entry_format import (
    DamagedEntry,
    Header,
    mapped_payload,
    read_header,
    read_payload,
    write_entry,
)


def written(segments, **known):
    stream = io.BytesIO()
    header = write_entry(stream, Header("key", "pickle", (), **known), segments)
    return header, stream.getvalue()


def read(content):
    stream = io.BytesIO(content)
    header = read_header(stream)
    return header, [bytes(segment) for segment in read_payload(stream, header)]


segment_lists = st.lists(st.binary(max_size=200), min_size=1, max_size=4)


@given(segment_lists, st.sampled_from([None, "gzip", "xz"]))
def test_what_is_written_is_read(segments, compression):
    header, content = written(segments, compression=compression)
    assert read(content) == (header, segments)
    assert header.file_bytes == len(content)


@pytest.fixture
def small_pieces(monkeypatch):
    """Have kilobytes treated as if they were large."""
    monkeypatch.setattr(entry_format, "_PIECE_BYTES", 2**12)
    monkeypatch.setattr(entry_format, "_BLOCK_BYTES", 2**10)
    monkeypatch.setattr(entry_format, "_MANY_BYTES", 2**13)


LARGE = [
    b"pickle",
    np.random.default_rng(0).bytes(50_001),
    b"",
    np.random.default_rng(1).bytes(4096),
]


def test_large_payloads_are_hashed_in_pieces_and_read_by_threads(small_pieces, tmp_path):
    path = tmp_path / "entry"
    with path.open("wb") as file:
        header = write_entry(file, Header("key", "pickle", ()), LARGE, durable=True)
    with io.FileIO(path) as file:
        assert [bytes(s) for s in read_payload(file, read_header(file))] == LARGE
    assert read(path.read_bytes())[1] == LARGE
    content = memoryview(path.read_bytes())
    mapped = mapped_payload(content[len(content) - header.payload_bytes :], header)
    assert [bytes(segment) for segment in mapped] == LARGE


@pytest.mark.parametrize("position", [-1, -5000, -50_000])
@pytest.mark.parametrize("kind", ["flip", "truncate", "extend"])
def test_damage_to_large_payloads_is_noticed(small_pieces, tmp_path, kind, position):
    path = tmp_path / "entry"
    with path.open("wb") as file:
        write_entry(file, Header("key", "pickle", ()), LARGE)
    content = bytearray(path.read_bytes())
    if kind == "flip":
        content[position] ^= 1
    path.write_bytes({"truncate": content[:position], "extend": content + b"x"}.get(kind, content))
    with io.FileIO(path) as file, pytest.raises(DamagedEntry):
        read_payload(file, read_header(file))


def test_a_write_that_fails_in_the_background_is_told(small_pieces, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError("bad sector")

    monkeypatch.setattr(entry_format, "_sync_data", fail)
    with (tmp_path / "entry").open("wb") as file, pytest.raises(OSError, match="bad sector"):
        write_entry(file, Header("key", "pickle", ()), LARGE, durable=True)


class Dribbling(io.BytesIO):
    """Gives a byte at a time, as a remote file may."""

    def readinto(self, buffer):
        return super().readinto(memoryview(buffer)[:1])


def test_files_that_give_less_than_was_asked_for_are_read_on():
    _, content = written([b"abc" * 50])
    stream = Dribbling(content)
    assert bytes(read_payload(stream, read_header(stream))[0]) == b"abc" * 50


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 700, b"eeipu-stage many abc\n" * 40, b"eeipu-stage 00000512 abc" + b" " * 600],
)
def test_what_is_no_entry_has_no_header(content):
    with pytest.raises(DamagedEntry):
        read_header(io.BytesIO(content))


def test_a_header_may_be_longer_than_most():
    params = {f"parameter {i}": "x" * 50 for i in range(100)}
    header, content = written([b"value"], params=params)
    assert read(content) == (header, [b"value"])
    assert header.params == params


def test_parameters_that_json_does_not_know_are_written_as_they_print():
    header = read(written([b""], params={"range": (1, 2), "kind": frozenset("a")})[1])[0]
    assert header.params == {"range": [1, 2], "kind": "frozenset({'a'})"}


def test_an_entry_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(entry_format, "FORMAT", 2)
    _, content = written([b""])
    monkeypatch.undo()
    with pytest.raises(DamagedEntry, match="another version"):
        read_header(io.BytesIO(content))


def test_a_packed_value_that_unpacks_to_less_is_refused():
    header, _content = written([bytes(1000)], compression="gzip")
    _, other = written([bytes(10)], compression="gzip")
    stream = io.BytesIO(other)
    shorter = read_header(stream)
    packed = memoryview(other)[stream.tell() :]
    claims = replace(
        shorter, segments=header.segments, payload_bytes=len(packed), checksum=shorter.checksum
    )
    with pytest.raises(DamagedEntry, match="less"):
        mapped_payload(packed, claims)


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz"])
def test_compression_makes_a_cache_smaller(tmp_path, compression):
    value = {"zeros": np.zeros(100_000), "name": "x"}
    plain, packed = StageCache(tmp_path / "a"), StageCache(tmp_path / "b", compression=compression)
    for cache in (plain, packed):
        cache.put("key", value)
    assert packed.stats().size_bytes < plain.stats().size_bytes / 20
    loaded = StageCache(tmp_path / "b").get("key")
    np.testing.assert_array_equal(loaded["zeros"], value["zeros"])
    bounded = StageCache(tmp_path / "c", max_bytes=100, compression=compression)
    with pytest.warns(RuntimeWarning, match="not kept"):
        bounded.put("key", value)
    assert list((tmp_path / "c").glob("partial/*")) == []


def test_an_unknown_compression_is_refused():
    with pytest.raises(ConfigurationError, match=r"'gzip'.*but got 'rar'"):
        StageCache(compression="rar")
