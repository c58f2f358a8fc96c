"""Trials that stop after a stage, since another configuration promises more.

`going_on` compares, and `suspended` says which of the trials that were stopped are worth going on
from.
"""
