"""Search algorithms that can stop a trial early, and the runner that runs them on a stage tree.

Public: moves (Algorithm, Ask, Stop, Move), configurations (random, grid), full_training
(FullTraining), halving (SuccessiveHalving, Hyperband, ASHA, geometric_rungs), median_stopping
(MedianStopping), population (PopulationBasedTraining), optuna_pruning (OptunaPruning), study_run
(StudyRun), runner (run_studies), simulation (simulated_workers).
"""
