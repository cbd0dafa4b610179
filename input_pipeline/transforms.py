"""Image, poses and masks through one affine transform, in TensorFlow.

Matrices (2, 3) map source to destination coordinates and pixels have their centres at + 0.5, as in
pose2seg_jax.geometry; every warp pulls.
"""

import math

import tensorflow as tf

from pose2seg_jax.templates import FLIPPED_PARTS


def compose(outer: tf.Tensor, inner: tf.Tensor) -> tf.Tensor:
    """The matrix (2, 3) that applies `inner` first."""
    linear = outer[:, :2] @ inner[:, :2]
    return tf.concat([linear, outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], axis=1)


def letterbox_matrix(height: tf.Tensor, width: tf.Tensor, side: int) -> tf.Tensor:
    """Image to the side x side square: aspect kept, centred; as `geometry.letterbox`."""
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    scale = side / tf.maximum(height, width)
    return tf.stack(
        [
            tf.stack([scale, 0.0, (side - scale * width) / 2]),
            tf.stack([0.0, scale, (side - scale * height) / 2]),
        ]
    )


def crop_matrix(bbox: tf.Tensor, margin: tf.Tensor, side: int) -> tf.Tensor:
    """A square window around a box (x, y, width, height), `margin` times its longer side, to the canvas."""
    scale = side / (margin * tf.maximum(bbox[2], bbox[3]))
    center = bbox[:2] + bbox[2:] / 2
    return _about(scale * tf.eye(2), center, tf.fill([2], side / 2))


def random_matrix(
    seed: tf.Tensor,
    side: int,
    *,
    flip: bool,
    rotation: float,
    scale: tuple[float, float],
    translation: float,
) -> tf.Tensor:
    """A random similarity of the canvas about its centre.

    Args:
        seed: (2,) stateless seed.
        side: side of the canvas.
        flip: whether half of the results mirror left and right.
        rotation: largest angle in degrees, to either side.
        scale: smallest and largest factor, log-uniform.
        translation: largest shift as a share of the side, per axis.
    """
    u = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
    angle = u[0] * rotation * math.pi / 180
    low, high = math.log(scale[0]), math.log(scale[1])
    factor = tf.exp(low + (u[1] + 1) / 2 * (high - low))
    mirror = tf.where((u[2] < 0) & flip, -1.0, 1.0)
    cos, sin = factor * tf.cos(angle), factor * tf.sin(angle)
    linear = tf.stack([tf.stack([cos * mirror, sin]), tf.stack([-sin * mirror, cos])])
    center = tf.fill([2], side / 2)
    return _about(linear, center, center + side * translation * u[3:])


def _about(linear: tf.Tensor, source: tf.Tensor, destination: tf.Tensor) -> tf.Tensor:
    offset = tf.cast(destination, tf.float32) - tf.linalg.matvec(
        linear, tf.cast(source, tf.float32)
    )
    return tf.concat([linear, offset[:, None]], axis=1)


def letterbox(image: tf.Tensor, side: int) -> tf.Tensor:
    """Scales an image (H, W, C) uint8 into the canvas, antialiased; black around it.

    The predictor does the same with `jax.image.scale_and_translate`.
    """
    matrix = letterbox_matrix(tf.shape(image)[0], tf.shape(image)[1], side)
    return to_uint8(_scale(image, [side, side], matrix[0, 0], tf.reverse(matrix[:, 2], [0])))


def warp(image: tf.Tensor, matrix: tf.Tensor, side: int) -> tf.Tensor:
    """Warps an image (H, W, C) onto the side x side canvas; 0 outside it.

    The change of scale is done first, antialiased; rotation, mirroring and shift follow, bilinear.
    """
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    scale = tf.sqrt(tf.abs(determinant))
    shape = tf.cast(tf.math.ceil(tf.cast(tf.shape(image)[:2], tf.float32) * scale), tf.int32)
    scaled = _scale(image, tf.maximum(shape, 1), scale, tf.zeros(2))
    rigid = compose(matrix, tf.stack([[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0]]))
    # The inverse of a rigid matrix; the op works with pixel indices, half a pixel off.
    linear = tf.transpose(rigid[:, :2])
    offset = -tf.linalg.matvec(linear, rigid[:, 2] - 0.5) - 0.5
    transform = tf.concat([linear[0], offset[:1], linear[1], offset[1:], tf.zeros(2)], axis=0)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=scaled[None],
        transforms=transform[None],
        output_shape=[side, side],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    return tf.ensure_shape(warped, [side, side, image.shape[-1]])


def _scale(
    image: tf.Tensor, shape: tf.Tensor, scale: tf.Tensor, translation: tf.Tensor
) -> tf.Tensor:
    return tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=shape,
        scale=tf.stack([scale, scale]),
        translation=translation,
        kernel_type="triangle",
        antialias=True,
    )[0]


def to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Rounds and clips to uint8."""
    return tf.saturate_cast(tf.round(values), tf.uint8)


def transform_poses(poses: tf.Tensor, matrix: tf.Tensor, side: int) -> tf.Tensor:
    """Poses (P, 17, 3) onto the canvas.

    A mirroring matrix swaps left and right parts: the left arm of a mirrored person is a right
    arm. Parts outside the canvas become missing, (0, 0, 0).
    """
    points = tf.einsum("ij,pnj->pni", matrix[:, :2], poses[..., :2]) + matrix[:, 2]
    inside = tf.reduce_all((points >= 0) & (points <= side), axis=-1) & (poses[..., 2] > 0)
    moved = tf.where(inside[..., None], tf.concat([points, poses[..., 2:]], axis=-1), 0.0)
    mirrored = matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0]
    return tf.where(mirrored, tf.gather(moved, FLIPPED_PARTS, axis=1), moved)


def decode_masks(runs: tf.RaggedTensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Run lengths of 0, 1, 0, ... down the columns, per person, to masks (H, W, P) uint8."""
    # Every person's runs fill H * W, so one running sum gives the ends of all runs; a mask is the
    # running sum of +1 where a run of ones starts and -1 where it ends.
    ends = tf.cumsum(runs.values)
    starts = ends - runs.values
    first = tf.gather(runs.row_starts(), runs.value_rowids())
    ones = (tf.range(tf.size(ends, tf.int64)) - first) % 2 == 1
    pixels = tf.cast(runs.nrows(), tf.int32) * height * width
    positions = tf.concat([tf.boolean_mask(starts, ones), tf.boolean_mask(ends, ones)], 0)
    count = tf.size(positions) // 2
    steps = tf.concat([tf.ones(count, tf.int32), -tf.ones(count, tf.int32)], 0)
    flat = tf.cumsum(tf.scatter_nd(positions[:, None], steps, [pixels + 1]))[:pixels]
    return tf.cast(tf.transpose(tf.reshape(flat, [-1, width, height]), [2, 1, 0]), tf.uint8)


def jitter_colors(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Random brightness, contrast and saturation of an image with values 0..255."""
    seeds = tf.random.experimental.stateless_split(seed, 3)
    image = tf.image.stateless_random_brightness(image, 255 * strength / 2, seeds[0])
    image = tf.image.stateless_random_contrast(image, 1 - strength, 1 + strength, seeds[1])
    return tf.image.stateless_random_saturation(image, 1 - strength, 1 + strength, seeds[2])
