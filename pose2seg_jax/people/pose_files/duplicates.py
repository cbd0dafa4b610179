"""The same person twice, as two estimators or overlapping tiles leave it in a file."""

import numpy as np
from jaxtyping import Bool, Float

from pose2seg_jax.people.parts import OKS_SIGMAS
from pose2seg_jax.people.pose_files.plausibility import extents

# Two poses that are more alike are one person. Of 12,000 annotated persons of COCO, each two of an image are either
# below 0.75, or above 0.8 where two annotators labelled one pose; overlapping people of OCHuman and COCO are below 0.75.
SAME_PERSON_OKS = 0.8
_FEWEST_COMMON = 3  # parts: fewer say nothing


def duplicates(poses: Float[np.ndarray, "P 17 3"], scores: Float[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:  # fmt: skip
    """Returns which persons of an image are the same as another one with a higher score, or as an earlier one.

    Args:
        poses: with visibilities.
        scores: of the persons.
    """
    double = np.zeros(len(poses), bool)
    if len(poses) < 2:
        return double
    alike = similarity(poses) > SAME_PERSON_OKS
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        double[index] = any(alike[index, other] for other in kept)
        if not double[index]:
            kept.append(index)
    return double


def box_areas(poses: Float[np.ndarray, "P 17 3"]) -> Float[np.ndarray, " P"]:
    """Returns the areas of the boxes of poses, 1 at least."""
    return np.prod(np.maximum(extents(poses), 1), axis=-1)


def similarity(
    poses: Float[np.ndarray, "P 17 3"],
    areas: Float[np.ndarray, " P"] | None = None,
    *,
    fewest: int = _FEWEST_COMMON,
    share: float = 0.5,
) -> Float[np.ndarray, "P P"]:
    """Returns COCO's object keypoint similarity of each two poses, over the parts that both have.

    Args:
        poses: with visibilities.
        areas: of the persons; those of the poses' boxes by default. Of two, the larger counts.
        fewest: it is 0 where two poses have fewer parts in common,
        share: or less than this share of those of the fuller one.
    """
    seen = poses[..., 2] > 0
    points = np.where(seen[..., None], poses[..., :2], 0)
    areas = box_areas(poses) if areas is None else areas
    area = np.maximum(areas[:, None], areas[None])[..., None]
    common = seen[:, None] & seen[None]
    variances = (2 * OKS_SIGMAS.astype(np.float64)) ** 2
    squared = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    terms = np.where(common, np.exp(-squared / (2 * variances * area)), 0)
    counts = common.sum(-1)
    fullest = np.maximum(seen.sum(1)[:, None], seen.sum(1)[None])
    enough = (counts >= fewest) & (counts >= share * fullest)
    return np.where(enough, terms.sum(-1) / np.maximum(counts, 1), 0)
