"""Running stage calls.

`calls` (StageCall) is one call with its cost, `worker` (run_task) what every worker does with one,
`walks` (run_path) the calls of a configuration one after another, and which of them need not run.
`outputs`, `objective` and `records` are what becomes of the results.
"""
