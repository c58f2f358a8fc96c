"""Caches on remote file systems: an S3-compatible server, and file systems that rename."""

import multiprocessing
import os
import tempfile
import threading
import time
import uuid
import warnings

import fsspec
import numpy as np
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from eeipu import CacheMiss, ConfigurationError, Float, Pipeline, StageCache, Tuner, stage
from eeipu.caching.inventory import inventory
from eeipu.caching.remote_store import RemoteStore
from eeipu.caching.unfinished_files import ABANDONED_S
from eeipu.errors import CacheAccessError
from eeipu.stages.running.calls import stage_calls
from eeipu.stages.running.walks import run_path


@pytest.fixture(scope="module")
def server():
    """The address of an S3-compatible server in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of botocore, moto and what they import
        from moto.server import ThreadedMotoServer

        running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """The URL of a new bucket, which s3fs reaches without being told how."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    name = f"bucket-{uuid.uuid4().hex}"
    fs.mkdir(name)
    return f"s3://{name}/cache"


pytestmark = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcnow:DeprecationWarning", "ignore::ResourceWarning"
)


def test_values_survive_in_a_bucket(bucket):
    value = {"small": "text", "large": np.arange(3_000_000.0)}
    StageCache(bucket).put("key", value, cost=2.0, stage="train")
    other = StageCache(bucket)
    assert "key" in other
    np.testing.assert_array_equal(other.get("key")["large"], value["large"])
    (entry,) = inventory(other.place)
    assert (entry.key, entry.stage, entry.cost) == ("key", "train", 2.0)
    assert other.verify() == []
    with pytest.raises(CacheMiss):
        other.get("other key")


def test_a_damaged_object_is_a_miss_and_put_into_quarantine(bucket):
    cache = StageCache(bucket)
    cache.put("key", list(range(1000)))
    fs, root = fsspec.url_to_fs(bucket)
    (path,) = fs.find(f"{root}/entries")
    fs.pipe_file(path, fs.cat_file(path)[:-3])
    other = StageCache(bucket)
    assert other.verify() == ["key"]
    with pytest.warns(RuntimeWarning, match="damaged"), pytest.raises(CacheMiss):
        other.get("key")
    assert "key" not in other
    assert other.gc() == 1


def test_a_bucket_can_be_bounded_and_cleared(bucket):
    cache = StageCache(bucket, max_bytes=4000)
    for key in "abc":
        cache.put(key, bytes(1000))
    assert len(list(cache)) == 2
    cache.holders.pin("study", ["c"])
    StageCache(bucket).retain([])
    assert list(cache) == ["c"]
    cache.clear()
    assert list(cache) == []


def test_a_node_is_run_once_by_those_who_share_a_bucket(bucket):
    counts = []

    @stage(version="1")
    def work(data):
        counts.append(1)
        threading.Event().wait(0.2)
        return data

    def run():
        (done,) = run_path(stage_calls([work], [{}], "inputs"), (5,), StageCache(bucket))
        outputs.append(done.output)

    outputs = []
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outputs == [5, 5, 5]
    assert len(counts) == 1


def test_a_bucket_keeps_what_running_trials_use(bucket):
    cache = StageCache(bucket)
    cache.put("a", 1)
    with cache.holders.using(["a"]):
        StageCache(bucket).retain([])
        assert "a" in cache
    cache.gc()
    fs, root = fsspec.url_to_fs(bucket)
    fs.invalidate_cache()
    assert [path for path in fs.find(root) if "/entries/" not in path] == []


# --- file systems on which an upload can be seen before it is whole ---------------------------


class Renaming(DirFileSystem):
    """A file system that is neither local nor an object store, such as a server by SFTP."""

    protocol = "renaming"


NOW = [0.0]


@pytest.fixture
def store(tmp_path):
    NOW[0] = time.time()
    return RemoteStore(Renaming(str(tmp_path), LocalFileSystem()), "root", lambda: NOW[0])


def header(key="key"):
    from eeipu.serialization.entry_format import Header

    return Header(key, "pickle", ())


def test_an_upload_appears_whole_where_it_is_renamed(store, tmp_path, monkeypatch):
    seen = []
    put = type(store.fs).put_file

    def watch(self, local, remote):
        put(self, local, remote)
        seen.append((remote.split("/")[1], dict(store.sizes())))

    monkeypatch.setattr(type(store.fs), "put_file", watch)
    store.prepare(header(), [b"value"]).commit()
    assert seen == [("partial", {})]
    assert bytes(store.read("key").segments[0]) == b"value"
    assert not list((tmp_path / "root" / "partial").iterdir())


