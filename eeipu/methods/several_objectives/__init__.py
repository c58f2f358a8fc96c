"""Several objectives, and constraints on outcomes.

Public: fronts (best_first), hypervolume (HypervolumeScore), kept_limits (OutcomeModel).
"""
