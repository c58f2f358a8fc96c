"""The room of algorithms."""
