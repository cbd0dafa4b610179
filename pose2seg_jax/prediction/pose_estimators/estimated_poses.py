"""`EstimatedPoses`: what every pose estimator returns."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pose2seg_jax.prediction.inputs import InputError


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


def threshold(value: float | None, usual: float) -> float:
    """Returns a threshold, the usual one for None.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if value is None:
        return usual
    if isinstance(value, str) or not 0 <= value <= 1:
        raise InputError(f"a threshold is {value!r}; it must be a number between 0 and 1.")
    return value


PoseEstimator = Callable[[np.ndarray], EstimatedPoses]
