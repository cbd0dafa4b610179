"""The loss of Associative Embedding (Newell, Huang and Deng 2017): where parts are, and whose they are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.pose_head import PartMaps


class PoseLosses(NamedTuple):
    """Sums over B images.

    Attributes:
        detection: of the mean squared difference of the heatmaps.
        pull: of how far the tags of a person's parts are from their mean, squared.
        push: of how near the mean tags of two people are, between 0 and 0.5.
    """

    detection: Float[Array, ""]
    pull: Float[Array, ""]
    push: Float[Array, ""]

    def weighted(self, tags: float) -> Float[Array, ""]:
        """Returns the one number that is made smaller; `tags` is the weight of pull and of push beside the heatmaps."""
        return self.detection + tags * (self.pull + self.push)


def pose_losses(
    parts: PartMaps,
    poses: Float[Array, "B Q 17 3"],
    ignored: Bool[Array, "B h w"],
    sigma: float,
) -> PoseLosses:
    """Returns the losses of one pose head.

    Args:
        parts: what it said.
        poses: of all people, (x, y, v) in the cells of the maps; v is 0 in slots without a person.
        ignored: cells about which nothing is known; the heatmaps may have any value there.
        sigma: of the peaks of the heatmaps, in cells.
    """
    height, width = parts.heatmaps.shape[1:3]
    target = target_heatmaps(poses, height, width, sigma)
    squared = jnp.where(ignored[..., None], 0, (parts.heatmaps - target) ** 2)
    tags, seen = tags_at(parts.tags, poses)
    pull, push = jax.vmap(_pull_and_push)(tags, seen)
    return PoseLosses(jnp.sum(jnp.mean(squared, axis=(1, 2, 3))), jnp.sum(pull), jnp.sum(push))


def target_heatmaps(
    poses: Float[Array, "B Q 17 3"], height: int, width: int, sigma: float
) -> Float[jax.Array, "B h w 17"]:
    """Returns a Gaussian at each labelled part, 1 at its place; of several people's, the largest."""
    seen = (poses[..., 2] > 0).astype(jnp.float32)

    def bump(values: Float[Array, "B Q 17"], size: int) -> Float[Array, "B Q 17 s"]:
        centers = jnp.arange(size, dtype=jnp.float32) + 0.5
        return jnp.exp(-((values[..., None] - centers) ** 2) / (2 * sigma**2))

    columns = jnp.moveaxis(bump(poses[..., 0], width) * seen[..., None], 1, 0)
    rows = jnp.moveaxis(bump(poses[..., 1], height), 1, 0)

    def add(found: jax.Array, of_person: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        y, x = (jnp.moveaxis(v, 1, -1) for v in of_person)
        return jnp.maximum(found, y[:, :, None] * x[:, None]), None

    start = jnp.zeros((len(poses), height, width, poses.shape[2]))
    return jax.lax.scan(add, start, (rows, columns))[0]


def tags_at(
    tags: Float[Array, "B h w 17"], poses: Float[Array, "B Q 17 3"]
) -> tuple[Float[Array, "B Q 17"], Bool[Array, "B Q 17"]]:
    """Returns the tags in the cells of all parts, and which of them are labelled."""
    height, width = tags.shape[1:3]
    x = jnp.clip(jnp.floor(poses[..., 0]).astype(jnp.int32), 0, width - 1)
    y = jnp.clip(jnp.floor(poses[..., 1]).astype(jnp.int32), 0, height - 1)
    image = jnp.arange(len(tags))[:, None, None]
    part = jnp.arange(tags.shape[3])[None, None]
    return tags[image, y, x, part], poses[..., 2] > 0


def _pull_and_push(
    tags: Float[Array, "Q 17"], seen: Bool[Array, "Q 17"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Of one image; both 0 where there is nobody to pull together or to push apart."""
    counts = jnp.sum(seen, axis=1)
    means = jnp.sum(jnp.where(seen, tags, 0), axis=1) / jnp.maximum(counts, 1)
    spread = jnp.sum(jnp.where(seen, (tags - means[:, None]) ** 2, 0), axis=1)
    there = counts > 0
    people = jnp.sum(there)
    pull = jnp.sum(spread / jnp.maximum(counts, 1)) / jnp.maximum(people, 1)
    near = jnp.exp(-((means[:, None] - means[None]) ** 2))
    pairs = there[:, None] & there[None] & ~jnp.eye(len(means), dtype=bool)
    push = 0.5 * jnp.sum(jnp.where(pairs, near, 0)) / jnp.maximum(people * (people - 1), 1)
    return pull, push
