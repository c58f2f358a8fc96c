"""The objective by way of what its stages show.

`chain` is the model, `increments` what each stage adds to the numbers before it, and `shares` says
how much the model counts beside that of the objective.
"""
