"""What tests of the stream share: prepared data of drawn people, records, and batches as a device gets them.

TensorFlow is imported late: every run of the tests loads this file.
"""

import functools

import numpy as np
import pytest
from conftest import augment_options, tiny_config, write_coco

from pose2seg_jax.people.batches import TrainBatch
from pose2seg_jax.program import data
from pose2seg_jax.training import augment
from pose2seg_jax.training.options import TrainOptions


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The builder of a data set of drawn people, its data prepared, and the config of a network that trains on it."""
    from input_pipeline.coco_human import coco_human_dataset_builder as coco_human

    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", {"train2017": [1, 2, 1, 1, 3, 1, 1, 2], "val2017": [1, 7, 2, 1, 1]})
    config = tiny_config(root / "coco", root / "tfds")
    builder = coco_human.prepare(config.dataset.coco_dir, config.dataset.data_dir, "train")
    return builder, config


def record(encoded, size, pose, bbox, to_mask):
    """An image (its bytes) of one person who covers the whole window of the mask."""
    import tensorflow as tf

    from input_pipeline.coco_human import coco_human_dataset_builder as coco_human

    packed = np.full(coco_human.MASK_SIDE**2 // 8, 255, np.uint8)
    return {
        "image": tf.constant(encoded), "image_id": tf.constant(1, tf.int64),
        "height": tf.constant(size[0]), "width": tf.constant(size[1]),
        "persons": {
            "id": tf.constant([1], tf.int64), "pose": tf.constant(pose[None]),
            "bbox": tf.constant([bbox]), "mask": tf.constant([packed.tobytes()]),
            "to_mask": tf.constant(to_mask[None]),
        },
        "poses": tf.constant(pose[None]), "ignored": tf.constant(b""),
        "to_ignored": tf.eye(2, 3),
    }  # fmt: skip


def batch_of(read, copies=1):
    """Some copies of one `read_example` as a device gets them, each an example of its own."""
    read = {name: np.asarray(values) for name, values in read.items()}
    count = len(read["poses"])
    names = ("frames", "to_frame", "sizes", "views", "image_poses", "ignored", "to_ignored")
    whole = {name: read[name][None].repeat(copies, 0) for name in names}
    persons = {n: np.concatenate([read[n]] * copies) for n in ("poses", "masks", "to_mask")}
    return TrainBatch(
        **whole,
        **persons,
        example=np.arange(copies, dtype=np.uint32),
        image_index=np.arange(copies, dtype=np.int32).repeat(count),
        valid=np.ones(copies * count, bool),
        person_key=np.ones(copies * count, np.uint32),
    )


def stream_options(config):
    """Returns what the stream of a config delivers."""
    return data.stream_options(config, TrainOptions.from_config(config))


def to_canvas(config):
    """Returns what moves a batch to the canvas of a config."""
    options, side = augment_options(config), config.model.image_size
    return functools.partial(augment.move_to_canvas, options, side, config.seed)
