"""`EstimatedPoses`: what every pose estimator returns."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class EstimatedPoses(NamedTuple):
    """The P persons of one image.

    Attributes:
        poses: (P, 17, 3) float32: x and y in continuous coordinates, and a visibility. The x and y of a part that is missing
            (0) are where the estimator would have it.
        scores: (P,) of the persons, in [0, 1].
        part_scores: (P, 17) in [0, 1]; None where the estimator has none.
    """

    poses: np.ndarray
    scores: np.ndarray
    part_scores: np.ndarray | None = None


PoseEstimator = Callable[[np.ndarray], EstimatedPoses]
