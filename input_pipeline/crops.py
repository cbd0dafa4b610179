"""Crops: a square around one person in place of the whole image (configs/coco_human_crops.py)."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class CropOptions:
    """When the canvas shows a crop, and how much of the image around it is needed.

    Attributes:
        probability: that an example is a crop; otherwise it is the whole image.
        margin: smallest and largest side of the square over the longer side of the person's box.
        extent: side of what the canvas can see through the augmentation, in sides of the canvas.
    """

    probability: float
    margin: tuple[float, float]
    extent: float


def choose_view(
    boxes: tf.Tensor, size: tf.Tensor, seed: tf.Tensor, options: CropOptions
) -> tf.Tensor:
    """The part of an image that the canvas shows, (x0, y0, x1, y1).

    Args:
        boxes: (P, 4) x, y, width, height of the persons, one of whom is chosen.
        size: (height, width) of the image.
        seed: of the choice.
        options: see `CropOptions`. A square that is no smaller than the image is not used.
    """
    u = tf.random.stateless_uniform([3], seed)
    whole = tf.stack([0.0, 0.0, size[1], size[0]])
    box = tf.concat([boxes, whole[None]], axis=0)  # where nobody is, the image
    box = box[tf.cast(u[1] * tf.cast(tf.shape(boxes)[0], tf.float32), tf.int32)]
    low, high = options.margin
    side = (low + u[2] * (high - low)) * tf.maximum(box[2], box[3])
    center = box[:2] + box[2:] / 2
    square = tf.concat([center - side / 2, center + side / 2], axis=0)
    crops = (u[0] < options.probability) & (side < tf.reduce_max(size))
    return tf.where(crops, square, whole)


def cut_out(
    image: tf.Tensor, factor: tf.Tensor, view: tf.Tensor, size: tf.Tensor, options: CropOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts what the canvas can see through the augmentation out of a decoded image.

    Args:
        image: (H, W, 3), decoded at 1 / factor of its size.
        factor: pixels of the original that a decoded pixel covers.
        view: from `choose_view`.
        size: (height, width) of the original image.
        options: see `CropOptions`.

    Returns:
        The part, and (x, y) of its corner in decoded pixels.
    """
    extent = tf.reduce_max(view[2:] - view[:2]) * options.extent / 2
    center = (view[:2] + view[2:]) / 2
    first = tf.maximum(center - extent, 0)
    last = tf.minimum(center + extent, tf.reverse(size, [0]))
    low = tf.cast(tf.floor(first / factor), tf.int32)
    high = tf.cast(tf.math.ceil(last / factor), tf.int32)
    return image[low[1] : high[1], low[0] : high[0]], tf.cast(low, tf.float32)
