"""Search algorithms that can stop a trial early, and the runner that runs them on a stage tree.

Public: early_stopping (the rules of a tuner: ASHA, Hyperband, ...), moves (Algorithm, Ask, Stop,
Move), configurations (random, grid), full_training (FullTraining, StepByStep), halving
(SuccessiveHalving, Brackets, Hyperband, ASHA, geometric_rungs), median_stopping (MedianStopping),
population (PopulationBasedTraining), optuna_pruning (OptunaPruning), study_run (StudyRun), runner
(run_studies), plan_watch (PlanWatch), failure_streak (FailureStreak), simulation
(simulated_workers).
"""
