"""Skeleton Features (paper 3.3): a pose drawn as part confidence maps and part affinity fields.

Pure functions over all persons at once. No Flax, no TensorFlow.
"""

import jax.numpy as jnp
from jaxtyping import Float

from pose2seg_jax.geometry import Array

Limbs = tuple[tuple[int, int], ...]

# The paper counts 11 limbs without naming them: arms, legs, the sides of the trunk, the shoulders.
PAPER_LIMBS: Limbs = (
    (5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (5, 11), (6, 12), (5, 6),
)  # fmt: skip
# All 19 links of COCO (authors' code, CVPR 2019 version).
COCO_LIMBS: Limbs = (
    (0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (5, 11), (6, 8), (6, 12),
    (7, 9), (8, 10), (11, 12), (11, 13), (12, 14), (13, 15), (14, 16),
)  # fmt: skip
LIMB_PRESETS: dict[str, Limbs] = {"paper": PAPER_LIMBS, "coco": COCO_LIMBS}

SIGMA = 3.0  # of a confidence map, in ROI cells (authors' code)
_CUTOFF = 4.6025  # a confidence map ends where its exponent is larger: at 1 % of its peak
_HALF_WIDTH = 1.0  # of a limb, in ROI cells (authors' code)


def num_channels(limbs: Limbs, num_parts: int = 17) -> int:
    """Channels of the Skeleton Features: 39 with the paper's limbs, 55 with COCO's."""
    return num_parts + 2 * len(limbs)


def skeleton_features(
    poses: Float[Array, "N P 3"], roi_size: int, limbs: Limbs = PAPER_LIMBS
) -> Float[Array, "N R R C"]:
    """Draws poses into their ROIs.

    The first P channels are confidence maps: exp(-d^2 / 2 sigma^2) around a part, negated where
    the part is hidden (v = 1), nothing where it is missing. Two channels per limb follow: the x
    and y of the unit vector from its first to its second part, on the cells whose centre is less
    than one cell from the line and within the limb's padded box; nothing unless both parts are
    labelled and apart. All as in the authors' code, to which it is equal (tests/skeleton_test.py).

    Args:
        poses: (x, y, v) in ROI coordinates.
        roi_size: side R of the ROI in cells.
        limbs: pairs of parts.
    """
    center = jnp.arange(roi_size, dtype=poses.dtype) + 0.5
    x, y, v = poses[..., 0], poses[..., 1], poses[..., 2]
    exponent_x = (center - x[..., None]) ** 2 / (2 * SIGMA**2)
    exponent_y = (center - y[..., None]) ** 2 / (2 * SIGMA**2)
    sign = jnp.where(v > 1, 1, jnp.where(v > 0, -1, 0)).astype(poses.dtype)
    # exp(-(a + b)) = exp(-a) exp(-b): one exponential a row and a column, not one a cell.
    peak_x, peak_y = jnp.exp(-exponent_x), sign[..., None] * jnp.exp(-exponent_y)
    near = exponent_y[:, :, :, None] + exponent_x[:, :, None, :] <= _CUTOFF
    maps = jnp.where(near, peak_y[:, :, :, None] * peak_x[:, :, None, :], 0)

    first, second = jnp.asarray(limbs).T
    start, end = poses[:, first], poses[:, second]
    vector = end[..., :2] - start[..., :2]
    square = jnp.sum(vector**2, axis=-1)
    drawn = (start[..., 2] > 0) & (end[..., 2] > 0) & (square > 0)
    unit = vector / jnp.sqrt(jnp.where(drawn, square, 1))[..., None]
    # The padded box covers whole cells, as the authors' code rounds it.
    low = jnp.round(jnp.minimum(start, end)[..., :2] - 0.5 - _HALF_WIDTH)
    high = jnp.round(jnp.maximum(start, end)[..., :2] - 0.5 + _HALF_WIDTH)
    in_x = (center > low[..., :1]) & (center < high[..., :1])
    in_y = (center > low[..., 1:]) & (center < high[..., 1:])
    across_y = unit[..., :1] * (center - start[..., 1:2])
    across_x = unit[..., 1:] * (center - start[..., :1])
    distance = jnp.abs(across_y[:, :, :, None] - across_x[:, :, None, :])
    on_limb = (
        (distance < _HALF_WIDTH)
        & in_y[:, :, :, None]
        & in_x[:, :, None, :]
        & drawn[:, :, None, None]
    )
    fields = jnp.where(on_limb[..., None], unit[:, :, None, None, :], 0)

    batch, num_limbs = poses.shape[0], len(limbs)
    fields = jnp.moveaxis(fields, 1, 3).reshape(batch, roi_size, roi_size, 2 * num_limbs)
    return jnp.concatenate([jnp.moveaxis(maps, 1, 3), fields], axis=-1)
