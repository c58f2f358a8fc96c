"""A study as rows and as HTML, for those who look at it without the code of its pipeline.

Public: `study_record` (StudyRecord) and `tables` of it, which reports and commands read,
`told_pipeline`, the pipeline as a study remembers it, `tuned_study` (TunedStudy), the study that
shows itself in a notebook, `trial_account` (TrialAccount), which notes what others read,
`recorded_runs` (recorded_run), a trial as the run that it was,
`best_trials` (best_trial), and `amounts`, costs and times as text.
"""
