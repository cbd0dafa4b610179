"""What prediction takes: checks of images and poses where a user can call."""

from typing import Any

import jax
import numpy as np
import PIL.Image
import PIL.ImageOps

from pose2seg_jax.errors import UserError
from pose2seg_jax.people.masks import MAX_PIXELS
from pose2seg_jax.people.parts import NUM_PARTS


class InputError(UserError):
    """An image or poses that are not what the predictor takes; the message says what it takes."""


def image_array(image: Any) -> Any:
    """Returns an image as an array: a Pillow image as a viewer shows it, anything else as it is."""
    if isinstance(image, PIL.Image.Image):
        return np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))
    return image


def check_image(image: Any) -> None:
    """Checks the kind of an image; also of one that is traced under `jit`.

    Raises:
        InputError: it is not (H, W, 3) uint8, or has too many pixels for an RLE mask.
    """
    array = image if isinstance(image, jax.Array) else np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"image is {array.dtype} of shape {array.shape}; expected uint8 of shape (H, W, 3), RGB:"
            " np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(FILE)).convert('RGB'))."
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(
            f"image has {array.shape[0]} x {array.shape[1]} pixels; masks as RLE hold at most {MAX_PIXELS}."
        )


def check_poses(poses: Any) -> np.ndarray:
    """Returns poses as float32 (P, 17, 3), checked.

    Raises:
        InputError: they are another kind of array, or hold no coordinates or no visibilities.
    """
    try:
        array = np.asarray(poses)
    except ValueError as error:
        raise InputError(f"poses are no array: {error}") from None
    if array.dtype.kind not in "iuf" or array.ndim != 3 or array.shape[1:] != (NUM_PARTS, 3):
        raise InputError(
            f"poses are {array.dtype} of shape {array.shape}; expected numbers of shape"
            f" (P, {NUM_PARTS}, 3): x, y and visibility of COCO's parts."
        )
    bad = np.flatnonzero(~np.all(np.abs(array) < 1e6, axis=(1, 2)))  # also nan
    if bad.size:
        raise InputError(f"poses[{bad[0]}] holds values that are no coordinates.")
    bad = np.flatnonzero(~np.all(np.isin(array[..., 2], (0, 1, 2)), axis=1))
    if bad.size:
        raise InputError(
            f"poses[{bad[0]}]: the third value of a part is its visibility, 0 (missing), 1 (hidden)"
            f" or 2 (visible), but there is {array[bad[0], :, 2].max():g}. For scores:"
            " pose2seg_jax.people.pose_files.visibilities_from_scores(poses, threshold)."
        )
    return array.astype(np.float32)


def check_pose_scores(scores: Any, count: int) -> np.ndarray:
    """Returns scores of poses as float64 (P,), checked; ones where there are none.

    Raises:
        InputError: they are of another number of poses, or not numbers of 0 or more.
    """
    if scores is None:
        return np.ones(count)
    array = np.asarray(scores)
    if array.dtype.kind not in "iuf" or array.shape != (count,):
        raise InputError(
            f"pose_scores are {array.dtype} of shape {array.shape}; expected one number for each of the"
            f" {count} poses."
        )
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise InputError("pose_scores must be finite numbers, 0 or more.")
    return array.astype(np.float64)
