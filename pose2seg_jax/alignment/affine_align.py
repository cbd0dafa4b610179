"""AffineAlign (paper 3.2): one similarity per person, and the sampling that goes with it.

`align_poses` chooses the similarity H that takes a person to the ROI; `align_to_roi` and
`align_masks` pull features and masks into the ROI; `reverse_align` takes ROI masks back. One
sampler, one coordinate convention (docs/coordinates.md). No Flax, no TensorFlow.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Key

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.parts import FLIPPED_PARTS

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


def align_poses(
    poses: Float[Array, "N P 3"],
    templates: Float[Array, "K P 3"],
    size: Float[Array, "N 2"] | Float[Array, "2"] | tuple[int, int],
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
    poses = jnp.asarray(poses)
    templates = jnp.asarray(templates, poses.dtype)
    size = jnp.broadcast_to(jnp.asarray(size, poses.dtype), (poses.shape[0], 2))
    labelled = poses[..., 2] > 0
    height = _person_height(poses, labelled)
    window = _fallback_window(*_person_box(poses, labelled, size, height, _WINDOW_REACH), roi_size)
    smallest = geometry.scale_of(geometry.letterbox(size, roi_size))

    points = poses[:, None, :, :2]
    weights, missing = _common_parts(poses, templates)
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

    coincident = _coincident(points, weights, smallest)
    scales = geometry.scale_of(matrices)
    usable = (
        ~(coincident | missing)[..., None]
        & (scales >= smallest[:, None, None])
        & (_BAD_FIT * scales >= geometry.scale_of(window)[:, None, None])
    )

    ranked = jnp.where(usable, residuals, jnp.inf).reshape(poses.shape[0], -1)
    best = jnp.argmin(ranked, axis=-1)
    rows = jnp.arange(poses.shape[0])
    found = usable.reshape(ranked.shape)[rows, best]
    chosen = matrices.reshape(*ranked.shape, 2, 3)[rows, best]
    return Alignment(
        matrix=jnp.where(found[:, None, None], chosen, window),
        template=jnp.where(found, best // len(mirrors), FALLBACK).astype(jnp.int32),
        mirrored=found & (best % len(mirrors) == 1),
        residual=jnp.where(found, residuals.reshape(ranked.shape)[rows, best], 0),
    )


def _common_parts(
    poses: Float[Array, "N P 3"], templates: Float[Array, "K P 3"]
) -> tuple[Float[jax.Array, "N K P"], Bool[jax.Array, "N K"]]:
    """1 for the parts that both have, and whether the template lacks a part that the pose has."""
    labelled, has_part = poses[:, None, :, 2] > 0, templates[None, :, :, 2] > 0
    weights = jnp.asarray(labelled & has_part, poses.dtype)
    return weights, jnp.any(labelled & ~has_part, axis=-1)


def _coincident(
    points: Float[Array, "N 1 P 2"], weights: Float[Array, "N K P"], smallest: Float[Array, " N"]
) -> Bool[jax.Array, "N K"]:
    """Whether all common parts are within a thousandth of a ROI cell, in the whole image's letterbox."""
    total = jnp.maximum(jnp.sum(weights, axis=-1), 1)
    center = jnp.sum(points * weights[..., None], axis=-2) / total[..., None]
    distance = jnp.max(jnp.abs(points - center[..., None, :]) * weights[..., None], axis=(-2, -1))
    return distance * smallest[:, None] < 1e-3


