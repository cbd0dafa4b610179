"""The tf.data stream of training examples: whole images or crops, and the persons in them.

The order of the examples is a pure function of the seed and of the position in the stream (order.py), and so is their
augmentation, on the device (pose2seg_jax.training.augment): the data position of a checkpoint is one integer, the
number of examples consumed. It can be resumed with another number of processes or devices. Records are read by their number:
a process reads its own share only, and to resume costs nothing.
"""

import atexit
import contextlib
import dataclasses
import itertools
import math
import weakref
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from input_pipeline import crops as crop_views
from input_pipeline.coco_human.coco_human_dataset_builder import MASK_SIDE
from input_pipeline.crops import CropOptions
from input_pipeline.order import Order, count_groups
from pose2seg_jax import parallel, random_roots
from pose2seg_jax.people.batches import MAX_POSES, BatchIds, TrainBatch

# No accelerator belongs to TensorFlow here; it would take the memory that JAX needs.
with contextlib.suppress(RuntimeError):  # where the user's program used TensorFlow before
    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")

# A frame may have a twentieth less resolution than the canvas: 500 px are decoded at 1/2 for 256.
_SLACK = 1 / 0.95

_MASK_BYTES = MASK_SIDE**2 // 8  # of packed bits

# The longer side of COCO's images, at most: room for more would be padding.
_COCO_SIDE = 640

PARALLEL_CALLS = parallel.num_cores()  # threads that decode
OPTIONS = tf.data.Options()
# The thread that tunes a stream sleeps seconds between two looks at it, and whoever drops the
# stream waits until it wakes up.
OPTIONS.autotune.enabled = False


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """What the stream delivers.

    Attributes:
        seed: of the order of the examples and of every choice.
        batch_size: images of a step, over all devices of all processes.
        persons_per_batch: slots for persons of a step, likewise.
        image_size: side of the canvas in pixels, for which images are decoded.
        crops: for a stream of crops; None for whole images only.
    """

    seed: int
    batch_size: int
    persons_per_batch: int
    image_size: int
    crops: CropOptions | None = None

    @property
    def frame_side(self) -> int:
        """Side of the frame in pixels.

        A whole image may be a quarter larger than on the canvas, so that few must be scaled, but no larger than
        COCO's are; a crop has the canvas's resolution, and all that augmentation can bring in.
        """
        whole = min(1.25 * self.image_size, max(self.image_size, _COCO_SIDE))
        crop = self.image_size * self.crops.extent if self.crops else 0
        return math.ceil(max(whole, crop))


