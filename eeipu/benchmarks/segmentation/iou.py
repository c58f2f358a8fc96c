"""The score of masks: intersection over union, averaged over classes."""

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.segmentation.scenes import VOID

__all__ = ["mean_iou"]

Labels = NDArray[np.uint8]


def mean_iou(predicted: Labels, truth: Labels, classes: int) -> float:
    """Intersection over union, averaged over classes; the pixels of all masks count together.

    Args:
        predicted: Predicted labels from 0 to `classes` - 1, of any shape.
        truth: True labels, of the same shape; pixels that are `VOID` do not count.
        classes: The number of classes. Classes that do not occur in the truth do not count.

    Returns:
        The mean, from 0 to 1; 0 if all true labels are `VOID`.
    """
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    table = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    there, said, both = table.sum(1), table.sum(0), table.diagonal()
    occurs = there > 0
    if not occurs.any():
        return 0.0
    return float(np.mean(both[occurs] / (there + said - both)[occurs]))
