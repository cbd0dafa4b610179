"""The Python API: one image of any size, any number of poses."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, count_compilations, standing_pose, tiny_config

from pose2seg_jax import Pose2SegPredictor, predict_masks
from pose2seg_jax.alignment import affine_align, templates
from pose2seg_jax.people import parts
from pose2seg_jax.prediction.predictor import (
    InputError,
    _checked_poses,
    letterbox_image,
    predict_rois,
)
from pose2seg_jax.training import train_state
from pose2seg_jax.weights.files import Weights, WeightsError


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Weights:
    config = tiny_config(tmp_path_factory.mktemp("coco"), tmp_path_factory.mktemp("tfds"))
    model = train_state.create_model(config)
    variables = train_state.init_variables(config, model, jax.random.key(0))
    return Weights(config, jax.device_get(variables), templates.load(), {})


@pytest.fixture(scope="module")
def predictor(weights) -> Pose2SegPredictor:
    return Pose2SegPredictor.from_weights(weights)


def _image(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 255, (height, width, 3)).astype(np.uint8)


def _poses(count, height=100, seed=0):
    rng = np.random.RandomState(seed)
    return np.stack(
        [standing_pose(*rng.uniform(0, height / 4, 2), height * 0.7) for _ in range(count)]
    )


def test_persons_come_in_the_order_of_their_poses_whatever_their_number(predictor):
    image, poses = _image(120, 90), _poses(35)
    result = predictor(image, poses)
    assert result.masks.shape == (35, 120, 90)
    assert result.masks.dtype == bool
    assert np.all((result.scores >= 0) & (result.scores <= 1))
    assert json.loads(json.dumps(result.to_coco(7)))[34]["image_id"] == 7
    # Chunks are 32 and 4; alone, and asked of the encoded image, a person is the same.
    encoded = predictor.encode(image)
    for index in (0, 31, 32, 34):
        alone = predictor(encoded, poses[index : index + 1])
        assert alone.rles[0] == result.rles[index]
        assert alone.scores[0] == pytest.approx(result.scores[index], abs=1e-5)
        assert alone.template[0] == result.template[index]


def test_the_pure_function_maps_over_images_and_agrees(predictor):
    images = np.stack([_image(80, 110, seed) for seed in range(2)])
    poses = np.stack([_poses(3, 80, seed) for seed in range(2)])
    valid = np.array([[True, True, True], [True, False, True]])
    run = jax.jit(
        jax.vmap(functools.partial(predict_masks, predictor.network), in_axes=(None, 0, 0, 0))
    )
    masks, rois = run(predictor.variables, images, poses, valid)
    assert masks.shape == (2, 3, 80, 110)
    assert not np.any(masks[1, 1])
    for index, image in enumerate(images):
        result = predictor(image, poses[index])
        for slot in np.flatnonzero(valid[index]):
            # Host and device round the letterboxed pixels and the ROI's positions on their own.
            assert np.mean((masks[index, slot] > 0.5) != result.masks[slot]) < 0.01
            assert rois.scores[index, slot] == pytest.approx(result.scores[slot], abs=2e-3)


@pytest.mark.usefixtures("quick_compile")
def test_a_folder_of_photos_compiles_a_handful_of_times(weights):
    """200 images of random sizes with 0 to 60 persons; every compilation counts, however small."""
    predictor = Pose2SegPredictor.from_weights(weights)
    rng = np.random.RandomState(0)
    with count_compilations() as compiled:
        for seed in range(200):
            persons = int(min(rng.geometric(0.15) - 1, 60))
            image = _image(*rng.randint(40, 300, 2), seed)
            assert len(predictor(image, _poses(max(persons, 1), 100, seed)[:persons])) == persons
    assert 1 < len(compiled) <= 12


def test_nobody_is_an_empty_result_and_runs_nothing(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    result = predictor(_image(30, 50), np.zeros((0, 17, 3)))
    assert result.masks.shape == (0, 30, 50)
    assert result.to_coco(1) == []
    assert predictor._encode._cache_size() == 0


def test_poses_outside_the_image_have_empty_masks(predictor):
    outside, across = _poses(2, 100)
    outside = outside + np.array([500, 0, 0])
    across = across - [across[:, 0].mean(), 0, 0]
    result = predictor(_image(100, 100), np.stack([outside, across, np.zeros((17, 3))]))
    assert result.scores[0] == 0
    assert not result.masks[0].any()
    assert not result.masks[2].any()
    # Parts that stick out count as missing, wherever they are.
    farther = np.where(across[:, :1] < 0, across - [300, 0, 0], across)
    assert predictor(_image(100, 100), farther[None]).rles[0] == result.rles[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_images_have_a_result(predictor, size):
    pose = np.zeros((1, 17, 3))
    pose[0, :3] = [[0.2, 0.2, 2], [0.8, 0.2, 2], [0.5, 0.8, 2]]
    result = predictor(_image(*size), pose)
    assert result.masks.shape == (1, *size)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((9, 9), np.uint8),
            r"uint8 of shape \(9, 9\); expected uint8 of shape \(H, W, 3\), RGB",
        ),
        (np.zeros((9, 9, 4), np.uint8), r"shape \(9, 9, 4\)"),
        (np.zeros((9, 9, 3), np.uint16), "image is uint16"),
        (np.zeros((9, 9, 3), np.float32), "image is float32"),
        (np.zeros((0, 9, 3), np.uint8), r"shape \(0, 9, 3\)"),
    ],
)
def test_other_images_are_refused(predictor, image, message):
    with pytest.raises(InputError, match=message):
        predictor(image, _poses(1))
    with pytest.raises(InputError, match=message):
        predictor.encode(image)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (np.zeros((17, 3)), r"shape \(17, 3\); expected numbers of shape \(P, 17, 3\)"),
        (np.zeros((1, 18, 3)), r"shape \(1, 18, 3\)"),
        (np.full((1, 17, 3), np.nan), r"poses\[0\] holds values that are no coordinates"),
        (np.full((2, 17, 3), 0.5), "is its visibility, 0 .* but there is 0.5. For scores"),
        (np.full((1, 17, 3), "a"), "poses are <U1"),
    ],
)
def test_other_poses_are_refused(predictor, poses, message):
    with pytest.raises(InputError, match=message):
        predictor(_image(40, 40), poses)


def test_a_list_of_unequal_poses_is_refused():
    # Not through __call__, whose argument types the tests check.
    with pytest.raises(InputError, match="poses are no array"):
        _checked_poses([np.zeros((17, 3)), np.zeros((16, 3))])


def test_a_pose_estimator_is_asked_where_no_poses_are_given(weights, predictor):
    seen = []

    def estimate(image):
        seen.append(image.shape)
        return _poses(2, 40)

    asking = Pose2SegPredictor.from_weights(weights, pose_estimator=estimate)
    assert len(asking(_image(60, 50))) == 2
    assert seen == [(60, 50, 3)]
    with pytest.raises(InputError, match="no poses: give"):
        predictor(_image(60, 50))


def test_a_photo_of_100_megapixels(predictor):
    image = np.zeros((10_000, 10_000, 3), np.uint8)
    result = predictor(image, _poses(1, 8_000))
    assert result.rles[0]["size"] == [10_000, 10_000]
    assert letterbox_image(image + np.uint8(7), 64).tolist() == np.full((64, 64, 3), 7).tolist()


def test_networks_that_align_by_box_are_refused(weights):
    config = weights.config.copy_and_resolve_references()
    config.align.method = "box"
    with pytest.raises(WeightsError, match=r"align\.method=box"):
        Pose2SegPredictor.from_weights(weights._replace(config=config))


def test_boxes_are_stretched_over_the_roi():
    boxes = np.array([[10.0, 20, 30, 5], [1, 2, 0, 0]], np.float32)
    matrix = np.asarray(affine_align.align_boxes(boxes, 16).matrix)
    corners = np.array([[10, 20], [40, 25]])
    np.testing.assert_allclose(corners @ matrix[0, :, :2].T + matrix[0, :, 2], [[0, 0], [16, 16]], atol=1e-4)  # fmt: skip
    assert np.all(np.isfinite(matrix))


def test_geometry_needs_no_flax_and_the_predictor_no_tensorflow():
    script = (
        "import sys; sys.modules['tensorflow'] = None; import pose2seg_jax;"
        "assert 'flax' not in sys.modules; pose2seg_jax.Pose2SegPredictor; assert 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_with_flips_a_mirrored_image_has_the_mirrored_masks(predictor):
    """Boxes place mirrored ROIs exactly, which templates do not."""
    side = predictor.network.image_size
    roi = predictor.network.model.roi_size
    network = dataclasses.replace(predictor.network, method="box", flip=True)
    image = _image(side, side, 0)[None]
    poses = _poses(3, side, 0).astype(np.float32)
    boxes = np.asarray([[3, 5, 30, 40], [10, 2, 25, 50], [0, 0, side, side]], np.float32)
    mirrored = (poses * [-1, 1, 1] + [side, 0, 0])[:, parts.FLIPPED_PARTS].astype(np.float32)
    turned = boxes * [-1, 1, 1, 1] + [side, 0, 0, 0] - boxes[:, 2:3] * [1, 0, 0, 0]

    @jax.jit
    def run(image, poses, boxes):
        features = network.encode(predictor.variables, image)
        sizes, index = np.full((3, 2), side, np.float32), np.zeros(3, np.int32)
        return predict_rois(
            network, predictor.variables, features, poses, sizes, index, np.ones(3, bool), boxes
        ).probabilities

    plain = run(image, poses, boxes)
    assert plain.shape == (3, roi, roi)
    other = run(image[:, :, ::-1], mirrored, turned.astype(np.float32))
    np.testing.assert_allclose(other[:, :, ::-1], plain, atol=1e-4)
    assert np.abs(plain - plain[:, :, ::-1]).max() > 0.01
