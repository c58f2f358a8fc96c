"""Figures of studies, made from the studies alone.

Public: `figures` (`plot_best_over_budget`).
"""
