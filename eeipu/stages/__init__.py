"""The room of stages."""
