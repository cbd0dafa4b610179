"""AffineAlign (paper 3.2): one similarity per person, and the sampling that goes with it.

`align_poses` chooses the similarity H that takes a person to the ROI. `sampling` pulls features and masks
through it. The rule of the CVPR 2019 version is in `cvpr2019`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Real

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array

FALLBACK = -1

# Distances between parts as a share of the height of the standing person: the 75th percentile over
# the well-visible training poses, which agrees with the segment lengths of Drillis and Contini
# (1966) where those exist. Each may be foreshortened, so the largest ratio is the estimate.
_FIRST, _SECOND, _SHARE = zip(
    (0, 1, 0.03), (0, 2, 0.03), (1, 2, 0.04), (1, 3, 0.06), (2, 4, 0.06), (3, 4, 0.10),
    (3, 5, 0.13), (4, 6, 0.13), (0, 5, 0.165), (0, 6, 0.165), (5, 6, 0.20), (11, 12, 0.13),
    (5, 7, 0.186), (6, 8, 0.186), (7, 9, 0.146), (8, 10, 0.146), (5, 11, 0.30), (6, 12, 0.30),
    (11, 13, 0.245), (12, 14, 0.245), (13, 15, 0.246), (14, 16, 0.246), strict=True,
)  # fmt: skip

# How far a person may reach beyond the box of the labelled parts, as a share of the height: what a
# fit must cover, and what a fallback window shows. A person of few labelled parts, often a face
# alone, may reach farther (docs/alignment.md has the measurements).
_FIT_REACH = 0.15
_WINDOW_REACH = 0.3
_SPARSE_REACH = 0.5
_SPARSE_PARTS = 5
# A fit is replaced by a fallback window that magnifies by more than this times as much.
_BAD_FIT = 2.0


class Alignment(NamedTuple):
    """How each of N persons is aligned.

    Attributes:
        matrix: (N, 2, 3) similarity from pose coordinates to ROI coordinates.
        template: (N,) index of the template, or FALLBACK.
        mirrored: (N,) whether the matrix contains a reflection.
        residual: (N,) root mean squared distance, in ROI cells, of the common parts to those of
            the chosen template, of the fit before it is shrunk to cover; 0 for a fallback.
    """

    matrix: Float[Array, "N 2 3"]
    template: Int[Array, " N"]
    mirrored: Bool[Array, " N"]
    residual: Float[Array, " N"]

    @property
    def fallback(self) -> Bool[jax.Array, " N"]:
        """(N,) whether no template was good enough."""
        return self.template == FALLBACK


@functools.partial(
    jax.jit,
    static_argnames=(
        "roi_size",
        "reflect",
    ),
)
def align_poses(
    poses: Real[Array, "N P 3"],
    templates: Real[Array, "K P 3"],
    size: Real[Array, "N 2"] | Real[Array, "2"] | tuple[Any, Any],
    roi_size: int,
    *,
    reflect: bool = True,
) -> Alignment:
    """Chooses one similarity per person, from pose coordinates to the ROI.

    Every template, plain and mirrored, is fitted to the parts that it has in common with the pose.
    First cover: where the ROI would cut off the person - the box of the labelled parts, widened by
    .15 of the estimated height of the person (.5 with five labelled parts or fewer) and clipped to
    the image - the fit is shrunk and shifted until it does not. Then magnify. A candidate is out if

    1. fewer than two common parts, or all of them at one point, leave rotation and scale open;
    2. it lacks a part that the pose has ("must cover", authors' code);
    3. it shows the person smaller than the letterbox of the whole image does ("must magnify",
       authors' code);
    4. the fallback window shows the person more than twice as large: a template that does not
       look like the pose fits best when it is shrunk.

    Of the rest the smallest residual wins, the earlier template, unmirrored, on a tie (collinear
    parts fit plain and mirrored alike). If none is left, the person falls back to an upright
    window: the box of the labelled parts, widened by .3 (.5) of the height, clipped to the image.
    Without two parts to estimate the height from, it is the letterbox of the whole image.

    Args:
        poses: (x, y, v), v = 0 for a missing part, in the coordinates of an image. The parts are
            COCO's 17.
        templates: (x, y, v) in the unit square, which is the ROI; v = 0 for a part that a template
            lacks.
        size: (height, width) of the images, one for all or one per person.
        roi_size: side of the ROI in cells.
        reflect: whether mirrored candidates are tried.

    Returns:
        The alignment. A person without labelled parts gets the letterbox.
    """
    poses = geometry.as_floats(poses, "poses")
    templates = jnp.asarray(templates, poses.dtype)
    size = sizes_of(size, poses)
    labelled = poses[..., 2] > 0
    height = _person_height(poses, labelled)
    fallback_box = _person_box(poses, labelled, size, height, _WINDOW_REACH)
    window = geometry.letterbox_part(*fallback_box, roi_size)
    smallest = geometry.scale_of(geometry.letterbox(size, roi_size))

    points = poses[:, None, :, :2]
    weights, missing = common_parts(poses, templates)
    mirrors = (False, True) if reflect else (False,)
    fits = [
        geometry.fit_similarity(
            points, roi_size * templates[None, :, :, :2], weights, reflect=mirror
        )
        for mirror in mirrors
    ]
    # Candidates in the order template 0 plain, template 0 mirrored, template 1 plain, ...
    residuals = jnp.stack([residual for _, residual in fits], axis=2)
    matrices = _cover(
        jnp.stack([matrix for matrix, _ in fits], axis=2),
        *_person_box(poses, labelled, size, height, _FIT_REACH),
        roi_size,
    )

    coincident = all_at_one_point(points, weights, smallest)
    scales = geometry.scale_of(matrices)
    usable = (
        ~(coincident | missing)[..., None]
        & (scales >= smallest[:, None, None])
        & (_BAD_FIT * scales >= geometry.scale_of(window)[:, None, None])
    )

    ranked = jnp.where(usable, residuals, jnp.inf).reshape(poses.shape[0], -1)
    best = jnp.argmin(ranked, axis=-1)
    found = one_of_each(usable.reshape(ranked.shape), best)
    chosen = one_of_each(matrices.reshape(*ranked.shape, 2, 3), best)
    numbers, order = np.divmod(np.arange(ranked.shape[1]), len(mirrors))
    template = one_of_each(jnp.broadcast_to(numbers, ranked.shape), best)
    mirrored = one_of_each(jnp.broadcast_to(order == 1, ranked.shape), best)
    return Alignment(
        matrix=jnp.where(found[:, None, None], chosen, window),
        template=jnp.where(found, template, FALLBACK).astype(jnp.int32),
        mirrored=found & mirrored,
        residual=jnp.where(found, one_of_each(residuals.reshape(ranked.shape), best), 0.0),
    )


def one_of_each(candidates: Array, index: Int[Array, " N"]) -> jax.Array:
    """Returns `candidates[arange(N), index]` of (N, K, ...), without a gather: K is small, and few export formats have one."""
    chosen = index[:, None] == jnp.arange(candidates.shape[1])[None]
    chosen = chosen.reshape(*chosen.shape, *(1,) * (candidates.ndim - 2))
    if candidates.dtype == bool:
        return jnp.any(chosen & candidates, axis=1)
    return jnp.sum(jnp.where(chosen, candidates, jnp.zeros((), candidates.dtype)), axis=1)


def sizes_of(
    size: Real[Array, "N 2"] | Real[Array, "2"] | tuple[Any, Any], poses: Float[Array, "N P 3"]
) -> Float[jax.Array, "N 2"]:
    """Returns (height, width) for each person, where one may stand for all."""
    array = jnp.asarray(size, poses.dtype)
    if array.ndim == 1:
        array = array[None]
    return jnp.broadcast_to(array, (poses.shape[0], 2))


def common_parts(
    poses: Float[Array, "N P 3"], templates: Float[Array, "K P 3"]
) -> tuple[Float[jax.Array, "N K P"], Bool[jax.Array, "N K"]]:
    """1 for the parts that both have, and whether the template lacks a part that the pose has."""
    labelled, has_part = poses[:, None, :, 2] > 0, templates[None, :, :, 2] > 0
    weights = jnp.asarray(labelled & has_part, poses.dtype)
    return weights, jnp.any(labelled & ~has_part, axis=-1)


def all_at_one_point(
    points: Float[Array, "N 1 P 2"], weights: Float[Array, "N K P"], smallest: Float[Array, " N"]
) -> Bool[jax.Array, "N K"]:
    """Whether all common parts are within a thousandth of a ROI cell, in the whole image's letterbox."""
    total = jnp.maximum(jnp.sum(weights, axis=-1), 1.0)
    center = jnp.sum(points * weights[..., None], axis=-2) / total[..., None]
    distance = jnp.max(jnp.abs(points - center[..., None, :]) * weights[..., None], axis=(-2, -1))
    return distance * smallest[:, None] < 1e-3


def _person_height(
    poses: Float[Array, "N P 3"], labelled: Bool[Array, "N P"]
) -> Float[jax.Array, " N"]:
    """Height of the standing person in image pixels; 0 if no two parts tell it."""
    first, second = jnp.asarray(_FIRST), jnp.asarray(_SECOND)
    square = jnp.sum((poses[:, first, :2] - poses[:, second, :2]) ** 2, axis=-1)
    known = labelled[:, first] & labelled[:, second]
    ratio = jnp.where(known, square, 0.0) / jnp.asarray(_SHARE, poses.dtype)[None] ** 2
    # A choice, not a fit: no gradient flows through it.
    return jnp.sqrt(jax.lax.stop_gradient(jnp.max(ratio, axis=-1)))


def _person_box(
    poses: Float[Array, "N P 3"],
    labelled: Bool[Array, "N P"],
    size: Float[Array, "N 2"],
    height: Float[Array, " N"],
    reach: float,
) -> tuple[Float[jax.Array, "N 2"], Float[jax.Array, "N 2"]]:
    """Low and high corner of where the person may be; the whole image if its height is unknown."""
    sparse = jnp.sum(labelled, axis=-1) <= _SPARSE_PARTS
    margin = (jnp.where(sparse, _SPARSE_REACH, reach) * height)[:, None]
    extent = size[:, ::-1]
    low = jnp.min(jnp.where(labelled[..., None], poses[..., :2], jnp.inf), axis=1) - margin
    high = jnp.max(jnp.where(labelled[..., None], poses[..., :2], -jnp.inf), axis=1) + margin
    unknown = height[:, None] == 0
    low = jnp.where(unknown, 0.0, jnp.clip(low, 0, extent - 1))
    high = jnp.where(unknown, extent, jnp.clip(high, low + 1, extent))
    return jax.lax.stop_gradient((low, high))


def _cover(
    matrices: Float[jax.Array, "N K M 2 3"],
    low: Float[Array, "N 2"],
    high: Float[Array, "N 2"],
    roi_size: int,
) -> Float[jax.Array, "N K M 2 3"]:
    """Shrinks and shifts matrices as little as it takes to map the box into the ROI."""
    corners = jnp.stack([low, high, jnp.stack([low[:, 0], high[:, 1]], -1),
                         jnp.stack([high[:, 0], low[:, 1]], -1)], axis=1)  # fmt: skip
    placed = jax.lax.stop_gradient(geometry.apply(matrices, corners[:, None, None]))
    first, last = jnp.min(placed, axis=-2), jnp.max(placed, axis=-2)
    side = jnp.max(last - first, axis=-1)
    # A zero side belongs to a degenerate fit, which is not used.
    factor = jnp.minimum(1.0, roi_size / jnp.where(side > 0, side, float(roi_size)))[..., None]
    shift = jnp.maximum(0.0, -first * factor) - jnp.maximum(0.0, last * factor - roi_size)
    return geometry.shifted(matrices * factor[..., None], shift)
