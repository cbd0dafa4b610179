"""Annotated poses made as wrong as estimated ones: displaced, swapped and missing parts."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key, Real

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.parts import FLIPPED_PARTS, OKS_SIGMAS

_DROPPED = 0.1  # share of the parts that are missing at level 1
_SWAPPED = 0.05  # share of the left-right pairs that change places at level 1


def perturb_poses(
    keys: Key[jax.Array, " N"],
    poses: Real[Array, "N P 3"],
    areas: Real[Array, " N"],
    level: Real[Array, "*#N"] | float,
) -> Float[jax.Array, "N P 3"]:
    """Poses with the errors of pose estimators; pure.

    At level x each labelled part is displaced by a Gaussian of x times its OKS sigma times the root of
    the person's area, per axis; 5 x % of the left-right pairs change places; 10 x % of the parts
    are missing.

    Args:
        keys: (N,) random keys, one a person: the same at every level, so that levels differ in
            degree only.
        poses: (x, y, v), v = 0 for a missing part.
        areas: of the persons, in squares of the unit of x and y.
        level: 0 changes nothing; one for all or one a person.
    """
    poses, areas = geometry.as_floats(poses, "poses"), geometry.as_floats(areas, "areas")
    level = jnp.broadcast_to(geometry.as_floats(level, "level"), areas.shape)[:, None]
    count = poses.shape[1]
    draws = jax.vmap(lambda key: _draw(key, count))(keys)
    spread = (level * jnp.sqrt(areas)[:, None] * OKS_SIGMAS[None])[..., None]
    points = poses[..., :2] + spread * draws[0]
    moved = jnp.concatenate([points, poses[..., 2:]], axis=-1)
    # Both parts of a pair look at the draw of the one with the lower number.
    flipped = np.asarray(FLIPPED_PARTS)
    pair = np.minimum(flipped, np.arange(count))
    swapped = (draws[1][:, pair] < _SWAPPED * level)[..., None]
    moved = jnp.where(swapped, moved[:, flipped], moved)
    missing = (moved[..., 2] == 0) | (draws[2] < _DROPPED * level)
    return jnp.where(missing[..., None], 0, moved)


def _draw(key: Key[jax.Array, ""], count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    first, second, third = jax.random.split(key, 3)
    displaced = jax.random.normal(first, (count, 2))
    return displaced, jax.random.uniform(second, (count,)), jax.random.uniform(third, (count,))
