"""Panels: a row of pictures for each person, of prediction (Figure 10 of the paper) and of training."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Float, UInt8

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.alignment.skeleton import skeleton_features
from pose2seg_jax.people.masks import encode_mask
from pose2seg_jax.people.parts import COCO_LIMBS
from pose2seg_jax.pictures import overlays

_PANEL = 192  # side of each picture in pixels


def alignment_panels(
    image: UInt8[np.ndarray, "H W 3"],
    poses: Float[np.ndarray, "P 17 3"],
    probabilities: Float[np.ndarray, "P R R"],
    matrices: Float[np.ndarray, "P 2 3"],
    roi_stride: int,
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """AffineAlign step by step, a row a person (Figure 10 of the paper).

    From left: the pose and the ROI; the aligned ROI; Skeleton Features; the mask in the ROI; the
    mask in the image.

    Args:
        image: RGB.
        poses: of the persons.
        probabilities: mask probabilities in their ROIs.
        matrices: from the image to the ROIs.
        roi_stride: of the network: it draws the Skeleton Features at every so many cells.
    """
    roi_size = probabilities.shape[-1]
    corners = np.array(
        [[0, 0], [roi_size, 0], [roi_size, roi_size], [0, roi_size], [0, 0]], np.float32
    )
    inverses = np.asarray(geometry.invert(matrices))
    windows = np.asarray(geometry.apply(inverses, corners))
    to_cells = geometry.compose(geometry.scaling(1 / roi_stride), matrices)
    placed = geometry.apply_to_poses(to_cells, poses)
    drawn = skeleton_features(placed, roi_size // roi_stride, COCO_LIMBS)
    colors = overlays.person_colors(len(poses))
    panels = []
    for slot, pose in enumerate(poses):
        color = colors[slot : slot + 1]
        outlined = PIL.Image.fromarray(overlays.overlay(image, [], [pose], color))
        draw = PIL.ImageDraw.Draw(outlined)
        outline = [tuple(point) for point in windows[slot].tolist()]
        draw.line(outline, fill=tuple(color[0].tolist()), width=1 + max(image.shape) // 200)
        # From the finer pixels of the picture to the image: a cell is _PANEL / R of them.
        to_image = inverses[slot] * [[roi_size / _PANEL, roi_size / _PANEL, 1]]
        shown = PIL.Image.fromarray(image).transform(
            (_PANEL, _PANEL),
            PIL.Image.Transform.AFFINE,
            tuple(to_image.ravel()),
            PIL.Image.Resampling.BICUBIC,
        )
        probability = probabilities[slot]
        rle = encode_mask(probability, matrices[slot], *image.shape[:2])
        back = overlays.overlay(image, [rle], colors=color)
        pictures = [
            _square(np.asarray(outlined)),
            np.asarray(shown),
            skeleton_picture(drawn[slot]),
            np.repeat(255 * probability[..., None], 3, axis=-1),
            _square(back),
        ]
        panels.append(_row(pictures))
    return panels


def _square(picture: np.ndarray) -> np.ndarray:
    """In the middle of a white square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), 255, np.uint8)
    square[top : top + height, left : left + width] = picture
    return square


def skeleton_picture(features: Float[Array, "R R C"]) -> Float[np.ndarray, "R R 3"]:
    """Skeleton Features as colours 0..255: part confidence maps red, part affinity fields green."""
    drawn = np.abs(np.asarray(features))
    maps, fields = drawn[..., :17].max(axis=-1), drawn[..., 17:].max(axis=-1)
    return 255 * np.stack([maps, fields, np.zeros_like(maps)], axis=-1)


def training_panel(
    image: UInt8[np.ndarray, "S S 3"],
    *,
    roi: Float[np.ndarray, "R R 3"],
    skeleton: Float[np.ndarray, "Q Q C"],
    predicted: Float[np.ndarray, "R R"],
    true: Float[np.ndarray, "R R"],
) -> UInt8[np.ndarray, "h w 3"]:
    """One row: image, aligned ROI, Skeleton Features, predicted mask, true mask."""
    pictures = [
        image,
        roi,
        skeleton_picture(skeleton),
        np.repeat(255 * predicted[..., None], 3, axis=-1),
        np.repeat(255 * true[..., None], 3, axis=-1),
    ]
    return _row(pictures)


def _row(pictures: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([_resize(np.clip(p, 0, 255).astype(np.uint8)) for p in pictures], axis=1)


def _resize(picture: np.ndarray) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(picture).resize((_PANEL, _PANEL)))
