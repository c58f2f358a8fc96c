"""The stacking pipeline: tree ensembles, then a logistic meta-model, on a table.

Public: `problem` (with two stages, or with one stage for each base model).
"""
