"""Which leases a location gets, and what is said of one that cannot be reached."""

import os

import fsspec
import pytest

from eeipu import StageCache
from eeipu.caching.locations import is_occupied
from eeipu.errors import ConfigurationError


def test_heartbeat_leases_serve_a_directory_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("eeipu.caching.locations.has_locks", lambda root: False)
    cache = StageCache(tmp_path)
    cache.put("a", 1)
    with cache.holders.using(["a"]):
        StageCache(tmp_path).retain([])
        assert "a" in cache
    assert type(cache.holders._leases).__name__ == "HeartbeatLeases"
    assert fsspec.filesystem("file").exists(str(tmp_path / "entries"))


@pytest.mark.parametrize("open_it", [StageCache, is_occupied])
def test_a_bucket_without_credentials_is_named_with_the_remedy(open_it, tmp_path, monkeypatch):
    file_system = pytest.importorskip("s3fs").S3FileSystem
    file_system.clear_instance_cache()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigurationError, match=r"s3://eeipu-none/.*credentials.*AWS_ACCESS_KEY"):
        open_it("s3://eeipu-none/cache")
    file_system.clear_instance_cache()  # which has one without credentials now


@pytest.mark.parametrize("location", ["n" * 300, "a\0b", "file/below"])
def test_a_path_that_cannot_be_a_folder_is_named_with_the_remedy(location, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be used.*choose a directory"):
        StageCache(f"{tmp_path}/{location}")


def test_a_path_and_its_address_are_one_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    StageCache("cache").put("a", 1)
    (tmp_path / "empty").mkdir()
    for location in (
        "cache",
        "./cache",
        "~/cache",
        f"{tmp_path}/cache",
        f"file://{tmp_path}/cache",
    ):
        assert is_occupied(location)
        assert "a" in StageCache(location)
    assert not is_occupied("empty")
    assert not is_occupied("none")
    assert not (tmp_path / "none").exists()
