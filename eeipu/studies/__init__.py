"""Studies: the trials of a pipeline in an Optuna study, and the loop of `Tuner.run`.

Public: nothing; users call `eeipu.tuner`. Read `driver` (Driver) first, then `trial_run`
(TrialRun), `call_states` (CallStates), `underway` (TrialsUnderway), `run_limits` (RunLimits) and
`trials` (Trials). The work before the loop is done in `study` (open_study) and `drivers`.
"""
