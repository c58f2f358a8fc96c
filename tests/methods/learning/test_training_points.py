"""The configurations that models learn from."""

from histories import models_of


def test_the_best_trials_come_first():
    models = models_of([(0.1, 0.1, 1.0), (0.2, 0.2, None), (0.3, 0.3, 3.0), (0.4, 0.4, 2.0)])

    assert models.points.focus == [2, 3, 0]
