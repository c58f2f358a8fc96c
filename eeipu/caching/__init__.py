"""The room of caching."""
