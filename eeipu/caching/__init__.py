"""Behind `eeipu.cache.StageCache`: where entries are stored, who needs them, which are dropped.

Public: `locations` (open_place opens `memory_store`, `directory_store` or `remote_store`, and its
`leases`), `eviction` (Eviction), `memory_tier` (MemoryTier), `inventory` (inventory).
Put: `StageCache.put`, `Store.prepare`, `Eviction.admit`, `commit`, `MemoryTier.remember`.
Get: `StageCache.get`, `MemoryTier.read`, `Store.read`; if it is damaged, `MemoryTier.quarantine`.
"""
