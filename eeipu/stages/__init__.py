"""Stages: their declaration, their calls, and running calls one after another.

Public are `declaration` (`Stage`, `stage`), `code_changes` (`refresh_code`), `runs`
(`PipelineRun`, `StageRun`),
`iterative` (`Training`, `iterative`), `schedules`, `searchable_schedules` and `torch_training`.
Workers run calls through `worker` (`Job`, `StageTask`, `run_task`); search plans are made of
`paths` (`Path`).
"""
