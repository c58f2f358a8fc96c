"""What users give to a study: configurations, results of theirs, and results from elsewhere.

Public are `ask_and_tell` (`Suggestion`), trials whose stages the caller runs, with what callers
report (`reported_values`); `enqueued` (`enqueue`), configurations to evaluate first; and
`known_results` (`add_result`), results from elsewhere.
"""
