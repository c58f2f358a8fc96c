"""The local steps of a maximisation.

Public are `ascents` (`Ascent`, `LogScoreWithGradient`, `Score`), along gradients, and `constrained`
(`WithinConstraints`), which keeps the constraints of a space, for `eeipu.methods.maximisation`.
"""