def score_templates(
    poses: Float[Array, "N P 3"], templates: Float[Array, "K P 3"]
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
    weights, missing = _common_parts(poses, templates)
    points, targets = poses[:, None, :, :2], templates[None, :, :, :2]
    matrices, residuals = geometry.fit_similarity(points, targets, weights)
    square = jnp.sum((geometry.apply(matrices, points) - targets) ** 2, axis=-1)
    common = jnp.sum(weights, axis=-1)
    either = jnp.sum((poses[:, None, :, 2] > 0) | (templates[None, :, :, 2] > 0), axis=-1)
    scores = jnp.sum(weights * jnp.exp(-square / 2), axis=-1) / jnp.maximum(either, 1)
    return matrices, jnp.where((common >= 3) & ~missing, scores, 0), residuals


def align_by_score(
    poses: Float[Array, "N P 3"],
    templates: Float[Array, "K P 3"],
    size: Float[Array, "N 2"] | Float[Array, "2"] | tuple[int, int],
    roi_size: int,
    *,
    indices: bool,
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
        indices: whether the unit square and the letterbox are taken to pixel indices of the ROI, as
            in the authors' code; otherwise to its coordinates, half a cell less.
    """
    poses = jnp.asarray(poses)
    templates = jnp.asarray(templates, poses.dtype)
    templates = jnp.concatenate([templates, templates[:, jnp.asarray(FLIPPED_PARTS)]])
    size = jnp.broadcast_to(jnp.asarray(size, poses.dtype), (poses.shape[0], 2))
    whole = geometry.letterbox(size, roi_size)
    smallest = geometry.scale_of(whole)
    matrices, scores, residuals = score_templates(poses, templates)
    matrices = roi_size * matrices
    if indices:
        matrices, whole = matrices.at[..., 2].add(0.5), geometry.at_indices(whole)
    weights, _ = _common_parts(poses, templates)
    usable = (
        (scores > 0)
        & (geometry.scale_of(matrices) > smallest[:, None])
        & ~_coincident(poses[:, None, :, :2], weights, smallest)
    )
    best = jnp.argmax(jnp.where(usable, scores, 0), axis=-1)
    rows = jnp.arange(poses.shape[0])
    found = usable[rows, best]
    return Alignment(
        matrix=jnp.where(found[:, None, None], matrices[rows, best], whole),
        template=jnp.where(found, best, FALLBACK).astype(jnp.int32),
        mirrored=jnp.zeros_like(found),
        residual=jnp.where(found, roi_size * residuals[rows, best], 0),
    )


def _person_height(
    poses: Float[Array, "N P 3"], labelled: Bool[Array, "N P"]
) -> Float[jax.Array, " N"]:
    """Height of the standing person in image pixels; 0 if no two parts tell it."""
    first, second = jnp.asarray(_FIRST), jnp.asarray(_SECOND)
    square = jnp.sum((poses[:, first, :2] - poses[:, second, :2]) ** 2, axis=-1)
    known = labelled[:, first] & labelled[:, second]
    ratio = jnp.where(known, square, 0) / jnp.asarray(_SHARE, poses.dtype) ** 2
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
    low = jnp.where(unknown, 0, jnp.clip(low, 0, extent - 1))
    high = jnp.where(unknown, extent, jnp.clip(high, low + 1, extent))
    return jax.lax.stop_gradient((low, high))


def _fallback_window(
    low: Float[Array, "N 2"], high: Float[Array, "N 2"], roi_size: int
) -> Float[jax.Array, "N 2 3"]:
    """The box letterboxed into the ROI."""
    matrix = geometry.letterbox((high - low)[:, ::-1], roi_size)
    return matrix.at[:, :, 2].add(-matrix[:, :1, 0] * low)


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
    factor = jnp.minimum(1, roi_size / jnp.where(side > 0, side, roi_size))[..., None]
    shift = jnp.maximum(0, -first * factor) - jnp.maximum(0, last * factor - roi_size)
    return (matrices * factor[..., None]).at[..., 2].add(shift)


def align_boxes(boxes: Float[Array, "N 4"], roi_size: int) -> Alignment:
    """The box of each person stretched over the ROI, as RoIAlign does (Mask R-CNN).

    For comparison with alignment by pose. A box of no size counts as one pixel.

    Args:
        boxes: (x, y, width, height).
        roi_size: side of the ROI in cells.
    """
    scale = roi_size / jnp.maximum(boxes[:, 2:], 1)
    zero = jnp.zeros_like(scale[:, 0])
    rows = [
        jnp.stack([scale[:, 0], zero, -scale[:, 0] * boxes[:, 0]], -1),
        jnp.stack([zero, scale[:, 1], -scale[:, 1] * boxes[:, 1]], -1),
    ]
    none = jnp.full(boxes.shape[0], FALLBACK)
    return Alignment(jnp.stack(rows, -2), none, none == 0, zero)


def align_persons(
    method: str,
    poses: Float[Array, "N P 3"],
    boxes: Float[Array, "N 4"] | None,
    templates: Float[Array, "K P 3"],
    size: Float[Array, "N 2"] | Float[Array, "2"] | tuple[int, int],
    roi_size: int,
    *,
    reflect: bool,
    indices: bool = False,
) -> Alignment:
    """`align_poses` or, for the methods "score" and "box", `align_by_score` and `align_boxes`.

    Raises:
        ValueError: no boxes for the method "box".
    """
    if method == "score":
        return align_by_score(poses, templates, size, roi_size, indices=indices)
    if method == "box":
        if boxes is None:
            raise ValueError("alignment by box needs boxes")
        return align_boxes(boxes, roi_size)
    return align_poses(poses, templates, size, roi_size, reflect=reflect)


def jitter_matrices(
    keys: Key[jax.Array, " N"],
    matrices: Float[Array, "N 2 3"],
    roi_size: int,
    *,
    rotation: float,
    scale: float,
    translation: float,
) -> Float[jax.Array, "N 2 3"]:
    """Turns, scales and moves each ROI at random about its centre (authors' code, training only).

    Args:
        keys: (N,) random keys, one a person.
        matrices: pose coordinates to ROI.
        roi_size: side of the ROI in cells.
        rotation: largest angle in degrees, to either side.
        scale: largest relative change, to either side.
        translation: largest shift as a share of the ROI, to either side, per axis.
    """
    limits = jnp.asarray([rotation * jnp.pi / 180, scale, translation, translation])
    draws = jax.vmap(lambda key: jax.random.uniform(key, (4,), minval=-1, maxval=1))(keys) * limits
    factor = 1 + draws[:, 1]
    cos, sin = factor * jnp.cos(draws[:, 0]), factor * jnp.sin(draws[:, 0])
    linear = jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)
    center = jnp.full((matrices.shape[0], 1, 2), roi_size / 2)
    turned = geometry.apply(jnp.concatenate([linear, jnp.zeros_like(linear[..., :1])], -1), center)
    offset = center - turned + roi_size * draws[:, None, 2:]
    return geometry.compose(jnp.concatenate([linear, jnp.swapaxes(offset, -1, -2)], -1), matrices)


def sample(
    images: Float[Array, "B H W C"],
    image_index: Int[Array, " N"],
    x: Float[Array, "N R S"],
    y: Float[Array, "N R S"],
) -> Float[jax.Array, "N R S C"]:
    """Reads images at points, bilinearly between pixel centres; outside the image is 0.

    Args:
        images: the sources.
        image_index: which image each of the N grids of points reads.
        x: of the points, in image coordinates: the centre of the first pixel is at .5.
        y: of the points.
    """
    batch, height, width, channels = images.shape
    flat = images.reshape(batch * height * width, channels)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    right_weight, bottom_weight = x - 0.5 - left, y - 0.5 - top
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    base = image_index[:, None, None].astype(jnp.int32) * (height * width)
    total = jnp.zeros((), images.dtype)
    for row, row_weight in ((top, 1 - bottom_weight), (top + 1, bottom_weight)):
        for column, column_weight in ((left, 1 - right_weight), (left + 1, right_weight)):
            exists = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1) + base
            weight = jnp.where(exists, row_weight * column_weight, 0).astype(images.dtype)
            total = total + flat[index] * weight[..., None]
    return total


def align_to_roi(
    images: Float[Array, "B H W C"],
    image_index: Int[Array, " N"],
    matrices: Float[Array, "N 2 3"],
    roi_size: int,
) -> Float[jax.Array, "N R R C"]:
    """Pulls one ROI per person out of images or feature maps.

    Args:
        images: the sources.
        image_index: the image of each person.
        matrices: image coordinates (of these arrays, in their own pixels) to ROI coordinates.
        roi_size: side R of the ROI.
    """
    x, y = geometry.apply_to_grid(geometry.invert(matrices), roi_size, roi_size)
    return sample(images, image_index, x, y)


def align_masks(
    masks: Float[Array, "N H W"], matrices: Float[Array, "N 2 3"], roi_size: int, samples: int = 4
) -> Float[jax.Array, "N R R"]:
    """Pulls each person's mask into the ROI: the value of a cell is the share that is covered.

    Args:
        masks: one mask per person, in [0, 1].
        matrices: mask coordinates to ROI coordinates.
        roi_size: side R of the ROI.
        samples: samples per cell and axis whose mean stands for the area.
    """
    fine = geometry.compose(
        jnp.asarray([[samples, 0, 0], [0, samples, 0]], matrices.dtype), matrices
    )
    index = jnp.arange(masks.shape[0])
    rois = align_to_roi(masks[..., None], index, fine, samples * roi_size)
    return rois.reshape(-1, roi_size, samples, roi_size, samples).mean(axis=(2, 4))


def reverse_align(
    rois: Float[Array, "N R R"], matrices: Float[Array, "N 2 3"], height: int, width: int
) -> Float[jax.Array, "N height width"]:
    """Takes ROI values (mask probabilities) back to the image; outside the ROI is 0.

    Inside the ROI, the outermost half cell repeats the cell's value, so that a person that the
    ROI's border cuts keeps its edge.

    Args:
        rois: square ROIs, one per person.
        matrices: image coordinates to ROI coordinates.
        height: rows of the result.
        width: columns of the result.
    """
    roi_size = rois.shape[1]
    x, y = geometry.apply_to_grid(matrices, height, width)
    inside = (x >= 0) & (x < roi_size) & (y >= 0) & (y < roi_size)
    x, y = (jnp.clip(points, 0.5, roi_size - 0.5) for points in (x, y))
    values = sample(rois[..., None], jnp.arange(rois.shape[0]), x, y)[..., 0]
    return jnp.where(inside, values, 0)
