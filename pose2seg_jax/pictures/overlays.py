"""Masks, skeletons and boxes drawn over an image."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import UInt8
from pycocotools import mask as mask_utils

from pose2seg_jax.people.parts import COCO_LIMBS

_SMOOTH = 3  # lines are drawn this much larger and scaled down
_LARGE = 2000  # longer side in pixels of a picture whose lines are not


def person_colors(count: int) -> UInt8[np.ndarray, "N 3"]:
    """One well-separated colour a person: hues a golden angle apart."""
    hues = (0.58 + 0.381966 * np.arange(count)) % 1
    values = [colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues]
    return (255 * np.asarray(values).reshape(count, 3)).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    rles: Sequence[Any] | np.ndarray,
    poses: Sequence[np.ndarray] | np.ndarray = (),
    colors: UInt8[np.ndarray, "N 3"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws masks (tinted, with an outline) and skeletons over an image, one colour a person.

    Args:
        image: RGB.
        rles: masks as COCO's compressed RLE, or as arrays (P, H, W); drawn largest first, so that small ones stay
            visible.
        poses: (17, 3) each, in image coordinates.
        colors: of the persons; `person_colors` by default.
    """
    if isinstance(rles, np.ndarray):
        rles = [mask_utils.encode(np.asfortranarray(mask, np.uint8)) for mask in rles]
    if colors is None:
        colors = person_colors(max(len(rles), len(poses)))
    picture = image.copy()
    for index in np.argsort([-int(mask_utils.area(rle)) for rle in rles]):
        _tint(picture, rles[index], colors[index])
    canvas = PIL.Image.fromarray(picture)
    # The lines of large pictures are wide enough to look smooth as they are.
    smooth = _SMOOTH if max(canvas.size) < _LARGE else 1
    for pose, color in zip(poses, colors[: len(poses)].tolist(), strict=True):
        _draw_skeleton(canvas, pose, tuple(color), smooth)
    return np.asarray(canvas)


def _tint(picture: np.ndarray, rle: Any, color: np.ndarray) -> None:
    x, y, width, height = mask_utils.toBbox(rle).astype(int).tolist()
    window = slice(y, y + height), slice(x, x + width)
    inside = mask_utils.decode(rle)[window].view(bool)  # one at a time: photos can be large
    shown = picture[window]
    shown[inside] = 0.55 * shown[inside] + 0.45 * color
    shown[_outline(inside)] = 0.2 * 255 + 0.8 * color


def _outline(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def _draw_skeleton(
    canvas: PIL.Image.Image, pose: np.ndarray, color: tuple[int, ...], smooth: int
) -> None:
    """Draws a pose on a picture, `smooth` times as large around the pose and then scaled down."""
    seen = pose[:, 2] > 0
    if not np.any(seen):
        return
    thickness = max(canvas.size) / 320
    reach = int(3 * thickness) + 2
    low = np.maximum(np.floor(pose[seen, :2].min(0)) - reach, 0)
    high = np.minimum(np.ceil(pose[seen, :2].max(0)) + reach, canvas.size)
    left, top, width, height = np.concatenate([low, high - low]).astype(int).tolist()
    if width <= 0 or height <= 0:
        return
    lines = PIL.Image.new("RGBA", (width * smooth, height * smooth))
    draw = PIL.ImageDraw.Draw(lines)
    points = [(float(x) * smooth, float(y) * smooth) for x, y in pose[:, :2] - low]
    for wide, shade in ((2.2, (0, 0, 0, 140)), (1.0, (*color, 255))):
        for first, second in COCO_LIMBS:
            if seen[first] and seen[second]:
                line = max(round(wide * thickness * smooth), 1)
                draw.line([points[first], points[second]], fill=shade, width=line)
    radius = 1.4 * thickness * smooth
    for (x, y), visibility in zip(points, pose[:, 2], strict=True):
        if visibility > 0:
            fill = (255, 255, 255, 255) if visibility > 1 else (60, 60, 60, 255)
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=fill, outline=(*color, 255), width=smooth)
    lines = lines.reduce(smooth)
    canvas.paste(lines, (left, top), lines)


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"], boxes: Sequence[tuple[np.ndarray, bool]]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws (x, y, width, height) boxes, one colour a person; dashed where the flag is set."""
    canvas = PIL.Image.fromarray(image)
    draw = PIL.ImageDraw.Draw(canvas)
    for (box, dashed), color in zip(boxes, person_colors(len(boxes)).tolist(), strict=True):
        x0, y0, x1, y1 = np.concatenate([box[:2], box[:2] + box[2:] - 1]).tolist()
        for start, end in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)),
                           ((x0, y1), (x0, y0))):  # fmt: skip
            for a, b in _dashes(np.asarray(start), np.asarray(end), 4 if dashed else np.inf):
                draw.line(
                    [tuple(a), tuple(b)], fill=tuple(color), width=1 + max(image.shape) // 300
                )
    return np.asarray(canvas)


def _dashes(start: np.ndarray, end: np.ndarray, length: float) -> list[tuple]:
    count = max(int(np.hypot(*(end - start)) // (2 * length)), 1) if np.isfinite(length) else 0
    if not count:
        return [(start, end)]
    ends = np.linspace(start, end, 2 * count + 1)
    return [(ends[2 * i], ends[2 * i + 1]) for i in range(count)]
