"""What is learnt from earlier studies of the same stages.

Public: earlier_trials (EarlierTrials).
"""
