"""Crops around people."""

import functools
import io

import jax
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import augment_options, draw_masks, standing_pose, tiny_config, write_coco

from input_pipeline import pipeline
from input_pipeline.coco_human import coco_human_dataset_builder as coco_human
from pose2seg_jax.people.batches import TrainBatch
from pose2seg_jax.program import data
from pose2seg_jax.training import augment
from pose2seg_jax.training.options import TrainOptions


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", {"train2017": [1, 2, 1, 1, 3, 1, 1, 2], "val2017": [1, 7, 2, 1, 1]})
    config = tiny_config(root / "coco", root / "tfds")
    builder = coco_human.prepare(config.dataset.coco_dir, config.dataset.data_dir, "train")
    return builder, config


def _record(encoded, size, pose, bbox, to_mask):
    """An image (its bytes) of one person who covers the whole window of the mask."""
    packed = np.full(coco_human.MASK_SIDE**2 // 8, 255, np.uint8)
    return {
        "image": tf.constant(encoded), "image_id": tf.constant(1, tf.int64),
        "height": tf.constant(size[0]), "width": tf.constant(size[1]),
        "persons": {
            "id": tf.constant([1], tf.int64), "pose": tf.constant(pose[None]),
            "bbox": tf.constant([bbox]), "mask": tf.constant([packed.tobytes()]),
            "to_mask": tf.constant(to_mask[None]),
        },
    }  # fmt: skip


def _batch_of(read, copies=1):
    """Some copies of one `read_example` as a device gets them, each an example of its own."""
    read = {name: np.asarray(values) for name, values in read.items()}
    count = len(read["poses"])
    whole = {n: read[n][None].repeat(copies, 0) for n in ("frames", "to_frame", "sizes", "views")}
    persons = {n: np.concatenate([read[n]] * copies) for n in ("poses", "masks", "to_mask")}
    return TrainBatch(
        **whole,
        **persons,
        example=np.arange(copies, dtype=np.uint32),
        image_index=np.arange(copies, dtype=np.int32).repeat(count),
        valid=np.ones(copies * count, bool),
        person_key=np.ones(copies * count, np.uint32),
    )


def _stream_options(config):
    return data.stream_options(config, TrainOptions.from_config(config))


def _to_canvas(config):
    options, side = augment_options(config), config.model.image_size
    return functools.partial(augment.move_to_canvas, options, side, config.seed)


def test_crops_have_the_resolution_of_the_canvas_and_all_it_can_see(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    config.model.image_size = 64
    config.augment.update(flip=True, rotation=15.0, translation=0.05, color=0.0)
    config.augment.scale, config.augment.crop_margin = (0.7, 1.3), (1.5, 1.5)
    config.augment.crop_probability = 1.0
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (640, 480), (200, 200, 200)).save(buffer, "JPEG")
    identity = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
    pose, bbox = standing_pose(280, 150, 150), [280.0, 150, 80, 150]
    example = _record(buffer.getvalue(), (480, 640), pose, bbox, identity)
    framed = pipeline.read_example(example, tf.constant(1, tf.int64), _stream_options(config))
    view = framed["views"].numpy()
    assert framed["to_frame"][0, 0] >= 0.95 * 64 / (view[2] - view[0])
    canvas = _to_canvas(config)(_batch_of(framed, copies=16))
    # The window is in the middle of the image: wherever it turns, there is image.
    assert np.asarray(canvas.images).min() > 190


def test_crops_centre_a_person(prepared):
    """With `crop_probability` 1 the canvas is a window around the box of one person."""
    builder, config = prepared
    config = config.copy_and_resolve_references()
    config.augment.update(
        flip=False, rotation=0.0, translation=0.0, color=0.0, crop_probability=1.0
    )
    config.augment.scale, config.augment.crop_margin = (1.0, 1.0), (1.2, 1.2)
    features = builder.info.features
    to_canvas = jax.jit(_to_canvas(config))
    files = [str(path) for path in builder.info.splits["train"].filepaths]
    for record in tf.data.TFRecordDataset(files):
        example = features.deserialize_example(
            record, decoders={"image": tfds.decode.SkipDecoding()}
        )
        framed = pipeline.read_example(example, tf.constant(1, tf.int64), _stream_options(config))
        canvas = to_canvas(_batch_of(framed))
        boxes = np.asarray(augment.boxes(canvas))
        centers, sides = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:].max(axis=1)
        chosen = np.argmin(np.abs(centers - 32).max(axis=1))
        assert np.abs(centers[chosen] - 32).max() <= 1.5
        assert abs(sides[chosen] - 64 / 1.2) <= 2
        # The drawn people are bright, the background is dark.
        inside = draw_masks(canvas)[chosen] > 0.9
        bright = np.asarray(canvas.images[0]).max(-1) > 120
        assert np.mean(bright[inside]) > 0.9
