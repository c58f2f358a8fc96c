"""The room of serialization."""
