"""Displays: the forms in which a user sees how a study goes on.

Public: nothing; `progress` (showing, Reporter) chooses among `live_table` (LiveTable, on a
terminal), `notebook_table` (NotebookTable) and `trial_lines` (TrialLines). All show a `snapshot`.
"""
