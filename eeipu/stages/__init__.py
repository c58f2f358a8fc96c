"""Stages: their declaration, their calls, and running calls one after another.

Public are `declaration` (`Stage`, `stage`, `refresh_code`), `calls` (`PipelineRun`, `StageRun`),
`iterative` (`Training`, `iterative`), `schedules`, `searchable_schedules` and `torch_training`.
"""
