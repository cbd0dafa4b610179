"""What the input pipeline hands to training: batches of fixed shapes."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32

Array = jax.Array | np.ndarray

MAX_POSES = 30  # poses of an image that the pose heads learn from, as the paper's; of more, the largest people


class TrainBatch(NamedTuple):
    """B images and N slots for persons; from the stream each with a leading axis of devices.

    Attributes:
        frames: the decoded images, each in the upper left corner of a square.
        to_frame: matrices from the original images to the frames.
        sizes: (height, width) of the original images.
        views: (x0, y0, x1, y1), the part of each original image that the canvas shows before augmentation.
        example: the examples' numbers in the stream, which key their augmentation.
        poses: (x, y, v) in the original images.
        masks: packed bits, row by row, of a square of side M that holds the person; M * M / 8 bytes.
        to_mask: matrices from the original images to those squares.
        image_index: the image of each person among the B.
        valid: False for slots without a person.
        person_key: tells persons apart, for their random numbers: the annotation id modulo 2^32.
        image_poses: of up to MAX_POSES people of each image, whether they have masks or not, in the original images; zeros
            where there are fewer.
        ignored: packed bits as `masks`, of what nothing is known about: crowds, and people without an annotated pose.
        to_ignored: matrices from the original images to the squares of `ignored`.
    """

    frames: UInt8[Array, "*D B F F 3"]
    to_frame: Float[Array, "*D B 2 3"]
    sizes: Float[Array, "*D B 2"]
    views: Float[Array, "*D B 4"]
    example: UInt32[Array, "*D B"]
    poses: Float[Array, "*D N P 3"]
    masks: UInt8[Array, "*D N W"]
    to_mask: Float[Array, "*D N 2 3"]
    image_index: Int[Array, "*D N"]
    valid: Bool[Array, "*D N"]
    person_key: UInt32[Array, "*D N"]
    image_poses: Float[Array, "*D B Q P 3"]
    ignored: UInt8[Array, "*D B W"]
    to_ignored: Float[Array, "*D B 2 3"]


class BatchIds(NamedTuple):
    """Whom a batch shows; for messages, on the host only.

    Attributes:
        image_id: of the images.
        person_id: annotation ids; 0 in slots without a person.
    """

    image_id: Int[np.ndarray, "*D B"]
    person_id: Int[np.ndarray, "*D N"]
