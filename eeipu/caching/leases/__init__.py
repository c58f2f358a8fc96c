"""Leases: who works on which cache entry, who uses it, and which study keeps it.

Public: `claims` (Holders). Behind it: `lease` (Lease, Leases, wait_for), its three kinds `memory`
(MemoryLeases), `file_locks` (FileLeases) and `heartbeats` (HeartbeatLeases), and `pins` (Pins).
"""
