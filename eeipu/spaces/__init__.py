"""Search spaces: kinds of hyper-parameters, the unit cube, and what must hold between them.

Public are `distributions` (`Float`, `Int`, `Categorical`, `as_distribution`), `space` (`Space`) and
`feasible` (`FeasiblePoints`); `eeipu.space` is the front door.
"""
