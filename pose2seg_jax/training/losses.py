"""Training loss and the quantities that are logged with it."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from pose2seg_jax.alignment.geometry import Array

EDGE_CELLS = 2  # to either side of an edge, where `mask_loss` looks at edges by themselves


def mask_loss(
    logits: Float[Array, "N R R"],
    targets: Float[Array, "N R R"],
    valid: Bool[Array, " N"],
    dice: float = 0.0,
    edges: float = 0.0,
) -> Float[Array, ""]:
    """Sum over the valid persons of the mean cross-entropy over the ROI (paper 3.4).

    Args:
        logits: mask logits.
        targets: the share of each cell that the person covers, in [0, 1]; outside the image 0.
        valid: False for slots without a person, which count nothing.
        dice: weight of the Dice loss (Milletari et al. 2016) that is added. It is relative to the
            person's size in the ROI: in the cross-entropy, a small one is lost among the cells around.
        edges: weight of the mean cross-entropy of the cells within `EDGE_CELLS` cells of the true edge, which is added.
    """
    entropy = optax.sigmoid_binary_cross_entropy(logits, targets)
    losses = jnp.mean(entropy, axis=(1, 2))
    if dice:
        found = jax.nn.sigmoid(logits)
        shared = jnp.sum(found * targets, axis=(1, 2))
        # Squares: the best answer to a cell that is half covered is one half.
        squares = jnp.sum(found**2 + targets**2, axis=(1, 2))
        losses += dice * (1 - 2 * shared / jnp.maximum(squares, 1e-6))
    if edges:
        near = near_edge(targets, EDGE_CELLS)
        count = jnp.maximum(jnp.sum(near, axis=(1, 2)), 1)
        losses += edges * jnp.sum(jnp.where(near, entropy, 0), axis=(1, 2)) / count
    return jnp.sum(losses * valid)


def near_edge(targets: Float[Array, "N R R"], cells: int) -> Bool[Array, "N R R"]:
    """Returns which cells lie within so many cells, along each axis, of both the person and what is around it.

    Args:
        targets: the share of each cell that the person covers.
        cells: how many.
    """
    window, padding = (1, 2 * cells + 1, 2 * cells + 1), ((0, 0), (cells, cells), (cells, cells))

    def largest(values: Array) -> Array:
        return jax.lax.reduce_window(values, -jnp.inf, jax.lax.max, window, (1, 1, 1), padding)

    return (largest(targets) > 0.5) & (largest(-targets) > -0.5)


def mask_iou(logits: Float[Array, "N R R"], targets: Float[Array, "N R R"]) -> Float[Array, " N"]:
    """IoU of each predicted and true mask in the ROI, both cut at one half; 1 where both are empty."""
    predicted, true = logits > 0, targets > 0.5
    union = jnp.sum(predicted | true, axis=(1, 2))
    return jnp.where(union > 0, jnp.sum(predicted & true, axis=(1, 2)) / jnp.maximum(union, 1), 1)
