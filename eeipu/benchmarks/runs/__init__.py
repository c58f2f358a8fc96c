"""Running methods on benchmark problems, and the files in which results are kept.

Public: `campaign` (`comparison`, `run_all`), `single_run` (`run`, `run_to_file`), `options`
(`Options`), `results` (`Result`, `read`, `read_all`, `write`).
"""
