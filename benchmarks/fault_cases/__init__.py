"""Cases of memoized pipelines that went wrong, each run in processes of its own.

`cases` runs a case and judges it. The tables are in `wrong_values`, `input_digests`, `misses`,
`crashes` and `looks`. The programs of the cases import `asking`.
"""
