"""What is known of the entries of a cache."""

from eeipu import StageCache
from eeipu.caching.inventory import inventory


def test_what_is_damaged_or_gone_is_not_in_the_inventory(tmp_path, monkeypatch):
    cache = StageCache(tmp_path)
    for key in "ab":
        cache.put(key, key)
    (path,) = tmp_path.glob("entries/*/a.stage")
    path.write_bytes(b"damaged")
    assert [entry.key for entry in inventory(cache.place)] == ["b"]
