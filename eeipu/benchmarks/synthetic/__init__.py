"""Synthetic pipelines: standard test functions cut into stages with declared costs."""
