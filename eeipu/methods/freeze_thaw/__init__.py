"""Which training to begin or to go on with, by a model of learning curves.

Public: choice (CurveSearch). The inside: worth (expected improvement per unit of remaining cost),
candidates (new configurations), costs (what is left to pay).
"""
