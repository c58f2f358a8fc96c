"""Benchmark problems of the papers, and the means to compare methods on them.

Public: `registry` (problems by name), `problem.Problem`, `runs.campaign` (run a comparison),
`runs.results` (result files), `analysis` (tables and pictures of them), `demo` (`run_demo`).
"""
