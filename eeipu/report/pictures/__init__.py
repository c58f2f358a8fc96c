"""Pictures of one study, each with a function that gives its plain rows. Plotly draws them.

Public, through `eeipu.report`: `best`, `costs`, `savings`, `timeline`, `importance`, `predictions`,
`choices` and `learning` (a `..._figure` and a `..._rows` function each). `canvas` is what figures
have in common, `running_time` their time axis, and `models` fits what a search would fit.
"""
