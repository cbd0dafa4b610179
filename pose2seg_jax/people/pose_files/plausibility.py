"""Whether poses can be what they are taken for: COCO's parts, in pixels, x before y, of this photo.

What cannot be is an error; what is improbable, a warning. The limits come from COCO's annotated poses.
"""

import logging
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pose2seg_jax.people.pose_files.content import PoseFileError

_EDGE = 1.5  # pixels beyond the edge: COCO writes an index equal to the size now and then
_MOST_OUTSIDE = 0.5  # share of the parts that may lie outside of a photo
_MOST_SWAPPED = 0.1  # the same, where (y, x) in place of (x, y) would have none outside
_FRACTIONS = (-0.25, 1.25)  # of a photo: parts are guessed a little beyond its edge
_FEWEST_SMALL = 3  # parts of a person that say something: one part may lie in the corner
_MOST_SMALL = 0.9  # share of the parts of a person that lie there
_HEAD, _SHOULDERS, _HIPS = [0, 1, 2, 3, 4], [5, 6], [11, 12]
_LYING_PERSONS, _LYING_SHARE = 3, 0.75
# The diagonal of nose, eyes and ears over that of all parts: up to 0.33 for 999 of 1,000 persons with 12 parts or
# more, above 0.39 for 95 of 100 when the parts are Human3.6M's.
_MOST_HEAD, _FEWEST_PARTS = 0.36, 12


def are_fractions(parts: Float[np.ndarray, "P 17 3"], seen: Bool[np.ndarray, "P 17"], path: Any) -> bool:  # fmt: skip
    """Returns whether x and y are fractions of the photo: no pose in pixels is so small.

    Args:
        parts: of persons who have some.
        seen: which parts there are.
        path: of the file, for messages.

    Raises:
        PoseFileError: they are for some persons only, or normalised in another way.
    """
    small = np.all(np.abs(parts[..., :2]) <= _FRACTIONS[1], axis=-1)
    enough = seen.sum(1) >= _FEWEST_SMALL
    enough |= not enough.any()
    persons = (np.sum(small & seen, axis=1) >= _MOST_SMALL * seen.sum(1))[enough]
    if not np.any(persons):
        return False
    if not np.all(persons):
        raise PoseFileError(
            f"{path}: the coordinates of {int(persons.sum())} of {len(persons)} persons lie in 0..1, those of the others are"
            " pixels; write pixels for all."
        )
    points = parts[seen & small][:, :2]
    reach = f"coordinates lie in {points.min():.2g} to {points.max():.2g}"
    if points.min() < _FRACTIONS[0]:
        raise PoseFileError(
            f"{path}: {reach}: they are normalised, but not to 0..1 of the photo; write pixels (OpenPose: --keypoint_scale 0)."
        )
    logging.warning(
        "%s: %s, so they are read as fractions (0..1) of the photo's width and height.", path, reach
    )
    return True


def warn_of_parts(poses: Float[np.ndarray, "P 17 3"], path: Any) -> None:
    """Says that parts that nobody named can hardly be COCO's: the heads are too large."""
    seen = poses[..., 2] > 0
    some = poses[(seen.sum(1) >= _FEWEST_PARTS) & (seen[:, _HEAD].sum(1) >= 2)]
    if not len(some):
        return
    head, whole = (np.linalg.norm(extents(p), axis=1) for p in (some[:, _HEAD], some))
    size = np.median(head / np.maximum(whole, 1e-6))
    if size > _MOST_HEAD:
        logging.warning(
            "%s: 17 parts are read as COCO's, but nose, eyes and ears spread over %.2f of the pose (COCO: 0.1). Are they"
            " other parts (--skeleton=h36m, --skeleton=posetrack)? --skeleton=coco says that they are not.",
            path, size,
        )  # fmt: skip


def warn_of_lying(poses: Float[np.ndarray, "P 17 3"], path: Any, *, fractions: bool) -> None:
    """Says that most persons lie on their side, as they do where x and y are exchanged.

    Args:
        poses: of all persons.
        path: of the file, for messages.
        fractions: whether coordinates were taken for fractions: such estimators often write y first (MoveNet).
    """
    lying, count = _lying(poses)
    if lying >= (1 if fractions else _LYING_PERSONS) and lying > _LYING_SHARE * count:
        logging.warning(
            "%s: %d of %d persons lie on their side; are the coordinates in the order y, x?",
            path, lying, count,
        )  # fmt: skip


def _lying(poses: np.ndarray) -> tuple[int, int]:
    """How many persons lie on their side, and of how many it can be told."""
    seen = np.all(poses[:, _SHOULDERS + _HIPS, 2] > 0, axis=1)
    trunks = np.abs(poses[seen][:, _HIPS, :2].mean(1) - poses[seen][:, _SHOULDERS, :2].mean(1))
    return int(np.sum(trunks[:, 0] > trunks[:, 1])), len(trunks)


def outside(
    poses: Float[np.ndarray, "P 17 3"], height: int, width: int
) -> Bool[np.ndarray, "P 17"]:
    """Returns which parts lie outside of a photo."""
    points = poses[..., :2]
    inside = np.all((points >= -_EDGE) & (points <= (width + _EDGE, height + _EDGE)), axis=-1)
    return (poses[..., 2] > 0) & ~inside


def check_photo(
    poses: Float[np.ndarray, "P 17 3"], height: int, width: int, photo: Any
) -> Bool[np.ndarray, "P 17"]:
    """Checks that poses can be those of a photo, and returns which parts lie outside of it.

    Raises:
        PoseFileError: too many parts lie outside.
    """
    seen, out = poses[..., 2] > 0, outside(poses, height, width)
    share = out.sum() / max(seen.sum(), 1)
    lying, count = _lying(poses)
    swapped = not outside(poses[..., [1, 0, 2]], height, width).any()
    if share > _MOST_SWAPPED and swapped and 2 * lying >= count:
        hint = "in the order y, x they would all lie inside; write x first"
    elif share > _MOST_OUTSIDE:
        hint = "the poses belong to another photo, or to this one at another size"
    else:
        if share > _MOST_SWAPPED:
            logging.warning(
                "%s: %d of %d parts lie outside of the photo (%dx%d); are the poses of this photo, and of this size?",
                photo, int(out.sum()), int(seen.sum()), width, height,
            )  # fmt: skip
        return out
    reach = poses[seen][:, :2].max(0)
    raise PoseFileError(
        f"{photo}: {int(out.sum())} of {int(seen.sum())} parts of its poses lie outside of the photo, which is"
        f" {width}x{height} (they go up to x = {reach[0]:.0f}, y = {reach[1]:.0f}); {hint}."
    )


def extents(poses: Float[np.ndarray, "P K 3"]) -> Float[np.ndarray, "P 2"]:
    """Returns the width and height of the box around the parts of each pose; negative for nobody."""
    seen = (poses[..., 2] > 0)[..., None]
    low = np.min(poses[..., :2], axis=1, where=seen, initial=np.inf)
    high = np.max(poses[..., :2], axis=1, where=seen, initial=-np.inf)
    return high - low
