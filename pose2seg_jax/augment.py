"""Training images, poses and masks onto the canvas, on the device: one random similarity an image.

The stream sends frames (decoded images, at most a little larger than the canvas) and persons in the
coordinates of the original image; everything random happens here, keyed by the example's number.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Bool, Float, Key, UInt8

from pose2seg_jax import affine_align, geometry
from pose2seg_jax.geometry import Array
from pose2seg_jax.templates import FLIPPED_PARTS

_IDENTITY = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)


class Canvas(NamedTuple):
    """What a training step sees of B images and N persons.

    Attributes:
        images: (B, S, S, 3), black where no image is.
        poses: (N, 17, 3) on the canvas; parts outside of it are missing.
        masks: (N, M, M), each person's mask in a window of its own, 0 outside of the canvas.
        matrices: (N, 2, 3), from those windows to the canvas.
        valid: (N,), False for slots without a person, and where nothing of it is on the canvas.
    """

    images: UInt8[Array, "B S S 3"]
    poses: Float[Array, "N P 3"]
    masks: Float[Array, "N M M"]
    matrices: Float[Array, "N 2 3"]
    valid: Bool[Array, " N"]


def to_canvas(config: ml_collections.ConfigDict, batch: dict[str, Array]) -> Canvas:
    """Takes one device's part of a batch of `pipeline.train_batches` to the canvas; pure."""
    side, options = config.dataset.image_size, config.augment
    index, image_index = batch["index"], batch["image_index"]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), index)
    keys = jax.vmap(jax.random.split)(keys)
    random = random_matrices(
        keys[:, 0],
        side,
        flip=options.flip,
        rotation=options.rotation,
        scale=tuple(options.scale),
        translation=options.translation,
    )
    matrices = geometry.compose(random, batch["to_canvas"])  # of the images
    from_frame = geometry.compose(matrices, geometry.invert(batch["to_frame"]))
    frames = jnp.asarray(batch["image"]).astype(jnp.float32)
    images = affine_align.align_to_roi(frames, jnp.arange(len(frames)), from_frame, side)
    if options.color:
        images = jitter_colors(keys[:, 1], images, options.color)
    images = jnp.clip(jnp.round(images), 0, 255).astype(jnp.uint8)

    poses = transform_poses(batch["pose"], matrices[image_index], side)
    valid = batch["valid"] & jnp.any(poses[..., 2] > 0, axis=-1)
    to_mask = jnp.where(batch["valid"][:, None, None], batch["to_mask"], _IDENTITY)
    from_mask = geometry.compose(matrices[image_index], geometry.invert(to_mask))
    window = math.isqrt(8 * batch["mask"].shape[-1])
    masks = jnp.unpackbits(batch["mask"], axis=-1).reshape(-1, window, window)
    placed = _pixels(from_mask, window)
    masks = masks * jnp.all((placed >= 0) & (placed <= side), axis=-1)
    valid &= jnp.any(masks > 0, axis=(1, 2))
    return Canvas(images, poses, masks.astype(jnp.float32), from_mask, valid)


def random_matrices(
    keys: Key[jax.Array, " B"],
    side: int,
    *,
    flip: bool,
    rotation: float,
    scale: tuple[float, float],
    translation: float,
) -> Float[jax.Array, "B 2 3"]:
    """Random similarities of the canvas about its centre.

    Args:
        keys: (B,) random keys.
        side: side of the canvas.
        flip: whether half of the results mirror left and right.
        rotation: largest angle in degrees, to either side.
        scale: smallest and largest factor, log-uniform.
        translation: largest shift as a share of the side, per axis.
    """
    u = jax.vmap(lambda key: jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0))(keys)
    angle = u[:, 0] * rotation * math.pi / 180
    low, high = math.log(scale[0]), math.log(scale[1])
    factor = jnp.exp(low + (u[:, 1] + 1) / 2 * (high - low))
    mirror = jnp.where((u[:, 2] < 0) & flip, -1.0, 1.0)
    cos, sin = factor * jnp.cos(angle), factor * jnp.sin(angle)
    linear = jnp.stack([jnp.stack([cos * mirror, sin], -1), jnp.stack([-sin * mirror, cos], -1)], 1)
    center = jnp.full((1, 1, 2), side / 2)
    turned = geometry.apply(jnp.pad(linear, [(0, 0), (0, 0), (0, 1)]), center)[:, 0]
    offset = side / 2 + side * translation * u[:, 3:] - turned
    return jnp.concatenate([linear, offset[:, :, None]], axis=-1)


