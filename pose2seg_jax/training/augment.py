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

from pose2seg_jax.alignment import affine_align, geometry, pose_noise
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.parts import FLIPPED_PARTS

_IDENTITY = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
_BLOCK = 8 * _IDENTITY
_SAMPLES = 4  # samples of a mask per ROI cell and axis, whose mean stands for the area


class Canvas(NamedTuple):
    """What a training step sees of B images and N persons.

    Attributes:
        images: (B, S, S, 3), black where no image is.
        poses: (N, 17, 3) on the canvas; parts outside of it are missing.
        masks: (N, M, M / 8), each person's mask in a window of its own, eight pixels of a row a byte.
        matrices: (N, 2, 3), from the pixels of those windows to the canvas.
        valid: (N,), False for slots without a person, and where nothing of it is on the canvas, to
            within half a block of 8 x 8 pixels of the mask's window.
    """

    images: UInt8[Array, "B S S 3"]
    poses: Float[Array, "N P 3"]
    masks: UInt8[Array, "N M W"]
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

    original = batch["pose"]
    if options.pose_noise:
        original = _perturb(config, batch, keys[image_index, 1])
    poses = transform_poses(original, matrices[image_index], side)
    valid = batch["valid"] & jnp.any(poses[..., 2] > 0, axis=-1)
    to_mask = jnp.where(batch["valid"][:, None, None], batch["to_mask"], _IDENTITY)
    from_mask = geometry.compose(matrices[image_index], geometry.invert(to_mask))
    window = math.isqrt(8 * batch["mask"].shape[-1])
    masks = jnp.asarray(batch["mask"]).reshape(-1, window, window // 8)
    # Whether anything of a person is on the canvas is seen in blocks of 8 x 8 pixels.
    blocks = jnp.any(masks.reshape(-1, window // 8, 8, window // 8) > 0, axis=2)
    x, y = geometry.apply_to_grid(geometry.compose(from_mask, _BLOCK), window // 8, window // 8)
    valid &= jnp.any(blocks & _within(x, y, side), axis=(1, 2))
    return Canvas(images, poses, masks, from_mask, valid)


def _perturb(
    config: ml_collections.ConfigDict, batch: dict[str, Array], keys: Key[jax.Array, " N"]
) -> Float[jax.Array, "N P 3"]:
    """The poses of a batch, each at a level of its own up to the config's."""
    keys = jax.vmap(jax.random.fold_in)(keys, batch["person_id"])
    keys = jax.vmap(jax.random.split)(keys)
    level = config.augment.pose_noise * jax.vmap(jax.random.uniform)(keys[:, 0])
    covered = jnp.sum(jax.lax.population_count(jnp.asarray(batch["mask"])).astype(jnp.int32), -1)
    to_mask = jnp.where(batch["valid"][:, None, None], batch["to_mask"], _IDENTITY)
    linear = to_mask[:, 0, 0] * to_mask[:, 1, 1]  # the window is scaled along the axes only
    return pose_noise.perturb_poses(keys[:, 1], batch["pose"], covered / linear, level)


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

    Like `affine_align.align_masks`, but of bits, each sample the pixel that it falls into. The mean
    of 16 makes up for it, except where a person is smaller than the ROI. What lies outside of the
    canvas is not covered.

    Args:
        canvas: the persons.
        matrices: canvas to ROI.
        roi_size: side R of the ROI.
    """
    side, window = canvas.images.shape[1], canvas.masks.shape[1]
    fine = geometry.compose(_SAMPLES * _IDENTITY, matrices)
    count = _SAMPLES * roi_size
    shown = _within(*geometry.apply_to_grid(geometry.invert(fine), count, count), side)
    to_mask = geometry.invert(geometry.compose(fine, canvas.matrices))
    x, y = (jnp.floor(v).astype(jnp.int32) for v in geometry.apply_to_grid(to_mask, count, count))
    shown &= (x >= 0) & (x < window) & (y >= 0) & (y < window)
    # One index into all bytes: a gather with three would first have to be put together.
    row = jnp.arange(len(canvas.masks))[:, None, None] * window + jnp.clip(y, 0, window - 1)
    byte = canvas.masks.reshape(-1)[row * (window // 8) + jnp.clip(x, 0, window - 1) // 8]
    covered = jnp.where(shown, byte >> (7 - x % 8).astype(jnp.uint8) & 1, 0).astype(jnp.float32)
    return covered.reshape(-1, roi_size, _SAMPLES, roi_size, _SAMPLES).mean(axis=(2, 4))


def boxes(canvas: Canvas) -> Float[jax.Array, "N 4"]:
    """(x, y, width, height) of the masks on the canvas; of invalid persons, any."""
    side, window = canvas.images.shape[1], canvas.masks.shape[1]
    x, y = geometry.apply_to_grid(canvas.matrices, window, window)
    inside = (jnp.unpackbits(canvas.masks, axis=-1) > 0) & _within(x, y, side)
    placed, inside = jnp.stack([x, y], axis=-1), inside[..., None]
    half = geometry.scale_of(canvas.matrices)[:, None] / 2  # of a pixel of the mask
    low = jnp.clip(jnp.min(jnp.where(inside, placed, side), axis=(1, 2)) - half, 0, side)
    high = jnp.clip(jnp.max(jnp.where(inside, placed, 0), axis=(1, 2)) + half, 0, side)
    return jnp.concatenate([low, jnp.maximum(high - low, 1)], axis=-1)


def _within(x: Float[Array, "*any"], y: Float[Array, "*any"], side: int) -> Bool[Array, "*any"]:
    return (x >= 0) & (x <= side) & (y >= 0) & (y <= side)
