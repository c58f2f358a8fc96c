"""Maximising an acquisition.

`maximisation` (maximize) takes steps along gradients (`ascents`) that keep the constraints of a
space (`constrained`). What is maximised are `scores`, also where candidates leave stages out
(`skipping`).
"""
