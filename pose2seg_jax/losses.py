"""Training loss and the quantities that are logged with it."""

import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from pose2seg_jax.geometry import Array


def mask_loss(
    logits: Float[Array, "N R R"], targets: Float[Array, "N R R"], valid: Bool[Array, " N"]
) -> Float[Array, ""]:
    """Sum over the valid persons of the mean cross-entropy over the ROI (paper 3.4).

    Args:
        logits: mask logits.
        targets: the share of each cell that the person covers, in [0, 1]; outside the image 0.
        valid: False for slots without a person, which count nothing.
    """
    entropy = optax.sigmoid_binary_cross_entropy(logits, targets)
    return jnp.sum(jnp.mean(entropy, axis=(1, 2)) * valid)


def mask_iou(logits: Float[Array, "N R R"], targets: Float[Array, "N R R"]) -> Float[Array, " N"]:
    """IoU of each predicted and true mask in the ROI, both cut at one half; 1 where both are empty."""
    predicted, true = logits > 0, targets > 0.5
    union = jnp.sum(predicted | true, axis=(1, 2))
    return jnp.where(union > 0, jnp.sum(predicted & true, axis=(1, 2)) / jnp.maximum(union, 1), 1)


def mask_score(probabilities: Float[Array, "N R R"]) -> Float[Array, " N"]:
    """The model's own score of a mask: its mean probability inside the mask; 0 for an empty mask."""
    inside = probabilities > 0.5
    total = jnp.sum(jnp.where(inside, probabilities, 0), axis=(1, 2))
    return total / jnp.maximum(jnp.sum(inside, axis=(1, 2)), 1)
