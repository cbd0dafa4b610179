"""Training images, poses and masks onto the canvas, on the device: one random similarity an image.

The stream sends frames (decoded images, at most a little larger than the canvas) and persons in the
coordinates of the original image; everything random happens here, keyed by the example's number.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Key, UInt8

from pose2seg_jax import random_roots
from pose2seg_jax.alignment import geometry, pose_noise, sampling
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.people.batches import TrainBatch
from pose2seg_jax.people.parts import FLIPPED_PARTS

_BLOCK = geometry.scaling(8)
_SAMPLES = 4  # samples of a mask per ROI cell and axis, whose mean stands for the area


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """How much training examples vary; fields of `config.augment`.

    Attributes:
        flip: whether half of the images mirror left and right.
        rotation: of the image, largest angle in degrees, to either side.
        scale: of the image, smallest and largest factor.
        translation: of the image, largest shift as a share of the canvas.
        color: strength of brightness, contrast and saturation; 0 for none.
        pose_noise: largest level of `pose_noise.perturb_poses`; 0 for annotated poses.
        roi_rotation: of a person's ROI, largest angle in degrees, to either side.
        roi_scale: of a person's ROI, largest relative change, to either side.
        roi_translation: of a person's ROI, largest shift as a share of the ROI.
    """

    flip: bool
    rotation: float
    scale: tuple[float, float]
    translation: float
    color: float
    pose_noise: float
    roi_rotation: float
    roi_scale: float
    roi_translation: float

    @property
    def extent(self) -> float:
        """Side of what the canvas can see through the random matrix, in sides of the canvas."""
        angle = math.radians(min(self.rotation, 45))
        turned = math.cos(angle) + math.sin(angle) + 2 * self.translation
        return turned / self.scale[0]


class Canvas(NamedTuple):
    """What a training step sees of B images and N persons.

    Attributes:
        images: (B, S, S, 3), black where no image is.
        poses: (N, 17, 3) on the canvas; parts outside of it are missing.
        masks: (N, M, M / 8), each person's mask in a square of its own, eight pixels of a row a byte.
        matrices: (N, 2, 3), from the pixels of those squares to the canvas.
        valid: (N,), False for slots without a person, and where nothing of it is on the canvas, to
            within half a block of 8 x 8 pixels of the mask.
        image_poses: (B, Q, 17, 3) of all people of each image, on the canvas; parts outside of it are missing.
        ignored: (B, M, M / 8), of what nothing is known about, in squares as `masks`.
        from_ignored: (B, 2, 3), from the pixels of those squares to the canvas.
    """

    images: UInt8[Array, "B S S 3"]
    poses: Float[Array, "N P 3"]
    masks: UInt8[Array, "N M W"]
    matrices: Float[Array, "N 2 3"]
    valid: Bool[Array, " N"]
    image_poses: Float[Array, "B Q P 3"]
    ignored: UInt8[Array, "B M W"]
    from_ignored: Float[Array, "B 2 3"]


def move_to_canvas(options: AugmentOptions, side: int, seed: int, batch: TrainBatch) -> Canvas:
    """Takes one device's part of a batch to the canvas; pure.

    Args:
        options: how much the result varies.
        side: of the canvas.
        seed: of the run.
        batch: without the axis of devices.
    """
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    keys = fold(random_roots.key(seed, "augmentation"), batch.example)
    keys = jax.vmap(jax.random.split)(keys)
    random = random_matrices(
        keys[:, 0],
        side,
        flip=options.flip,
        rotation=options.rotation,
        scale=options.scale,
        translation=options.translation,
    )
    # Fitted exactly, where prediction resizes to whole pixels: the random matrix moves everything anyhow.
    fitted = geometry.letterbox_part(batch.views[:, :2], batch.views[:, 2:], side)
    matrices = geometry.compose(random, fitted)  # of the images
    from_frame = geometry.compose(matrices, geometry.invert(batch.to_frame))
    frames = jnp.asarray(batch.frames).astype(jnp.float32)
    images = sampling.align_to_roi(frames, jnp.arange(len(frames)), from_frame, side)
    if options.color:
        images = jitter_colors(
            keys[:, 1], images, _shows_image(matrices, batch.sizes, side), options.color
        )
    images = jnp.clip(jnp.round(images), 0, 255).astype(jnp.uint8)

    original = batch.poses
    if options.pose_noise:
        noise = fold(random_roots.key(seed, "training noise"), batch.example)
        original = _perturb(options.pose_noise, batch, noise[batch.image_index])
    poses = transform_poses(original, matrices[batch.image_index], side)
    valid = batch.valid & jnp.any(poses[..., 2] > 0, axis=-1)
    from_mask = geometry.compose(matrices[batch.image_index], geometry.invert(_to_mask(batch)))
    mask_side = math.isqrt(8 * batch.masks.shape[-1])
    masks = jnp.asarray(batch.masks).reshape(-1, mask_side, mask_side // 8)
    # Whether anything of a person is on the canvas is seen in blocks of 8 x 8 pixels.
    count = mask_side // 8
    blocks = jnp.any(masks.reshape(-1, count, 8, count) > 0, axis=2)
    x, y = geometry.apply_to_grid(geometry.compose(from_mask, _BLOCK), count, count)
    valid &= jnp.any(blocks & _within(x, y, side), axis=(1, 2))
    everybody = jax.vmap(lambda poses, matrix: transform_poses(poses, jnp.broadcast_to(matrix, (len(poses), 2, 3)), side))  # fmt: skip
    return Canvas(
        images,
        poses,
        masks,
        from_mask,
        valid,
        everybody(jnp.asarray(batch.image_poses), matrices),
        jnp.asarray(batch.ignored).reshape(-1, mask_side, mask_side // 8),
        geometry.compose(matrices, geometry.invert(batch.to_ignored)),
    )


def _to_mask(batch: TrainBatch) -> Float[jax.Array, "N 2 3"]:
    """The matrices to the masks; of slots without a person one that can be inverted."""
    return jnp.where(batch.valid[:, None, None], batch.to_mask, geometry.IDENTITY[None])


def _shows_image(
    matrices: Float[Array, "B 2 3"], sizes: Float[Array, "B 2"], side: int
) -> Bool[jax.Array, "B S S"]:
    """Where the canvas shows the image, not the black around it."""
    x, y = geometry.apply_to_grid(geometry.invert(matrices), side, side)
    height, width = (jnp.asarray(sizes)[:, axis, None, None] for axis in (0, 1))
    return (x >= 0) & (x <= width) & (y >= 0) & (y <= height)


def _perturb(
    largest: float, batch: TrainBatch, keys: Key[jax.Array, " N"]
) -> Float[jax.Array, "N P 3"]:
    """The poses of a batch, each at a level of its own up to the largest."""
    keys = jax.vmap(jax.random.fold_in)(keys, batch.person_key)
    keys = jax.vmap(jax.random.split)(keys)
    level = largest * jax.vmap(jax.random.uniform)(keys[:, 0])
    covered = jnp.sum(jax.lax.population_count(jnp.asarray(batch.masks)).astype(jnp.int32), -1)
    to_mask = _to_mask(batch)
    linear = to_mask[:, 0, 0] * to_mask[:, 1, 1]  # masks are scaled along the axes only
    return pose_noise.perturb_poses(keys[:, 1], batch.poses, covered / linear, level)


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
    return geometry.about(linear, side / 2, side * translation * u[:, 3:])


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
    keys: Key[jax.Array, " B"],
    images: Float[Array, "B H W 3"],
    inside: Bool[Array, "B H W"],
    strength: float,
) -> Float[jax.Array, "B H W 3"]:
    """Changes brightness, contrast and saturation of images at random.

    Args:
        keys: (B,) random keys.
        images: values 0..255.
        inside: where there is image; the black around it stays as it is, and counts in no mean.
        strength: largest relative change.
    """
    u = jax.vmap(lambda key: jax.random.uniform(key, (3, 1, 1, 1), minval=-1.0, maxval=1.0))(keys)
    brightness, contrast, saturation = (strength * u[:, i] for i in range(3))
    shown = inside[..., None]
    changed = images + 255 / 2 * brightness
    count = jnp.maximum(jnp.sum(shown, axis=(1, 2), keepdims=True), 1)
    mean = jnp.sum(jnp.where(shown, changed, 0), axis=(1, 2), keepdims=True) / count
    changed = mean + (changed - mean) * (1 + contrast)
    gray = jnp.sum(changed * np.asarray([0.299, 0.587, 0.114], np.float32), -1, keepdims=True)
    return jnp.where(shown, gray + (changed - gray) * (1 + saturation), images)


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
    jitter = geometry.about(linear, roi_size / 2, roi_size * draws[:, 2:])
    return geometry.compose(jitter, matrices)


def align_packed_masks(
    canvas: Canvas, matrices: Float[Array, "N 2 3"], roi_size: int
) -> Float[jax.Array, "N R R"]:
    """The masks in the persons' ROIs: the share of each cell that is covered.

    Like `sampling.align_masks`, but of bits, each sample the pixel that it falls into. The mean
    of 16 makes up for it, except where a person is smaller than the ROI. What lies outside of the
    canvas is not covered.

    Args:
        canvas: the persons.
        matrices: canvas to ROI.
        roi_size: side R of the ROI.
    """
    side = canvas.images.shape[1]
    return _covered(canvas.masks, canvas.matrices, side, matrices, roi_size)


def ignored_cells(canvas: Canvas, cells: int) -> Bool[jax.Array, "B h h"]:
    """Whether nothing is known about a cell of maps that cover the canvas: more than half of it is ignored.

    Args:
        canvas: the images.
        cells: side h of the maps.
    """
    side = canvas.images.shape[1]
    to_cells = jnp.broadcast_to(geometry.scaling(cells / side), canvas.from_ignored.shape)
    return _covered(canvas.ignored, canvas.from_ignored, side, to_cells, cells) > 0.5


def _covered(
    masks: UInt8[Array, "N M W"],
    to_canvas: Float[Array, "N 2 3"],
    side: int,
    matrices: Float[Array, "N 2 3"],
    roi_size: int,
) -> Float[jax.Array, "N R R"]:
    """The share of each cell that packed masks cover, from where they lie on the canvas, of some side, to the ROIs."""
    mask_side = masks.shape[1]
    fine = geometry.compose(geometry.scaling(_SAMPLES), matrices)
    count = _SAMPLES * roi_size
    shown = _within(*geometry.apply_to_grid(geometry.invert(fine), count, count), side)
    to_mask = geometry.invert(geometry.compose(fine, to_canvas))
    x, y = (jnp.floor(v).astype(jnp.int32) for v in geometry.apply_to_grid(to_mask, count, count))
    shown &= (x >= 0) & (x < mask_side) & (y >= 0) & (y < mask_side)
    # One index into all bytes: a gather with three would first have to be put together.
    row = jnp.arange(len(masks))[:, None, None] * mask_side + jnp.clip(y, 0, mask_side - 1)
    byte = masks.reshape(-1)[row * (mask_side // 8) + jnp.clip(x, 0, mask_side - 1) // 8]
    covered = jnp.where(shown, byte >> (7 - x % 8).astype(jnp.uint8) & 1, 0).astype(jnp.float32)
    return covered.reshape(-1, roi_size, _SAMPLES, roi_size, _SAMPLES).mean(axis=(2, 4))


def boxes(canvas: Canvas) -> Float[jax.Array, "N 4"]:
    """(x, y, width, height) of the masks on the canvas; of invalid persons, any."""
    side, mask_side = canvas.images.shape[1], canvas.masks.shape[1]
    x, y = geometry.apply_to_grid(canvas.matrices, mask_side, mask_side)
    inside = (jnp.unpackbits(canvas.masks, axis=-1) > 0) & _within(x, y, side)
    placed, inside = jnp.stack([x, y], axis=-1), inside[..., None]
    half = geometry.scale_of(canvas.matrices)[:, None] / 2  # of a pixel of the mask
    low = jnp.clip(jnp.min(jnp.where(inside, placed, side), axis=(1, 2)) - half, 0, side)
    high = jnp.clip(jnp.max(jnp.where(inside, placed, 0), axis=(1, 2)) + half, 0, side)
    return jnp.concatenate([low, jnp.maximum(high - low, 1)], axis=-1)


def _within(x: Float[Array, "*any"], y: Float[Array, "*any"], side: int) -> Bool[Array, "*any"]:
    return (x >= 0) & (x <= side) & (y >= 0) & (y <= side)
