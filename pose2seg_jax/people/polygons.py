"""Masks as polygons: the outlines of their pixels."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as mask_utils


def polygons(rle: dict[str, Any]) -> list[Float[np.ndarray, "V 2"]]:
    """Returns the outlines of a mask, one polygon for each part of it that hangs together by the sides of its pixels.

    The corners are those of pixels, so the polygon holds exactly the pixels of the mask, except that holes are filled:
    a COCO polygon cannot say them.

    Args:
        rle: the mask as COCO's compressed RLE.

    Returns:
        The corners (x, y) of each polygon, clockwise, in continuous image coordinates. An empty mask has no polygon.
    """
    x, y, width, height = map(int, mask_utils.toBbox(rle))
    if not width:
        return []
    inside = mask_utils.decode(rle)[y : y + height, x : x + width].view(bool)
    return [ring + np.asarray([x, y]) for ring in _outlines(inside)]


def _outlines(inside: Bool[np.ndarray, "h w"]) -> list[np.ndarray]:
    """The outer boundaries of a mask as corners (x, y)."""
    padded = np.pad(inside, 1)
    # The four pixels around each corner of a pixel, at [y, x].
    up_left, up_right = padded[:-1, :-1], padded[:-1, 1:]
    down_left, down_right = padded[1:, :-1], padded[1:, 1:]
    diagonal = (up_left == down_right) & (up_right == down_left) & (up_left != up_right)
    turns = (up_left ^ up_right ^ down_left ^ down_right) | diagonal
    # Where two pixels touch by their corners, the boundary turns twice: once around each of them.
    y, x = np.nonzero(turns)
    twice = diagonal[y, x]
    y, x, second = (
        np.concatenate([values, more])
        for values, more in ((y, y[twice]), (x, x[twice]), (np.zeros(len(y), int), np.ones(twice.sum(), int)))
    )  # fmt: skip
    # The first turn has the side to the left; it goes on upwards around the pixel up left, otherwise downwards.
    below = np.where(diagonal[y, x] & ~up_left[y, x], 1 - second, second)
    # In a row of corners, the first and the second are joined by a side, the third and the fourth, and so on.
    along_row = _partners(np.lexsort((second, x, y)))
    along_column = _partners(np.lexsort((below, y, x)))
    left = np.ones(len(x), bool)
    rings = []
    for start in np.lexsort((x, y)).tolist():  # of each ring, the highest corner comes first
        if not left[start]:
            continue
        ring, at = [], start
        while left[at]:
            ring += [at, along_row[at]]
            left[at] = left[along_row[at]] = False
            at = along_column[along_row[at]]
        if down_right[y[start], x[start]]:  # else it is the boundary of a hole
            rings.append(np.stack([x[ring], y[ring]], axis=1).astype(np.float64))
    return rings


def _partners(order: np.ndarray) -> np.ndarray:
    partners = np.empty(len(order), int)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners
