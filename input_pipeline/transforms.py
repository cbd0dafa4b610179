"""Letterbox and crop, in TensorFlow.

Matrices (2, 3) map source to destination coordinates and pixels have their centres at + 0.5, as in
pose2seg_jax.alignment.geometry.
"""

import tensorflow as tf


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
    offset = side / 2 - scale * (bbox[:2] + bbox[2:] / 2)
    return tf.concat([scale * tf.eye(2), offset[:, None]], axis=1)


def letterbox(image: tf.Tensor, side: int, indices: bool = False) -> tf.Tensor:
    """Scales an image (H, W, C) uint8 into the canvas; black around it.

    The same as `predictor.letterbox_image`, which explains `indices`.
    """
    size = tf.shape(image)[:2]
    if indices:
        canvas = _resampled(image, size, side, indices)
    else:  # most images of COCO have a side of 640 pixels; for that canvas, they only move
        canvas = tf.cond(
            tf.reduce_max(size) == side,
            lambda: _moved(image, side - size),
            lambda: _resampled(image, size, side, indices),
        )
    return tf.ensure_shape(canvas, [side, side, image.shape[-1]])


def _moved(image: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
    """The letterbox of an image with the canvas's longer side; `rest` is missing along y and x.

    Where it is odd, a pixel of the canvas lies half way between two of the image.
    """
    odd = rest % 2

    def between():
        axis = tf.argmax(odd)
        edge = tf.where(odd > 0, 1, tf.shape(image)[:2])
        before = tf.concat([image[: edge[0], : edge[1]], image], axis)
        behind = tf.concat([image, image[-edge[0] :, -edge[1] :]], axis)
        return to_uint8((tf.cast(before, tf.float32) + tf.cast(behind, tf.float32)) / 2)

    placed = tf.cond(tf.reduce_any(odd > 0), between, lambda: image)
    margin = rest // 2
    return tf.pad(placed, [[margin[0], margin[0]], [margin[1], margin[1]], [0, 0]])


def _resampled(image: tf.Tensor, size: tf.Tensor, side: int, indices: bool) -> tf.Tensor:
    matrix = letterbox_matrix(size[0], size[1], side)
    shift = tf.zeros([])
    if indices:
        image = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
        shift = 0.5 - 1.5 * matrix[0, 0]
    scaled = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[side, side],
        scale=tf.stack([matrix[0, 0], matrix[0, 0]]),
        translation=tf.reverse(matrix[:, 2], [0]) + shift,
        kernel_type="triangle",
        antialias=not indices,
    )
    return to_uint8(scaled[0])


def to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Rounds and clips to uint8."""
    return tf.saturate_cast(tf.round(values), tf.uint8)
