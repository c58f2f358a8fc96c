"""Pictures of one study, each with a function that gives its plain rows. Plotly draws them.

Public, through `eeipu.report`: `best`, `front`, `costs`, `savings`, `graph`, `tree`, `timeline`,
`importance`, `predictions`, `choices`, `why` and `learning` (a `..._figure` and a `..._rows`
function each). `canvas` is what figures have in common, `call_tree` makes the rows of `tree`, and
`running_time` is the time axis.
"""
