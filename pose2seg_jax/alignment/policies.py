"""The three ways to align persons, by name: a network is trained with one of them."""

import jax.numpy as jnp
from jaxtyping import Real

from pose2seg_jax.alignment import affine_align, cvpr2019, geometry
from pose2seg_jax.alignment.affine_align import FALLBACK, Alignment
from pose2seg_jax.alignment.conventions import SamplingConvention
from pose2seg_jax.alignment.geometry import Array

POLICIES = ("affine_align", "cvpr2019", "box")


def align_boxes(boxes: Real[Array, "N 4"], roi_size: int) -> Alignment:
    """The box of each person stretched over the ROI, as RoIAlign does (Mask R-CNN).

    For comparison with alignment by pose. A box of no size counts as one pixel.

    Args:
        boxes: (x, y, width, height).
        roi_size: side of the ROI in cells.
    """
    boxes = geometry.as_floats(boxes, "boxes")
    scale = roi_size / jnp.maximum(boxes[:, 2:], 1.0)
    zero = jnp.zeros_like(scale[:, 0])
    rows = [
        jnp.stack([scale[:, 0], zero, -scale[:, 0] * boxes[:, 0]], -1),
        jnp.stack([zero, scale[:, 1], -scale[:, 1] * boxes[:, 1]], -1),
    ]
    none = jnp.full(boxes.shape[0], FALLBACK)
    return Alignment(jnp.stack(rows, -2), none, none == 0, zero)


def align_persons(
    policy: str,
    poses: Real[Array, "N P 3"],
    boxes: Real[Array, "N 4"] | None,
    templates: Real[Array, "K P 3"],
    size: Real[Array, "N 2"] | Real[Array, "2"] | tuple[int, int],
    roi_size: int,
    *,
    reflect: bool,
    convention: SamplingConvention,
) -> Alignment:
    """Aligns persons by a policy of POLICIES.

    "affine_align" is `affine_align.align_poses`, "cvpr2019" is `cvpr2019.align_by_score`, and "box" is
    `align_boxes`.

    Raises:
        ValueError: the policy "box" without boxes, or an unknown policy.
    """
    if policy == "affine_align":
        return affine_align.align_poses(poses, templates, size, roi_size, reflect=reflect)
    if policy == "cvpr2019":
        return cvpr2019.align_by_score(poses, templates, size, roi_size, convention=convention)
    if policy == "box" and boxes is not None:
        return align_boxes(boxes, roi_size)
    raise ValueError(f"policy {policy!r} with boxes {boxes}; must be one of {', '.join(POLICIES)}")
