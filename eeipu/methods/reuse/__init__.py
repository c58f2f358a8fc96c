"""What candidates reuse: the kept outputs of trials, and the combinations of them.

`candidates` (what a candidate reuses), `kept_parts` (the outputs that are there, and which of them
go together), `exchange` (better combinations, where there are too many to list them all),
`shared_settings` (a warm-up whose trials share outputs).
"""
