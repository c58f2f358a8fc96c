"""Log expected improvement and its slopes."""

import numpy as np

from eeipu.models.improvement import _log_h


def test_log_ei_is_finite_everywhere():
    u = np.concatenate([-np.logspace(150, -300, 500), [0.0], np.logspace(-300, 150, 500)])

    h, slope = _log_h(u)

    assert np.isfinite(h).all()
    assert np.isfinite(slope).all()
    assert (np.diff(h) >= 0).all()
