"""Heatmaps and tags to poses, the decoding of Associative Embedding (Newell, Huang and Deng 2017).

The heavy part, peaks and missing parts, is made of pure functions for use under `jit`. Which peaks are one person's is found on
the host, by SciPy's assignment; `find_people` is all of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its parts are loaded where they are used
from jaxtyping import Float, Int

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.parts import NUM_PARTS

MAX_PEAKS = 30  # of each part in an image, and people (paper)
DETECTION_THRESHOLD = 0.1  # lower peaks are no parts (authors' code)
TAG_THRESHOLD = 1.0  # parts whose tags differ by more are not one person's (authors' code)
# Parts are given to people in this order: head, shoulders, hips, then outward (authors' code).
_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
# Larger than any difference of tags: the assignment takes as few of these pairs as it can.
_FAR = 1e6
_LOWEST = 1e-3  # of heatmaps whose logarithm is taken
_LEAST_BEND = 1e-3  # of a parabola that has a top


class Peaks(NamedTuple):
    """The K highest peaks of each of the P parts, the highest first.

    Attributes:
        points: (x, y) in cells.
        scores: of the heatmap; 0 or less where there is no peak.
        tags: D of them.
    """

    points: Float[Array, "P K 2"]
    scores: Float[Array, "P K"]
    tags: Float[Array, "P K D"]


def find_people(
    heatmaps: Float[Array, "h w P"], tags: Float[Array, "h w P D"]
) -> tuple[Float[np.ndarray, "N P 2"], Float[np.ndarray, "N P"]]:
    """Returns the (x, y) of the parts of up to MAX_PEAKS people, in cells, and the scores of the parts, in [0, 1].

    Parts without a peak of their own are where they are most likely, with the low score that the heatmap has there.

    Args:
        heatmaps: of one image.
        tags: D of them where the image was looked at D times.
    """
    peaks = Peaks(*map(np.asarray, jax.device_get(_find_peaks(heatmaps, tags))))
    people = group(peaks)
    own, part = people >= 0, np.arange(people.shape[1])[None]
    sums = np.sum(np.where(own, peaks.scores[part, people], 0), axis=1)
    surest = np.argsort(-sums, kind="stable")[:MAX_PEAKS]
    people, own = people[surest], own[surest]
    wanted = np.zeros((MAX_PEAKS, tags.shape[-1]), np.float32)  # one shape to compile
    wanted[: len(people)] = mean_tags(peaks, people)
    place = heatmaps.sharding if isinstance(heatmaps, jax.Array) else None
    found = jax.device_get(_find_parts_of(heatmaps, tags, jax.device_put(wanted, place)))
    points, scores = (np.array(values)[: len(people)] for values in found)
    points[own] = peaks.points[part, people][own]
    scores[own] = peaks.scores[part, people][own]
    return points, np.clip(scores, 0, 1)


def find_peaks(heatmaps: Float[Array, "h w P"], tags: Float[Array, "h w P D"]) -> Peaks:
    """Returns the cells of one image that no neighbour exceeds; pure.

    Args:
        heatmaps: of one image.
        tags: several where the image was looked at several times, as mirrored.
    """
    height, width, parts = heatmaps.shape
    largest = jax.lax.reduce_window(heatmaps, -jnp.inf, jax.lax.max, (3, 3, 1), (1, 1, 1), "SAME")
    peaks = jnp.where(heatmaps == largest, heatmaps, 0)
    count = min(MAX_PEAKS, height * width)
    scores, index = jax.lax.top_k(peaks.reshape(-1, parts).T, count)
    rows, columns = jnp.divmod(index, width)
    part = jnp.broadcast_to(jnp.arange(parts)[:, None], rows.shape)
    return Peaks(_refined(heatmaps, rows, columns, part), scores, tags[rows, columns, part])


def _refined(
    heatmaps: Float[Array, "h w P"],
    rows: Int[Array, "*n"],
    columns: Int[Array, "*n"],
    part: Int[Array, "*n"],
) -> Float[jax.Array, "*n 2"]:
    """(x, y) of the tops of the peaks in these cells, half a cell from their centres at most.

    Training makes a peak a Gaussian, whose logarithm is a parabola. The top is that of the parabola through a cell and its two
    neighbours, along each axis (ours; the paper goes a quarter of a cell towards the higher neighbour). In a
    cell that is no peak it is half a cell towards the higher neighbour. Along an axis on which the cell is the first or last, it is the centre.
    """
    height, width, _ = heatmaps.shape

    def value(y: Array, x: Array) -> Array:
        found = heatmaps[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1), part]
        return jnp.log(jnp.maximum(found, _LOWEST))

    def top(before: Array, here: Array, after: Array, inside: Array) -> Array:
        bend = 2 * here - before - after
        offset = (after - before) / 2 / jnp.maximum(bend, _LEAST_BEND)
        return jnp.where(inside, jnp.clip(offset, -0.5, 0.5), 0)

    here = value(rows, columns)
    to_right = top(
        value(rows, columns - 1),
        here,
        value(rows, columns + 1),
        (columns > 0) & (columns < width - 1),
    )
    down = top(
        value(rows - 1, columns), here, value(rows + 1, columns), (rows > 0) & (rows < height - 1)
    )
    cells = jnp.stack([columns, rows], axis=-1).astype(jnp.float32)
    return cells + 0.5 + jnp.stack([to_right, down], axis=-1)


def group(peaks: Peaks) -> Int[np.ndarray, "N P"]:
    """Returns which peak each part of each person is; -1 where the person has none. On the host.

    Part after part, as many peaks as can be go to the people found so far, so that their tags differ least in sum (in whole
    numbers; of equal ones, the higher peaks first). A peak that is nobody's begins a new person.

    Args:
        peaks: of one image, as NumPy arrays.
    """
    people: list[np.ndarray] = []
    sums: list[np.ndarray] = []  # of the tags of each person
    for part in _ORDER:
        strong = np.flatnonzero(peaks.scores[part] > DETECTION_THRESHOLD)
        tags = np.asarray(peaks.tags[part, strong], np.float64)
        taken = np.zeros(len(strong), bool)
        if people and len(strong):
            counts = np.asarray([np.sum(person >= 0) for person in people])
            means = np.stack(sums) / counts[:, None]
            differences = np.linalg.norm(tags[:, None] - means[None], axis=-1)
            wanted = np.round(differences) * 100 - peaks.scores[part, strong, None]
            wanted += differences**2 * 1e-3  # of equal ones, the nearest (ours)
            cost = np.where(differences < TAG_THRESHOLD, wanted, _FAR)
            for i, j in zip(*scipy.optimize.linear_sum_assignment(cost), strict=True):
                if differences[i, j] < TAG_THRESHOLD:
                    people[j][part] = strong[i]
                    sums[j] = sums[j] + tags[i]
                    taken[i] = True
        for i in np.flatnonzero(~taken):
            people.append(np.full(NUM_PARTS, -1))
            people[-1][part] = strong[i]
            sums.append(tags[i])
    return np.stack(people) if people else np.zeros((0, NUM_PARTS), int)


def mean_tags(peaks: Peaks, people: Int[np.ndarray, "N P"]) -> Float[np.ndarray, "N D"]:
    """Returns the mean of the tags of each person's parts; on the host."""
    own = peaks.tags[np.arange(people.shape[1])[None], np.maximum(people, 0)]
    there = (people >= 0)[..., None]
    return np.sum(np.where(there, own, 0), axis=1) / np.maximum(np.sum(there, axis=1), 1)


def find_parts_of(
    heatmaps: Float[Array, "h w P"],
    tags: Float[Array, "h w P D"],
    wanted: Float[Array, "N D"],
) -> tuple[Float[jax.Array, "N P 2"], Float[jax.Array, "N P"]]:
    """Returns where each part of each person is most likely, and the heatmap there; pure.

    That is the cell where the heatmap, less the difference of the tags in whole numbers, is largest (authors' code).

    Args:
        heatmaps: of one image.
        tags: likewise.
        wanted: the tags of the persons.
    """
    _, width, parts = heatmaps.shape

    def of_person(tag: Float[Array, " D"]) -> Int[Array, " P"]:
        differences = jnp.sqrt(jnp.sum((tags - tag[None, None, None]) ** 2, axis=-1))
        likely = heatmaps - jnp.round(differences)
        return jnp.argmax(likely.reshape(-1, parts), axis=0)

    rows, columns = jnp.divmod(jax.lax.map(of_person, wanted), width)
    part = jnp.broadcast_to(jnp.arange(parts)[None], rows.shape)
    return _refined(heatmaps, rows, columns, part), heatmaps[rows, columns, part]


_find_peaks = jax.jit(find_peaks)
_find_parts_of = jax.jit(find_parts_of)
