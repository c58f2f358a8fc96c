"""The room of caching/leases."""
