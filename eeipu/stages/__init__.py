"""Stages: their declaration, how they are joined, and running their calls.

Public are `declaration` (`Stage`), `decorator` (`stage`), `code_changes` (`refresh_code`), `runs`
(`PipelineRun`, `StageRun`), `iterative` (`Training`, `iterative`), `schedules`,
`searchable_schedules` and `torch_training`. `joining` says who gets what, and `running` runs calls,
in workers and one after another; search plans are made of `paths` (`Path`).
"""
