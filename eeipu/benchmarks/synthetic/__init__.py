"""Synthetic pipelines: standard test functions, divided into stages with declared costs.

Public: `problem` (the problems by name), `sums` and `composites` (the two kinds of pipelines).
"""