def transform_poses(
    poses: Float[Array, "N P 3"], matrices: Float[Array, "N 2 3"], side: int
) -> Float[jax.Array, "N P 3"]:
    """Poses onto the canvas.

    A mirroring matrix swaps left and right parts: the left arm of a mirrored person is a right
    arm. Parts outside the canvas become missing, (0, 0, 0).
    """
    moved = geometry.apply_to_poses(matrices, poses)
    inside = jnp.all((moved[..., :2] >= 0) & (moved[..., :2] <= side), axis=-1)
    moved = jnp.where((inside & (poses[..., 2] > 0))[..., None], moved, 0)
    mirrored = geometry.is_mirrored(matrices)[:, None, None]
    return jnp.where(mirrored, moved[:, np.asarray(FLIPPED_PARTS)], moved)


def jitter_colors(
    keys: Key[jax.Array, " B"], images: Float[Array, "B H W 3"], strength: float
) -> Float[jax.Array, "B H W 3"]:
    """Random brightness, contrast and saturation of images with values 0..255."""
    u = jax.vmap(lambda key: jax.random.uniform(key, (3, 1, 1, 1), minval=-1.0, maxval=1.0))(keys)
    brightness, contrast, saturation = (strength * u[:, i] for i in range(3))
    images = images + 255 / 2 * brightness
    mean = jnp.mean(images, axis=(1, 2), keepdims=True)
    images = mean + (images - mean) * (1 + contrast)
    gray = jnp.sum(images * np.asarray([0.299, 0.587, 0.114], np.float32), -1, keepdims=True)
    return gray + (images - gray) * (1 + saturation)


def align_masks(
    canvas: Canvas, matrices: Float[Array, "N 2 3"], roi_size: int
) -> Float[jax.Array, "N R R"]:
    """The masks in the persons' ROIs: the share of each cell that is covered.

    Args:
        canvas: the persons.
        matrices: canvas to ROI.
        roi_size: side R of the ROI.
    """
    return affine_align.align_masks(
        canvas.masks, geometry.compose(matrices, canvas.matrices), roi_size
    )


def boxes(canvas: Canvas) -> Float[jax.Array, "N 4"]:
    """(x, y, width, height) of the masks on the canvas; of invalid persons, any."""
    placed = _pixels(canvas.matrices, canvas.masks.shape[1])
    inside = canvas.masks[..., None] > 0
    half = geometry.scale_of(canvas.matrices)[:, None] / 2  # of a pixel of the mask
    side = canvas.images.shape[1]
    low = jnp.clip(jnp.min(jnp.where(inside, placed, side), axis=(1, 2)) - half, 0, side)
    high = jnp.clip(jnp.max(jnp.where(inside, placed, 0), axis=(1, 2)) + half, 0, side)
    return jnp.concatenate([low, jnp.maximum(high - low, 1)], axis=-1)


def _pixels(matrices: Float[Array, "N 2 3"], window: int) -> Float[jax.Array, "N M M 2"]:
    """Where the pixels of the mask windows lie on the canvas."""
    y, x = jnp.mgrid[:window, :window] + 0.5
    centers = jnp.stack([x, y], axis=-1).reshape(1, -1, 2)
    return geometry.apply(matrices, centers).reshape(-1, window, window, 2)
