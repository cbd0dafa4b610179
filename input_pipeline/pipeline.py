"""tf.data streams: training (shuffled, repeated, augmented) and evaluation (padded, complete).

The order of the training examples and their augmentation are a pure function of the seed and of the
position in the stream, so the data position of a checkpoint is one integer: the number
of examples consumed. It can be resumed with another number of processes or devices.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from input_pipeline import transforms
from pose2seg_jax.errors import UserError

# No accelerator belongs to TensorFlow here; it would take the memory that JAX needs.
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

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
        image (D, B, S, S, 3) uint8; pose (D, N, 17, 3) in canvas coordinates; mask (D, N, S, S)
        uint8, 255 inside the person; image_index (D, N), the image of a person among the B; valid
        (D, N), False for slots without a person; image_id (D, B); person_id (D, N), 0 for none.
        B = batch_size and N = persons_per_batch over all devices of all processes.
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
        return augment(example, seed, config) | {"index": index}

    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.ragged_batch(images, drop_remainder=True)
    dataset = dataset.map(lambda batch: _pack(batch, persons, config.seed))
    dataset = dataset.batch(num_devices, drop_remainder=True)
    return dataset.prefetch(2).as_numpy_iterator()


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
        return {
            "image": transforms.letterbox(_decode(example["image"]), config.dataset.image_size),
            "image_id": example["image_id"],
            "height": example["height"],
            "width": example["width"],
            "valid": True,
        }

    records = tf.data.TFRecordDataset(_files(builder, "validation"))
    dataset = records.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    size = images * num_devices
    padding = -builder.info.splits["validation"].num_examples % size
    blank = {
        key: tf.zeros([padding, *spec.shape], spec.dtype)
        for key, spec in dataset.element_spec.items()
    }
    dataset = dataset.concatenate(tf.data.Dataset.from_tensor_slices(blank))
    dataset = dataset.batch(images, drop_remainder=True).batch(num_devices, drop_remainder=True)
    return dataset.prefetch(2).as_numpy_iterator()


def augment(
    example: dict[str, Any], seed: tf.Tensor, config: ml_collections.ConfigDict
) -> dict[str, tf.Tensor]:
    """One record to one training example: image, poses and masks through one random transform.

    Persons that end up without a labelled part or without a pixel on the canvas are left out.
    """
    side, options = config.dataset.image_size, config.augment
    height, width = example["height"], example["width"]
    persons = example["persons"]
    seeds = tf.random.experimental.stateless_split(seed, 4)

    matrix = transforms.letterbox_matrix(height, width, side)
    u = tf.random.stateless_uniform([3], seeds[0])
    chosen = tf.cast(u[1] * tf.cast(tf.shape(persons["id"])[0], tf.float32), tf.int32)
    low, high = options.crop_margin
    crop = transforms.crop_matrix(persons["bbox"][chosen], low + u[2] * (high - low), side)
    matrix = tf.where((u[0] < options.crop_probability) & (crop[0, 0] > matrix[0, 0]), crop, matrix)
    random = transforms.random_matrix(
        seeds[1],
        side,
        flip=options.flip,
        rotation=options.rotation,
        scale=tuple(options.scale),
        translation=options.translation,
    )
    matrix = transforms.compose(random, matrix)

    image = transforms.warp(_decode(example["image"]), matrix, side)
    if options.color:
        image = transforms.jitter_colors(image, seeds[2], options.color)
    masks = transforms.decode_masks(persons["runs"], height, width)
    masks = tf.transpose(transforms.warp(255 * masks, matrix, side), [2, 0, 1])
    poses = transforms.transform_poses(persons["pose"], matrix, side)
    kept = tf.reduce_any(poses[..., 2] > 0, axis=1) & (tf.reduce_max(masks, axis=[1, 2]) >= 128)
    return {
        "image": transforms.to_uint8(image),
        "image_id": example["image_id"],
        "pose": tf.boolean_mask(poses, kept),
        "mask": transforms.to_uint8(tf.boolean_mask(masks, kept)),
        "person_id": tf.boolean_mask(persons["id"], kept),
    }


def _pack(batch: dict[str, Any], slots: int, seed: int) -> dict[str, tf.Tensor]:
    """The persons of a ragged batch in a fixed number of slots; more than fit are drawn at random."""
    total = tf.size(batch["person_id"].values)
    draws = tf.random.stateless_uniform(
        [total], tf.stack([tf.cast(seed, tf.int64), batch["index"][0]])
    )
    picked = tf.sort(tf.argsort(draws)[:slots])
    count = tf.size(picked)

    def fill(values):
        values = tf.gather(values, picked)
        padded = tf.pad(values, [[0, slots - count]] + [[0, 0]] * (len(values.shape) - 1))
        return tf.ensure_shape(padded, [slots, *values.shape[1:]])

    return {
        "image": batch["image"],
        "image_id": batch["image_id"],
        "pose": fill(batch["pose"].values),
        "mask": fill(batch["mask"].values),
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


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


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
