"""Running stage calls.

`calls` (StageCall) is one call with its cost, `tasks` (StageTask, TaskResult) what is sent to a
worker and comes back, `worker` (run_task) what every worker does with a call, and `walks`
(run_path) the calls of a configuration one after another, and which of them need not run.
`outputs`, `objective` and `records` are what becomes of the results, and `trial_notes` (TrialNotes)
writes them into a trial.
"""
