"""What the trials of a study tell the search, one module for each kind of thing.

Configurations, objectives, records of stages and outcomes. `eeipu.methods.history` reads a study
and has them all. Nothing here is public.
"""
