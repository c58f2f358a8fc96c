"""The stacking pipeline: tree ensembles, then a logistic meta-model, on a table."""
