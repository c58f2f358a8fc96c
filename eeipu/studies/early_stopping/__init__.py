"""A tuner's study whose trainings may stop early, run on a stage tree.

Public: staged_driver (StagedDriver), checks (checked_rule), trial_paths (TrialPaths), pauses
(StudyWithPauses), common_step (at_common_step), replay (schedules_of). The inside: staged_trial and
staged_trials (the trials and their records), earlier_trials (those of earlier runs), answered_runs
(what their stages have given), plan_study (the study as a client of the plan), run_watch (what
follows the run), known (what a rule with a model of its own is told), other_trials
(what other processes have reached).
"""
