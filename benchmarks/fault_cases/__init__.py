"""What goes wrong with memoized pipelines, and with the places where their caches are.

Pipelines: `cases` runs a case in processes of its own, and `judging` counts what came of the tables
in `wrong_values`, `unseen_code`, `input_digests`, `misses`, `crashes` and `looks`. The programs of
the cases import `asking`. Places: `processes` and `places` try each fault a number of times, on the
values of `entries`.
"""
