"""How the CVPR 2019 version of the method chooses a template (authors' code), for weights trained with it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.affine_align import (
    FALLBACK,
    Alignment,
    all_at_one_point,
    common_parts,
    one_of_each,
    sizes_of,
)
from pose2seg_jax.alignment.conventions import SamplingConvention
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.parts import FLIPPED_PARTS


def score_templates(
    poses: Real[Array, "N P 3"], templates: Real[Array, "K P 3"]
) -> tuple[Float[jax.Array, "N K 2 3"], Float[jax.Array, "N K"], Float[jax.Array, "N K"]]:
    """How well each template fits each pose (authors' code, CVPR 2019 version).

    The score is the mean over the common parts of exp(-d^2 / 2), d their distance in the unit square,
    times the share of the common parts among those that either has. It is 0 with fewer than three
    common parts, and where the template lacks a part that the pose has.

    Args:
        poses: (x, y, v), v = 0 for a missing part, in any coordinates.
        templates: (x, y, v) in the unit square.

    Returns:
        Similarities from pose coordinates to the unit square, the scores in [0, 1], and the root mean
        squared distances.
    """
    poses = geometry.as_floats(poses, "poses")
    templates = jnp.asarray(templates, poses.dtype)
    weights, missing = common_parts(poses, templates)
    points, targets = poses[:, None, :, :2], templates[None, :, :, :2]
    matrices, residuals = geometry.fit_similarity(points, targets, weights)
    square = jnp.sum((geometry.apply(matrices, points) - targets) ** 2, axis=-1)
    common = jnp.sum(weights, axis=-1)
    either = jnp.sum((poses[:, None, :, 2] > 0) | (templates[None, :, :, 2] > 0), axis=-1)
    scores = jnp.sum(weights * jnp.exp(-square / 2), axis=-1) / jnp.maximum(either, 1).astype(
        poses.dtype
    )
    return matrices, jnp.where((common >= 3) & ~missing, scores, 0.0), residuals


@functools.partial(
    jax.jit,
    static_argnames=(
        "roi_size",
        "convention",
    ),
)
def align_by_score(
    poses: Real[Array, "N P 3"],
    templates: Real[Array, "K P 3"],
    size: Real[Array, "N 2"] | Real[Array, "2"] | tuple[Any, Any],
    roi_size: int,
    *,
    convention: SamplingConvention,
) -> Alignment:
    """Chooses one similarity per person as the CVPR 2019 version does, for weights trained with it.

    Templates are tried as they are and with left and right swapped (K more); nothing is mirrored.
    The best score of `score_templates` wins, the earlier template on a tie, among the fits that
    show the person larger than the letterbox of the whole image does. Without such a fit, and where all
    common parts are at one point, it is that letterbox.

    Args:
        poses: (x, y, v), v = 0 for a missing part, in the coordinates of an image.
        templates: (x, y, v) in the unit square.
        size: (height, width) of the images, one for all or one per person.
        roi_size: side of the ROI in cells.
        convention: where the ROI is read; the authors' code has `conventions.PixelIndices`.
    """
    poses = geometry.as_floats(poses, "poses")
    templates = jnp.asarray(templates, poses.dtype)
    templates = jnp.concatenate([templates, templates[:, np.asarray(FLIPPED_PARTS)]])
    size = sizes_of(size, poses)
    whole = geometry.letterbox(size, roi_size)
    smallest = geometry.scale_of(whole)
    matrices, scores, residuals = score_templates(poses, templates)
    matrices = jnp.asarray(convention.template_to_roi(roi_size * matrices))
    whole = jnp.asarray(convention.image_to_roi(whole))
    weights, _ = common_parts(poses, templates)
    usable = (
        (scores > 0)
        & (geometry.scale_of(matrices) > smallest[:, None])
        & ~all_at_one_point(poses[:, None, :, :2], weights, smallest)
    )
    best = jnp.argmax(jnp.where(usable, scores, 0.0), axis=-1)
    found = one_of_each(usable, best)
    return Alignment(
        matrix=jnp.where(found[:, None, None], one_of_each(matrices, best), whole),
        template=jnp.where(found, best, FALLBACK).astype(jnp.int32),
        mirrored=jnp.zeros_like(found),
        residual=jnp.where(found, roi_size * one_of_each(residuals, best), 0.0),
    )
