"""What users give to a study beside its own trials.

Public are `enqueued` (`enqueue`), configurations to evaluate first, and `known_results`
(`add_result`), results from elsewhere.
"""
