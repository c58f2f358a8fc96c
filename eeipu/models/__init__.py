"""Gaussian processes, and the expected improvement that they predict.

Public: gaussian_process (ExactGPs), objective (ObjectiveModel), pending_improvement (LogPendingEI),
devices (checked_device, fitting_device). ExactGPs rests on observations, kernels, fitting and its
likelihood, and conditioning.
"""