def test_an_upload_that_fails_leaves_nothing(store, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no route")

    monkeypatch.setattr(type(store.fs), "mv", refuse)
    with pytest.raises(OSError, match="no route"):
        store.prepare(header(), [b"value"]).commit()
    assert store.sizes() == {}
    assert store.clean(thoroughly=True) == 0
    store.fs.pipe_file(f"root/partial/{'ab' * 16}", b"half")
    store.fs.pipe_file("root/partial/thesis", b"a stranger's")
    assert store.clean() == 0
    NOW[0] += ABANDONED_S - 60
    assert store.clean(thoroughly=True) == 0  # another host may be at it
    NOW[0] += 120
    assert store.clean(thoroughly=True) == 1


def test_an_upload_of_unknown_age_is_left_alone(store, monkeypatch):
    store.fs.makedirs("root/partial")
    store.fs.pipe_file(f"root/partial/{'ab' * 16}", b"half")
    find = type(store.fs).find

    def without_times(self, path, **options):
        return {name: {"size": 4} for name in find(self, path, **options)}

    monkeypatch.setattr(type(store.fs), "find", without_times)
    assert store.clean(thoroughly=True) == 0


def test_an_entry_that_cannot_be_written_leaves_no_local_file(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr("eeipu.caching.remote_store.write_entry", full)
    with pytest.raises(OSError, match="disk full"):
        store.prepare(header(), [b"value"])
    assert not list(tmp_path.glob("eeipu-*/*"))


def put_large(location, temporary, begun):
    tempfile.tempdir = temporary
    cache = StageCache(location)
    cache.place.store.fs.put_file = lambda *_: (begun.set(), time.sleep(60))
    cache.put("key", bytes(1000))


def test_what_a_killed_upload_left_is_removed_and_a_living_ones_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    location = f"memory:///{uuid.uuid4().hex}"
    child = fork.Process(target=put_large, args=(location, str(tmp_path), begun))
    child.start()
    assert begun.wait(30)
    cache = StageCache(location)
    cache.put("other", 1)
    cache.gc()
    (left,) = tmp_path.glob(f"eeipu-{os.geteuid()}/*")
    child.kill()
    child.join()
    assert left.exists()
    StageCache(location).put("other", 2)
    assert not left.exists()


def test_a_folder_of_somebody_elses_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"eeipu-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    cache = StageCache(f"memory:///{uuid.uuid4().hex}")
    with pytest.raises(CacheAccessError, match=r"not a folder of this user's.*TMPDIR"):
        cache.put("key", 1)


def test_objects_that_changed_places_are_noticed():
    url = f"memory:///{uuid.uuid4().hex}"
    cache = StageCache(url)
    cache.put("a", 1)
    cache.put("b", 2)
    fs, root = fsspec.url_to_fs(url)
    fs.copy(f"{root}/entries/a.stage", f"{root}/entries/b.stage")
    assert cache.verify() == ["b"]
    with pytest.warns(RuntimeWarning, match="belongs to the key 'a'"), pytest.raises(CacheMiss):
        StageCache(url).get("b")


def test_a_place_that_cannot_be_reached_is_named(monkeypatch):
    def refuse(self, path, exist_ok):
        raise ConnectionError("no route")

    monkeypatch.setattr(MemoryFileSystem, "makedirs", refuse)
    with pytest.raises(ConfigurationError, match=r"memory://far.*no route"):
        StageCache("memory://far")


class UnreachableError(Exception):
    """What the library of a remote file system may raise: no OSError."""


def test_a_study_goes_on_when_its_cache_is_out_of_reach(monkeypatch):
    cache = StageCache(f"memory:///{uuid.uuid4().hex}")

    def refuse(*args, **kwargs):
        raise UnreachableError("no route")

    for name in ("open", "exists", "find", "pipe_file", "put_file", "cat_file"):
        monkeypatch.setattr(MemoryFileSystem, name, refuse)
    with pytest.warns(RuntimeWarning, match="cannot be reached.*no route"):
        assert "a" not in cache
    with pytest.warns(RuntimeWarning, match="cannot be read.*no route"), pytest.raises(CacheMiss):
        cache.get("a")
    assert cache.cost("a") is None

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def work(*, x):
        return x

    tuner = Tuner(Pipeline([work]), budget=10.0, method="random", cache=cache)
    with pytest.warns(RuntimeWarning, match="no route") as caught:
        study = tuner.run(max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert any("could not be kept" in str(each.message) for each in caught)
