"""Which leases a location gets."""

import fsspec

from eeipu import StageCache


def test_heartbeat_leases_serve_a_directory_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("eeipu.caching.locations.has_locks", lambda root: False)
    cache = StageCache(tmp_path)
    cache.put("a", 1)
    with cache.holders.using(["a"]):
        StageCache(tmp_path).retain([])
        assert "a" in cache
    assert type(cache.holders._leases).__name__ == "HeartbeatLeases"
    assert fsspec.filesystem("file").exists(str(tmp_path / "entries"))
