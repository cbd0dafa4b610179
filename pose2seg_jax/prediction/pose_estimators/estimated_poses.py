"""`EstimatedPoses`: what every pose estimator returns."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

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


def sure_poses(
    points: Float[np.ndarray, "P 17 2"],
    part_scores: Float[np.ndarray, "P 17"],
    scores: Float[np.ndarray, " P"],
    part_threshold: float,
    person_threshold: float,
) -> EstimatedPoses:
    """Returns the persons who are sure enough, the surest first.

    Args:
        points: (x, y) of all parts, in the image.
        part_scores: see `surest_first`.
        scores: see `surest_first`.
        part_threshold: see `surest_first`.
        person_threshold: see `surest_first`.
    """
    visibility = np.where(part_scores >= part_threshold, 2, 0).astype(np.float32)
    poses = np.concatenate([points, visibility[..., None]], axis=-1)
    order = surest_first(part_scores, scores, part_threshold, person_threshold)
    return EstimatedPoses(poses[order], scores[order], part_scores[order])


def surest_first(
    part_scores: Float[np.ndarray, "P 17"],
    scores: Float[np.ndarray, " P"],
    part_threshold: float,
    person_threshold: float,
) -> Int[np.ndarray, " Q"]:
    """Returns the indices of the persons who are sure enough, the surest first.

    Args:
        part_scores: parts with a score below `part_threshold` are missing.
        scores: persons with a score of 0, below `person_threshold`, or without a part are left out.
        part_threshold: see `part_scores`.
        person_threshold: see `scores`.
    """
    order = np.argsort(-scores, kind="stable")
    seen = np.any(part_scores >= part_threshold, axis=1)
    kept = (scores >= person_threshold) & (scores > 0) & seen
    return order[kept[order]]


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
