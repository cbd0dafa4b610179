"""What prediction takes: checks of images and poses where a user can call."""

import os
from typing import Any

import jax
import numpy as np
import PIL.Image
import PIL.ImageOps

from pose2seg_jax.errors import UserError
from pose2seg_jax.people import images
from pose2seg_jax.people.masks import MAX_PIXELS
from pose2seg_jax.people.parts import NUM_PARTS

_DEEP_MODES = "IF"  # how Pillow's modes of more than 8 bits begin
_FARTHEST = 1e6  # pixels; larger numbers are no coordinates
_FEWEST_PARTS = 3  # of a pose that can be told from fractions


class InputError(UserError):
    """An image or poses that are not what the predictor takes; the message says what it takes."""


def image_array(image: Any) -> np.ndarray:
    """Returns an image as an array, checked.

    Args:
        image: an array or tensor (H, W, 3) uint8, RGB; or a Pillow image, or the path of an image file, as a viewer shows it.

    Raises:
        InputError: it is none of them, or has too many pixels for an RLE mask.
        ImageError: the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        image = images.open_image(image)
    if isinstance(image, PIL.Image.Image):
        if image.mode[0] in _DEEP_MODES:
            raise InputError(
                f"image is a Pillow image of mode {image.mode}, more than 8 bits; convert it to RGB."
            )
        image = PIL.ImageOps.exif_transpose(image).convert("RGB")
    array = as_array(image, "image")
    check_image(array)
    return array


def as_array(values: Any, what: str) -> np.ndarray:
    """Returns an array of NumPy, from one of JAX, a tensor of PyTorch or lists.

    Raises:
        InputError: it is no array, or on a device from where it must be fetched.
    """
    try:
        if isinstance(values, jax.Array):
            return np.asarray(jax.device_get(values))
        return np.asarray(values)
    except (
        ValueError,
        TypeError,
        RuntimeError,
    ) as error:  # ragged lists; a tensor on a GPU, or with a gradient
        raise InputError(f"{what}: no array can be made of it: {error}") from None


def check_image(image: Any) -> None:
    """Checks the kind of an image; also of one that is traced under `jit`.

    Raises:
        InputError: it is not (H, W, 3) uint8, or has too many pixels for an RLE mask.
    """
    array = image if isinstance(image, jax.Array) else np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"image is {array.dtype} of shape {array.shape}; expected uint8 of shape (H, W, 3), RGB{_hint(array)}."
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(
            f"image has {array.shape[0]} x {array.shape[1]} pixels; masks as RLE hold at most {MAX_PIXELS}."
        )


def _hint(array: Any) -> str:
    """What to do with an image of another kind."""
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        return ": its channels come first; use image.transpose(1, 2, 0)"
    if array.ndim == 4 and len(array) == 1:
        return ": it is a batch of one; use image[0]"
    if array.ndim == 3 and array.shape[2] == 3 and np.issubdtype(array.dtype, np.floating):
        return ": for values from 0 to 1, use (255 * image).round().astype('uint8')"
    return ": np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(FILE)).convert('RGB'))"


def check_poses(poses: Any) -> np.ndarray:
    """Returns poses as float32 (P, 17, 3), checked.

    Raises:
        InputError: they are another kind of array, or hold no coordinates or no visibilities.
    """
    array = as_array(poses, "poses")
    if not array.size and len(array.shape) in (1, 2, 3) and not array.shape[0]:  # nobody
        return np.zeros((0, NUM_PARTS, 3), np.float32)
    if array.dtype.kind not in "iuf" or array.ndim != 3 or array.shape[1:] != (NUM_PARTS, 3):
        raise InputError(
            f"poses are {array.dtype} of shape {array.shape}; expected numbers of shape"
            f" (P, {NUM_PARTS}, 3): x, y and visibility of COCO's parts."
        )
    # Of a missing part, x and y may be anything, such as NaN, or where an estimator would have it.
    unknown = (array[..., 2:] == 0) & ~np.all(np.abs(array) < _FARTHEST, axis=-1, keepdims=True)
    array = np.where(unknown, 0, array)
    bad = np.flatnonzero(~np.all(np.abs(array) < _FARTHEST, axis=(1, 2)))  # also nan
    if bad.size:
        raise InputError(f"poses[{bad[0]}] holds values that are no coordinates.")
    wrong = np.argwhere(~np.isin(array[..., 2], (0, 1, 2)))
    if wrong.size:
        person, part = wrong[0]
        raise InputError(
            f"poses[{person}]: the third value of a part is its visibility, 0 (missing), 1 (hidden)"
            f" or 2 (visible), but there is {array[person, part, 2]:g}. For scores:"
            " pose2seg_jax.people.pose_files.visibilities_from_scores(poses, threshold)."
        )
    return array.astype(np.float32)


def check_pixels(poses: np.ndarray, height: int, width: int) -> None:
    """Checks that poses are not fractions of an image: all of a pose within its first pixel.

    Args:
        poses: (P, 17, 3), checked.
        height: of the image.
        width: of the image.

    Raises:
        InputError: they are.
    """
    seen = poses[..., 2] > 0
    within = np.all((poses[..., :2] >= 0) & (poses[..., :2] <= 1), axis=-1)
    small = (seen.sum(1) >= _FEWEST_PARTS) & np.all(within | ~seen, axis=1)
    if np.any(small) and min(height, width) > 2:
        raise InputError(
            f"poses[{np.flatnonzero(small)[0]}]: all parts lie within 0..1, the first pixel; poses are in pixels, so"
            " multiply fractions by the width and the height of the image."
        )


def check_pose_scores(scores: Any, count: int) -> np.ndarray:
    """Returns scores of poses as float64 (P,), checked; ones where there are none.

    Raises:
        InputError: they are of another number of poses, or not numbers of 0 or more.
    """
    if scores is None:
        return np.ones(count)
    array = as_array(scores, "pose_scores")
    if array.dtype.kind not in "iuf" or array.shape != (count,):
        raise InputError(
            f"pose_scores are {array.dtype} of shape {array.shape}; expected one number for each of the"
            f" {count} poses."
        )
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise InputError("pose_scores must be finite numbers, 0 or more.")
    return array.astype(np.float64)
