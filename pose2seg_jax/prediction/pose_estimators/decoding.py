"""Maps of a bottom-up pose network to poses; pure functions for use under `jit`.

The original decoding of MoveNet, but for any number of people, with each person's own part scores and without people found twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.movenet import STRIDE, PoseMaps
from pose2seg_jax.people.parts import FLIPPED_PARTS, OKS_SIGMAS

MAX_PERSONS = 30  # of one canvas; the original has 6
# A person who is found twice in one canvas, and in several. On our validation split nothing from 0.5 to 0.8 differs by more
# than 0.005 of AP. Of people who overlap very much one can be lost: in OCHuman there are pairs of 0.7.
SAME_PERSON_OKS = 0.7
SAME_PERSON_OKS_MERGED = 0.5
_WINDOW = 5  # cells; a person's centre is the largest value of such a square
_SAME_VALUE = 1e-6  # differences that are rounding
# The variance of how far a part may be from where the centre's cell expects it: this share of the image's shorter side, in
# squared cells, times 2 (the published file's 0.3 in float16).
_SPREAD = 0.300048828125
# MoveNet's coordinates lie so far to the left and above, in pixels.
_BIAS = 0.25


class PoseCandidates(NamedTuple):
    """K people that may be in an image, the surest first.

    Attributes:
        points: (x, y) of COCO's parts, in continuous pixels.
        part_scores: in [0, 1].
        scores: of the persons, in [0, 1]; 0 where there is nobody.
        boxes: (x0, y0, x1, y1) around the persons, in continuous pixels.
    """

    points: Float[Array, "K 17 2"]
    part_scores: Float[Array, "K 17"]
    scores: Float[Array, " K"]
    boxes: Float[Array, "K 4"]

    @property
    def areas(self) -> Float[Array, " K"]:
        """Of the boxes, in squared pixels."""
        return jnp.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=-1)


def mirrored(maps: PoseMaps) -> PoseMaps:
    """Returns what maps of mirrored images say of the images."""
    flipped = PoseMaps(*(values[:, :, ::-1] for values in maps))
    swapped = np.asarray(FLIPPED_PARTS)

    def other_side(values: Array) -> Array:
        return jnp.stack([values[..., 0], 1 - values[..., 1]], axis=-1)

    return PoseMaps(
        flipped.centers,
        flipped.box_sizes,
        other_side(flipped.box_offsets),
        flipped.parts[..., swapped],
        other_side(flipped.regressed[..., swapped, :]),
        other_side(flipped.part_offsets[..., swapped, :]),
    )


def mean_with_mirrored(maps: PoseMaps, of_mirrored: PoseMaps) -> PoseMaps:
    """Returns the mean of the maps of images and of the same images mirrored; of logits, that of their sigmoids."""

    def mean_logit(a: Array, b: Array) -> Array:
        return jax.scipy.special.logit((jax.nn.sigmoid(a) + jax.nn.sigmoid(b)) / 2)

    other = mirrored(of_mirrored)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, maps, other)
    return mean._replace(
        centers=mean_logit(maps.centers, other.centers), parts=mean_logit(maps.parts, other.parts)
    )


def decode(maps: PoseMaps, *, is_mean: bool = False) -> PoseCandidates:
    """Returns the people of one image.

    Args:
        maps: of one image, without the axis B.
        is_mean: whether they are those of `mean_with_mirrored`, in which the bias to the left is gone.

    Returns:
        MAX_PERSONS candidates, or as many as the maps have cells.
    """
    height, width = maps.centers.shape
    centers = jax.nn.sigmoid(maps.centers)
    largest = jax.lax.reduce_window(
        centers, -jnp.inf, jax.lax.max, (_WINDOW, _WINDOW), (1, 1), "SAME"
    )
    peaks = jnp.where(largest - centers < _SAME_VALUE, centers, 0.0)
    surest, index = jax.lax.top_k(peaks.ravel(), min(MAX_PERSONS, height * width))
    rows, columns = jnp.divmod(index, width)
    cells = jnp.stack([rows, columns], axis=-1).astype(jnp.float32)
    limits = jnp.asarray([[height, width]], jnp.float32)
    middle = cells + maps.box_offsets[rows, columns]
    half = maps.box_sizes[rows, columns] / 2
    first, last = (jnp.clip(middle + side * half, 0, limits) for side in (-1, 1))
    guesses = cells[:, None] + maps.regressed[rows, columns]
    spread = _SPREAD * min(height, width)

    def weights(axis: int) -> Float[Array, "K 17 s"]:
        place = jnp.arange(maps.centers.shape[axis], dtype=jnp.float32)[None]
        inside = (place >= first[:, axis, None]) & (place < last[:, axis, None])
        nearness = jnp.exp(-((place[None] - guesses[..., axis, None]) ** 2) / spread)
        return jnp.where(inside[:, None], nearness, 0.0)

    heatmaps = jnp.moveaxis(jax.nn.sigmoid(maps.parts), -1, 0)
    near_rows, near_columns = weights(0)[..., None], weights(1)[..., None, :]
    found = (heatmaps[None] * near_rows * near_columns).reshape(len(surest), len(heatmaps), -1)
    best = jnp.argmax(found, axis=-1)
    part_scores = jnp.take_along_axis(found, best[..., None], axis=-1)[..., 0]
    part_rows, part_columns = jnp.divmod(best, width)
    parts = np.arange(len(heatmaps))
    offsets = maps.part_offsets[part_rows, part_columns, parts]
    places = jnp.stack([part_rows, part_columns], axis=-1).astype(jnp.float32) + offsets
    bias = jnp.asarray([[[0 if is_mean else _BIAS, _BIAS]]], jnp.float32)
    scores = jnp.sqrt(surest) * jnp.mean(part_scores, axis=-1)
    boxes = jnp.concatenate([first[:, ::-1], last[:, ::-1]], axis=-1) * STRIDE
    return PoseCandidates(places[..., ::-1] * STRIDE + bias, part_scores, scores, boxes)


def moved(candidates: PoseCandidates, matrix: Float[Array, "2 3"]) -> PoseCandidates:
    """Returns candidates in other coordinates, to which `matrix`, which scales and moves, maps."""
    return candidates._replace(
        points=geometry.apply(matrix, candidates.points),
        boxes=geometry.apply(matrix, candidates.boxes.reshape(-1, 2, 2)).reshape(-1, 4),
    )


def merged(candidates: Sequence[PoseCandidates]) -> PoseCandidates:
    """Returns the people of several sizes of one image together; each may be there several times."""
    return jax.tree.map(lambda *values: jnp.concatenate(values), *candidates)


def without_duplicates(candidates: PoseCandidates, limit: float) -> PoseCandidates:
    """Returns the candidates sorted by score, and gives score 0 to whom a surer one resembles.

    Args:
        candidates: of one image.
        limit: the OKS above which two are the same person.
    """
    order = jnp.argsort(-candidates.scores, stable=True)
    candidates = jax.tree.map(lambda values: values[order], candidates)
    similar = oks(candidates.points, candidates.areas) > limit

    def step(kept: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        place = jnp.arange(len(kept))
        found_twice = jnp.any(kept & (place < index) & similar[index])
        return kept & ~((place == index) & found_twice), None

    count = len(candidates.scores)
    kept, _ = jax.lax.scan(step, jnp.ones(count, bool), jnp.arange(count))
    return candidates._replace(scores=jnp.where(kept, candidates.scores, 0.0))


def oks(points: Float[Array, "K 17 2"], areas: Float[Array, " K"]) -> Float[Array, "K K"]:
    """Returns COCO's object keypoint similarity of all pairs, by all parts and the larger of the two areas."""
    squared = jnp.sum((points[:, None] - points[None]) ** 2, axis=-1)
    area = jnp.maximum(jnp.maximum(areas[:, None], areas[None]), 1.0)[..., None]
    variances = jnp.asarray((2 * OKS_SIGMAS) ** 2)[None, None]
    return jnp.mean(jnp.exp(-squared / (2 * variances * area)), axis=-1)
