"""Skeleton Features (paper 3.3): a pose drawn as part confidence maps and part affinity fields.

Pure functions over all persons at once. No Flax, no TensorFlow.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.parts import PAPER_LIMBS, Limbs

SIGMA = 3.0  # of a confidence map, in ROI cells (authors' code)
_CUTOFF = 4.6025  # a confidence map ends where its exponent is larger: at 1 % of its peak
_HALF_WIDTH = 1.0  # of a limb, in ROI cells (authors' code)


def num_channels(limbs: Limbs, num_parts: int = 17) -> int:
    """Channels of the Skeleton Features: 39 with the paper's limbs, 55 with COCO's."""
    return num_parts + 2 * len(limbs)


def skeleton_features(
    poses: Real[Array, "N P 3"], roi_size: int, limbs: Limbs = PAPER_LIMBS
) -> Float[jax.Array, "N R R C"]:
    """Draws poses into their ROIs.

    The first P channels are confidence maps: exp(-d^2 / 2 sigma^2) around a part, negated where
    the part is hidden (v = 1), nothing where it is missing. Two channels per limb follow: the x
    and y of the unit vector from its first to its second part, on the cells whose centre is less
    than one cell from the line and within the limb's padded box; nothing unless both parts are
    labelled and apart. All as in the authors' code, to which it is equal (tests/alignment/skeleton_test.py).

    Args:
        poses: (x, y, v) in ROI coordinates.
        roi_size: side R of the ROI in cells.
        limbs: pairs of parts.
    """
    return _draw(poses, roi_size, tuple((int(first), int(second)) for first, second in limbs))


@functools.partial(jax.jit, static_argnames=("roi_size", "limbs"))
def _draw(poses, roi_size, limbs):
    poses = geometry.as_floats(poses, "poses")
    center = jnp.arange(roi_size, dtype=poses.dtype)[None, :, None] + 0.5
    maps = _outer(*_part_profiles(poses, center))
    fields = _outer(*_limb_profiles(poses, center, limbs))
    return jnp.concatenate([maps, fields], axis=-1)


def _outer(rows, row_distances, columns, column_distances):
    """Channels from row and column profiles (N, R, C): their product where the distances add to < 1.

    So the large arrays are written once and in their final order. Maps and fields apart: XLA would
    compute the profiles of concatenated ones again for every cell.
    """
    inside = jnp.abs(row_distances[:, :, None] + column_distances[:, None]) < 1
    return jnp.where(inside, rows[:, :, None] * columns[:, None], 0.0)


def _part_profiles(poses, center):
    """Rows, row distances, columns, column distances (N, R, P) of the confidence maps."""
    x, y, v = poses[:, None, :, 0], poses[:, None, :, 1], poses[:, None, :, 2]
    exponent_x = (center - x) ** 2 / (2 * SIGMA**2)
    exponent_y = (center - y) ** 2 / (2 * SIGMA**2)
    sign = jnp.where(v > 1, 1, jnp.where(v > 0, -1, 0)).astype(poses.dtype)
    # exp(-(a + b)) = exp(-a) exp(-b): one exponential a row and a column, not one a cell.
    rows, columns = sign * jnp.exp(-exponent_y), jnp.exp(-exponent_x)
    return rows, exponent_y / _CUTOFF, columns, exponent_x / _CUTOFF


def _limb_profiles(poses, center, limbs):
    """Rows, row distances, columns, column distances (N, R, 2L) of the part affinity fields."""
    first, second = np.repeat(np.asarray(limbs), 2, axis=0).T  # two channels a limb
    start, end = poses[:, None, first], poses[:, None, second]
    vector = end[..., :2] - start[..., :2]
    square = jnp.sum(vector**2, axis=-1)
    drawn = (start[..., 2] > 0) & (end[..., 2] > 0) & (square > 0)
    unit = vector / jnp.sqrt(jnp.where(drawn, square, 1.0))[..., None]
    # The padded box covers whole cells, as the authors' code rounds it.
    low = jnp.round(jnp.minimum(start, end)[..., :2] - 0.5 - _HALF_WIDTH)
    high = jnp.round(jnp.maximum(start, end)[..., :2] - 0.5 + _HALF_WIDTH)
    in_box = (center[..., None] > low) & (center[..., None] < high)
    is_x = np.arange(len(first))[None, None] % 2 == 0
    rows = jnp.where(is_x, unit[..., 0], unit[..., 1]) * (in_box[..., 1] & drawn).astype(
        poses.dtype
    )
    columns = in_box[..., 0].astype(poses.dtype)
    row_distances = unit[..., 0] * (center - start[..., 1]) / _HALF_WIDTH
    column_distances = -unit[..., 1] * (center - start[..., 0]) / _HALF_WIDTH
    return rows, row_distances, columns, column_distances