def train_batches(
    builder: tfds.core.DatasetBuilder,
    options: StreamOptions,
    *,
    position: int,
    num_devices: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[TrainBatch, BatchIds]]:
    """Returns an endless stream of training batches, each with a leading axis of devices.

    Args:
        builder: a prepared `coco_human` builder of the split "train".
        options: what the stream delivers.
        position: examples already consumed, by all processes together; whole batches.
        num_devices: devices of this process.
        process_index: of this process.
        process_count: of all processes.

    Raises:
        UserError: a batch cannot be shared equally by the devices.
    """
    size, slots = options.batch_size, options.persons_per_batch
    devices = num_devices * process_count
    for field, total in (("batch_size", size), ("persons_per_batch", slots)):
        parallel.per_device(field, total, devices)
    groups = count_groups(size, slots, devices)
    order = Order(options.seed, persons_of_records(builder), size, groups)
    own = slice(*(groups * index // process_count for index in (process_index, process_index + 1)))

    def batches() -> Iterator[np.ndarray]:
        for number in itertools.count(position // size):
            yield np.stack([values[own].ravel() for values in order.batch(number)], axis=-1)

    records, features = open_records(builder), builder.info.features

    def load(pair):
        example = features.deserialize_example(
            read_record(records, pair[0]), decoders={"image": tfds.decode.SkipDecoding()}
        )
        return read_example(example, pair[1], options) | {"example": tf.cast(pair[1], tf.uint32)}

    pairs = tf.TensorSpec([size // process_count, 2], tf.int64)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=pairs).unbatch()
    dataset = dataset.map(load, num_parallel_calls=PARALLEL_CALLS)
    dataset = dataset.ragged_batch(size // groups, drop_remainder=True)
    dataset = dataset.map(lambda group: _pack(group, slots // groups, options.seed))
    dataset = dataset.batch(groups // devices, drop_remainder=True).map(_join)
    dataset = dataset.batch(num_devices, drop_remainder=True)
    return _until_exit(dataset.prefetch(2).with_options(OPTIONS).as_numpy_iterator())


def _until_exit(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches. A program may end while it holds the stream: TensorFlow's threads would wait for Python's for ever."""

    def stream() -> Generator[Any, None, None]:
        nonlocal batches
        try:
            yield from batches
        finally:
            del batches

    made = stream()
    held = weakref.ref(made)

    def close() -> None:
        if (found := held()) is not None:
            found.close()

    atexit.register(close)
    return made


def open_records(builder: tfds.core.DatasetBuilder) -> ArrayRecordDataSource:
    """Returns the serialised examples of the split "train", by their number."""
    return ArrayRecordDataSource([str(path) for path in builder.info.splits["train"].filepaths])


def read_record(records: Any, number: tf.Tensor) -> tf.Tensor:
    """Returns one of `open_records`, within tf.data."""
    record = tf.numpy_function(records.__getitem__, [number], tf.string, stateful=False)
    record.set_shape([])
    return record


def persons_of_records(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Returns how many persons each record holds."""
    return np.asarray(builder.info.metadata["persons"])


def read_example(
    example: dict[str, Any], index: tf.Tensor, options: StreamOptions
) -> dict[str, tf.Tensor]:
    """One record as the device takes it: the image, decoded no larger than needed, and its persons.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that still has the canvas's resolution:
    the decoder then skips the rest of the inverse DCT.
    """
    persons, encoded = example["persons"], example["image"]
    size = tf.cast(tf.stack([example["height"], example["width"]]), tf.float32)
    view = tf.stack([0.0, 0.0, size[1], size[0]])
    if options.crops:
        seed = _seed(options.seed, "crops", index)
        view = crop_views.choose_view(persons["bbox"], size, seed, options.crops)
    scale = options.image_size / tf.maximum(view[2] - view[0], view[3] - view[1])
    usable = [tf.io.is_jpeg(encoded) & (ratio * scale <= _SLACK) for ratio in (2, 4, 8)]
    choice = tf.reduce_sum(tf.cast(tf.stack(usable), tf.int32))
    image = tf.switch_case(choice, [lambda r=r: _decode(encoded, r) for r in (1, 2, 4, 8)])
    factor = tf.cast(2**choice, tf.float32)  # a decoded pixel covers so many of the original
    offset = tf.zeros(2)
    if options.crops:
        image, offset = crop_views.cut_out(image, factor, view, size, options.crops)
    limit = options.frame_side
    decoded = tf.cast(tf.shape(image)[:2], tf.float32)
    shrunk = tf.maximum(tf.round(decoded * tf.minimum(limit / tf.reduce_max(decoded), 1)), 1)
    image = tf.cond(
        tf.reduce_any(shrunk < decoded),
        lambda: _to_uint8(tf.image.resize(image, tf.cast(shrunk, tf.int32), "area")),
        lambda: image,
    )
    rest = tf.reverse(shrunk / decoded, [0])  # x, y
    height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.reshape(image, [height, 3 * width])  # tf.pad takes ten times as long in 3 dimensions
    rows = tf.pad(rows, [[0, limit - height], [0, 3 * (limit - width)]])
    return {
        "frames": tf.reshape(rows, [limit, limit, 3]),
        "to_frame": tf.concat([tf.linalg.diag(rest / factor), -(rest * offset)[:, None]], axis=1),
        "sizes": size,
        "views": view,
        "image_id": example["image_id"],
        "poses": persons["pose"],
        "masks": tf.reshape(tf.io.decode_raw(persons["mask"], tf.uint8), [-1, _MASK_BYTES]),
        "to_mask": persons["to_mask"],
        "person_id": persons["id"],
        "image_poses": _fill(example["poses"], MAX_POSES),
        "ignored": tf.io.decode_raw(example["ignored"], tf.uint8, fixed_length=_MASK_BYTES),
        "to_ignored": example["to_ignored"],
    }


def _pack(batch: dict[str, Any], slots: int, seed: int) -> tuple[TrainBatch, BatchIds]:
    """The persons of a group of images in a fixed number of slots; more than fit are drawn at random.

    Also those that the augmentation will push off the canvas: that shows on the device only.
    """
    person_id = batch["person_id"]
    total = tf.size(person_id.values)
    draws = tf.random.stateless_uniform([total], _seed(seed, "left out", batch["example"][0]))
    picked = tf.sort(tf.argsort(draws)[:slots])
    count = tf.size(picked)

    def fill(values):
        return _fill(tf.gather(values, picked), slots)

    ids = fill(person_id.values)
    persons = {name: fill(batch[name].values) for name in ("poses", "masks", "to_mask")}
    whole = {
        name: batch[name]
        for name in (
            "frames", "to_frame", "sizes", "views", "example", "image_poses", "ignored", "to_ignored",
        )
    }  # fmt: skip
    packed = TrainBatch(
        **whole,
        **persons,
        image_index=fill(tf.cast(person_id.value_rowids(), tf.int32)),
        valid=tf.range(slots) < count,
        person_key=tf.cast(ids % 2**32, tf.uint32),
    )
    return packed, BatchIds(batch["image_id"], ids)


def _join(groups: TrainBatch, ids: BatchIds) -> tuple[TrainBatch, BatchIds]:
    """The groups of a device as one batch."""
    images = tf.shape(groups.frames)[1]
    first = tf.range(tf.shape(groups.frames)[0])[:, None] * images
    groups = groups._replace(image_index=groups.image_index + first)

    def flat(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], axis=0))

    return TrainBatch(*map(flat, groups)), BatchIds(*map(flat, ids))


def _fill(values: tf.Tensor, slots: int) -> tf.Tensor:
    """Values in a fixed number of slots, zeros behind them."""
    rest = slots - tf.shape(values)[0]
    padded = tf.pad(values, [[0, rest]] + [[0, 0]] * (len(values.shape) - 1))
    return tf.ensure_shape(padded, [slots, *values.shape[1:]])


def _seed(seed: int, root: random_roots.Root, number: tf.Tensor) -> tf.Tensor:
    """The seed of TensorFlow's stateless functions for one use and one example."""
    start = tf.constant([seed, random_roots.number(root)], tf.int64)
    return tf.random.experimental.stateless_fold_in(start, tf.cast(number, tf.int64))


def _decode(encoded: tf.Tensor, ratio: int = 1) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(values), tf.uint8)
