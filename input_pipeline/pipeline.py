"""tf.data streams: training (shuffled, repeated) and evaluation (padded, complete).

The order of the training examples is a pure function of the seed and of the position in the stream,
and so is their augmentation, on the device (pose2seg_jax.training.augment): the data position of a checkpoint
is one integer, the number of examples consumed. It can be resumed with another number of
processes or devices.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from input_pipeline import transforms
from input_pipeline.coco_human.coco_human_dataset_builder import MASK_SIDE
from pose2seg_jax.errors import UserError

# No accelerator belongs to TensorFlow here; it would take the memory that JAX needs.
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

# A frame may have a twentieth less resolution than the canvas: 500 px are decoded at 1/2 for 256.
_SLACK = 1 / 0.95

# The longer side of COCO's images, at most: room for more would be padding.
_COCO_SIDE = 640

# Threads that decode: one a core of this process.
PARALLEL_CALLS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
OPTIONS = tf.data.Options()
# The thread that tunes a stream sleeps seconds between two looks at it, and whoever drops the
# stream waits until it wakes up: an evaluation took up to twice its time.
OPTIONS.autotune.enabled = False

Batch = dict[str, np.ndarray]


def train_batches(
    builder: tfds.core.DatasetBuilder,
    config: ml_collections.ConfigDict,
    *,
    position: int,
    num_devices: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """An endless stream of training batches.

    Args:
        builder: a prepared `coco_human` builder.
        config: the experiment.
        position: examples already consumed, by all processes together.
        num_devices: devices D of this process.
        process_index: of this process.
        process_count: of all processes.

    Yields:
        For the B = batch_size and N = persons_per_batch over all devices of all processes:
        image (D, B, F, F, 3) uint8, the frame: a decoded image in the upper left corner;
        to_frame (D, B, 2, 3) from the original image to the frame, and to_canvas, to the canvas
        before augmentation; index (D, B), the example's number, for the augmentation; image_id
        (D, B). pose (D, N, 17, 3) in the original image; mask (D, N, M * M / 8) uint8, packed bits
        of a window of side M = MASK_SIDE; to_mask (D, N, 2, 3) from the original image to that
        window; image_index (D, N), the image of a person among the B; valid (D, N), False for slots
        without a person; person_id (D, N), 0 for none.
    """
    devices = num_devices * process_count
    images, persons = (
        share(config, "batch_size", devices),
        share(config, "persons_per_batch", devices),
    )
    dataset = _endless_records(builder, config.seed, position)
    dataset = dataset.enumerate(position).shard(process_count, process_index)
    features = builder.info.features

    def load(index, record):
        example = features.deserialize_example(
            record, decoders={"image": tfds.decode.SkipDecoding()}
        )
        seed = tf.stack([tf.cast(config.seed, tf.int64), index])
        return frame(example, seed, config) | {"index": tf.cast(index, tf.uint32)}

    dataset = dataset.map(load, num_parallel_calls=PARALLEL_CALLS)
    dataset = dataset.ragged_batch(images, drop_remainder=True)
    dataset = dataset.map(lambda batch: _pack(batch, persons, config.seed))
    dataset = dataset.batch(num_devices, drop_remainder=True)
    return dataset.prefetch(2).with_options(OPTIONS).as_numpy_iterator()


def eval_batches(
    builder: tfds.core.DatasetBuilder, config: ml_collections.ConfigDict, *, num_devices: int
) -> Iterator[Batch]:
    """All images of the validation split, once.

    Poses are not in the stream: the caller has them by image id, from whatever source.

    Yields:
        image (D, B, S, S, 3) uint8, letterboxed; image_id, height, width (D, B); valid (D, B),
        False in the padding of the last batch. B = eval.batch_size over all devices.
    """
    images = share(config.eval, "batch_size", num_devices)
    features = builder.info.features
    decoders = {"image": tfds.decode.SkipDecoding()}

    def load(record):
        example = features.deserialize_example(record, decoders=decoders)
        image = _decode(example["image"])
        indices = config.model.sampling == "indices"
        return {
            "image": transforms.letterbox(image, config.dataset.image_size, indices),
            "image_id": example["image_id"],
            "height": example["height"],
            "width": example["width"],
            "valid": True,
        }

    records = tf.data.TFRecordDataset(_files(builder, "validation"))
    dataset = records.map(load, num_parallel_calls=PARALLEL_CALLS, deterministic=True)
    size = images * num_devices
    padding = -builder.info.splits["validation"].num_examples % size
    blank = {
        key: tf.zeros([padding, *spec.shape], spec.dtype)
        for key, spec in dataset.element_spec.items()
    }
    dataset = dataset.concatenate(tf.data.Dataset.from_tensor_slices(blank))
    dataset = dataset.batch(images, drop_remainder=True).batch(num_devices, drop_remainder=True)
    return dataset.prefetch(2).with_options(OPTIONS).as_numpy_iterator()


def frame(
    example: dict[str, Any], seed: tf.Tensor, config: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """One record as the device takes it: the image, decoded no larger than needed, and its persons.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that still has the canvas's resolution:
    the decoder then skips the rest of the inverse DCT.
    """
    side, options = config.dataset.image_size, config.augment
    persons = example["persons"]
    encoded = example["image"]
    to_canvas = transforms.letterbox_matrix(example["height"], example["width"], side)
    window = None
    if options.crop_probability:
        window, to_canvas = _crop(example, seed, options, to_canvas, side)
    scale = to_canvas[0, 0]
    usable = [tf.io.is_jpeg(encoded) & (ratio * scale <= _SLACK) for ratio in (2, 4, 8)]
    choice = tf.reduce_sum(tf.cast(tf.stack(usable), tf.int32))
    image = tf.switch_case(choice, [lambda r=r: _decode(encoded, r) for r in (1, 2, 4, 8)])
    factor = tf.cast(2**choice, tf.float32)  # a decoded pixel covers so many of the original
    offset = tf.zeros(2)
    if window is not None:
        low = tf.cast(tf.floor(window[:2] / factor), tf.int32)
        high = tf.cast(tf.math.ceil(window[2:] / factor), tf.int32)
        image = image[low[1] : high[1], low[0] : high[0]]
        offset = tf.cast(low, tf.float32)
    limit = frame_side(config)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    shrunk = tf.maximum(tf.round(size * tf.minimum(limit / tf.reduce_max(size), 1)), 1)
    image = tf.cond(
        tf.reduce_any(shrunk < size),
        lambda: transforms.to_uint8(tf.image.resize(image, tf.cast(shrunk, tf.int32), "area")),
        lambda: image,
    )
    rest = tf.reverse(shrunk / size, [0])  # x, y
    height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.reshape(image, [height, 3 * width])  # tf.pad takes ten times as long in 3 dimensions
    rows = tf.pad(rows, [[0, limit - height], [0, 3 * (limit - width)]])
    linear = tf.linalg.diag(rest / factor)
    return {
        "image": tf.reshape(rows, [limit, limit, 3]),
        "to_frame": tf.concat([linear, -(rest * offset)[:, None]], axis=1),
        "to_canvas": to_canvas,
        "image_id": example["image_id"],
        "pose": persons["pose"],
        "mask": tf.ensure_shape(
            tf.io.decode_raw(persons["mask"], tf.uint8), [None, MASK_SIDE**2 // 8]
        ),
        "to_mask": persons["to_mask"],
        "person_id": persons["id"],
    }


def frame_side(config: ml_collections.ConfigDict) -> int:
    """Side of the frame.

    A whole image may be a quarter larger than on the canvas, so that few must be scaled, but no
    larger than COCO's are; a crop has the canvas's resolution, and all that turning and shifting
    can bring in.
    """
    side = config.dataset.image_size
    whole = min(1.25 * side, max(side, _COCO_SIDE))
    crop = side * _crop_extent(config.augment) if config.augment.crop_probability else 0
    return math.ceil(max(whole, crop))


def _crop_extent(options: ml_collections.ConfigDict) -> float:
    """Side of what the canvas can see through the random matrix, in canvases."""
    angle = math.radians(min(options.rotation, 45))
    turned = math.cos(angle) + math.sin(angle) + 2 * options.translation
    return turned / options.scale[0]


def _crop(example, seed, options, letterbox, side):
    """A window (x0, y0, x1, y1) of the image around one person, or the whole; and it on the canvas."""
    persons = example["persons"]
    u = tf.random.stateless_uniform([3], tf.random.experimental.stateless_fold_in(seed, 1))
    chosen = tf.cast(u[1] * tf.cast(tf.shape(persons["id"])[0], tf.float32), tf.int32)
    low, high = options.crop_margin
    crop = transforms.crop_matrix(persons["bbox"][chosen], low + u[2] * (high - low), side)
    matrix = tf.where(
        (u[0] < options.crop_probability) & (crop[0, 0] > letterbox[0, 0]), crop, letterbox
    )
    first = -matrix[:, 2] / matrix[0, 0]
    size = tf.cast(tf.stack([example["width"], example["height"]]), tf.float32)
    whole = side / matrix[0, 0]
    reach = whole * (_crop_extent(options) - 1) / 2  # beyond the window, on either side
    window = tf.concat(
        [tf.maximum(first - reach, 0), tf.minimum(first + whole + reach, size)], axis=0
    )
    return window, matrix


def _pack(batch: dict[str, Any], slots: int, seed: int) -> dict[str, tf.Tensor]:
    """The persons of a ragged batch in a fixed number of slots; more than fit are drawn at random.

    Also those that the augmentation will push off the canvas: that shows on the device only.
    """
    total = tf.size(batch["person_id"].values)
    draws = tf.random.stateless_uniform(
        [total], tf.stack([tf.cast(seed, tf.int64), tf.cast(batch["index"][0], tf.int64)])
    )
    picked = tf.sort(tf.argsort(draws)[:slots])
    count = tf.size(picked)

    def fill(values):
        values = tf.gather(values, picked)
        padded = tf.pad(values, [[0, slots - count]] + [[0, 0]] * (len(values.shape) - 1))
        return tf.ensure_shape(padded, [slots, *values.shape[1:]])

    return {
        **{name: batch[name] for name in ("image", "to_frame", "to_canvas", "index", "image_id")},
        "pose": fill(batch["pose"].values),
        "mask": fill(batch["mask"].values),
        "to_mask": fill(batch["to_mask"].values),
        "person_id": fill(batch["person_id"].values),
        "image_index": fill(tf.cast(batch["person_id"].value_rowids(), tf.int32)),
        "valid": tf.range(slots) < count,
    }


def _endless_records(
    builder: tfds.core.DatasetBuilder, seed: int, position: int
) -> tf.data.Dataset:
    """Serialised training examples, shuffled anew in every epoch, from `position` on."""
    files = _files(builder, "train")
    size = builder.info.splits["train"].num_examples

    def epoch(number):
        # One seed per epoch makes its order independent of where the stream was started.
        order = tf.random.stateless_uniform([], [seed, number], maxval=2**31 - 1, dtype=tf.int64)
        names = tf.data.Dataset.from_tensor_slices(files)
        names = names.shuffle(len(files), seed=order, reshuffle_each_iteration=False)
        return tf.data.TFRecordDataset(names).shuffle(
            min(size, 4096), seed=order, reshuffle_each_iteration=False
        )

    epochs = tf.data.Dataset.range(position // size, np.iinfo(np.int64).max)
    return epochs.flat_map(epoch).skip(position % size)


def _files(builder: tfds.core.DatasetBuilder, split: str) -> list[str]:
    return [str(path) for path in builder.info.splits[split].filepaths]


def _decode(encoded: tf.Tensor, ratio: int = 1) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def share(config: ml_collections.ConfigDict, field: str, devices: int) -> int:
    """A device's part of a batch size.

    Raises:
        UserError: it cannot be shared equally.
    """
    if config[field] % devices or config[field] < devices:
        raise UserError(
            f"config field {field} is {config[field]}, which cannot be shared equally by {devices}"
            f" devices; set it to a multiple of {devices}, or show JAX fewer of them"
            " (CUDA_VISIBLE_DEVICES=0)."
        )
    return config[field] // devices
