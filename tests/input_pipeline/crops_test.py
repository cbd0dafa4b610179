"""Crops around people."""

import io

import jax
import numpy as np
import PIL.Image
import stream_fixtures
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import draw_masks, standing_pose, tiny_config

from input_pipeline import pipeline
from pose2seg_jax.training import augment


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
    example = stream_fixtures.record(buffer.getvalue(), (480, 640), pose, bbox, identity)
    framed = pipeline.read_example(
        example, tf.constant(1, tf.int64), stream_fixtures.stream_options(config)
    )
    view = framed["views"].numpy()
    assert framed["to_frame"][0, 0] >= 0.95 * 64 / (view[2] - view[0])
    canvas = stream_fixtures.to_canvas(config)(stream_fixtures.batch_of(framed, copies=16))
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
    to_canvas = jax.jit(stream_fixtures.to_canvas(config))
    for record in pipeline.open_records(builder):
        example = features.deserialize_example(
            record, decoders={"image": tfds.decode.SkipDecoding()}
        )
        framed = pipeline.read_example(
            example, tf.constant(1, tf.int64), stream_fixtures.stream_options(config)
        )
        canvas = to_canvas(stream_fixtures.batch_of(framed))
        boxes = np.asarray(augment.boxes(canvas))
        centers, sides = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:].max(axis=1)
        chosen = np.argmin(np.abs(centers - 32).max(axis=1))
        assert np.abs(centers[chosen] - 32).max() <= 1.5
        assert abs(sides[chosen] - 64 / 1.2) <= 2
        # The drawn people are bright, the background is dark.
        inside = draw_masks(canvas)[chosen] > 0.9
        bright = np.asarray(canvas.images[0]).max(-1) > 120
        assert np.mean(bright[inside]) > 0.9
