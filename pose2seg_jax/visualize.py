"""Pictures: overlays of masks and skeletons, and the panels of training."""

import colorsys
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Float, UInt8

from pose2seg_jax.skeleton import COCO_LIMBS

_SMOOTH = 3  # lines are drawn this much larger and scaled down
_PANEL = 192  # side of one picture in a training panel


def person_colors(count: int) -> UInt8[np.ndarray, "N 3"]:
    """One well-separated colour a person: hues a golden angle apart."""
    hues = (0.58 + 0.381966 * np.arange(count)) % 1
    values = [colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues]
    return (255 * np.asarray(values).reshape(count, 3)).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Sequence[np.ndarray],
    poses: Sequence[np.ndarray],
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws masks (tinted, with an outline) and skeletons over an image, one colour a person.

    Args:
        image: RGB.
        masks: (H, W) each, non-zero inside; drawn largest first, so that small ones stay visible.
        poses: (17, 3) each, in image coordinates.
    """
    colors = person_colors(len(masks))
    picture = image.astype(np.float32)
    for index in sorted(range(len(masks)), key=lambda i: -np.count_nonzero(masks[i])):
        inside = masks[index] > 0
        picture[inside] = 0.55 * picture[inside] + 0.45 * colors[index]
        picture[_outline(inside)] = 0.2 * 255 + 0.8 * colors[index]
    canvas = PIL.Image.fromarray(picture.astype(np.uint8))
    height, width = image.shape[:2]
    lines = PIL.Image.new("RGBA", (width * _SMOOTH, height * _SMOOTH))
    for pose, color in zip(poses, colors, strict=True):
        _draw_skeleton(lines, pose, tuple(int(c) for c in color), max(height, width) / 320)
    lines = lines.resize((width, height), PIL.Image.Resampling.BOX)
    canvas.paste(lines, mask=lines)
    return np.asarray(canvas)


def _outline(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def _draw_skeleton(
    lines: PIL.Image.Image, pose: np.ndarray, color: tuple[int, ...], thickness: float
) -> None:
    draw = PIL.ImageDraw.Draw(lines)
    points = [(float(x) * _SMOOTH, float(y) * _SMOOTH) for x, y, _ in pose]
    for wide, shade in ((2.2, (0, 0, 0, 140)), (1.0, (*color, 255))):
        for first, second in COCO_LIMBS:
            if pose[first, 2] > 0 and pose[second, 2] > 0:
                width = max(round(wide * thickness * _SMOOTH), 1)
                draw.line([points[first], points[second]], fill=shade, width=width)
    radius = 1.4 * thickness * _SMOOTH
    for (x, y), visibility in zip(points, pose[:, 2], strict=True):
        if visibility > 0:
            fill = (255, 255, 255, 255) if visibility > 1 else (60, 60, 60, 255)
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=fill, outline=(*color, 255), width=_SMOOTH)


def training_panel(
    image: UInt8[np.ndarray, "S S 3"],
    *,
    roi: Float[np.ndarray, "R R 3"],
    skeleton: Float[np.ndarray, "R R C"],
    predicted: Float[np.ndarray, "R R"],
    true: Float[np.ndarray, "R R"],
) -> UInt8[np.ndarray, "h w 3"]:
    """One row: image, aligned ROI, Skeleton Features, predicted mask, true mask."""
    drawn = np.abs(skeleton)
    maps, fields = drawn[..., :17].max(axis=-1), drawn[..., 17:].max(axis=-1)
    pictures = [
        image,
        roi,
        255 * np.stack([maps, fields, np.zeros_like(maps)], axis=-1),
        np.repeat(255 * predicted[..., None], 3, axis=-1),
        np.repeat(255 * true[..., None], 3, axis=-1),
    ]
    return np.concatenate([_resize(np.clip(p, 0, 255).astype(np.uint8)) for p in pictures], axis=1)


def _resize(picture: np.ndarray) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(picture).resize((_PANEL, _PANEL)))
