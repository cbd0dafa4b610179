"""The Python API: one image of any size, any number of poses."""

import functools
import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from predictor_fixtures import noise_image, standing_poses

from pose2seg_jax import Pose2SegPredictor, predict_masks
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import parts
from pose2seg_jax.prediction.inputs import InputError
from pose2seg_jax.prediction.network import Network, predict_rois
from pose2seg_jax.prediction.pose_estimators import MoveNetPoses
from pose2seg_jax.weights.files import WeightsError


def test_the_pure_function_maps_over_images_and_agrees(predictor):
    images = np.stack([noise_image(80, 110, seed) for seed in range(2)])
    poses = np.stack([standing_poses(3, 80, seed) for seed in range(2)])
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


def test_poses_outside_the_image_have_empty_masks(predictor):
    outside, across = standing_poses(2, 100)
    outside = outside + np.array([500, 0, 0])
    across = across - [across[:, 0].mean(), 0, 0]
    result = predictor(noise_image(100, 100), np.stack([outside, across, np.zeros((17, 3))]))
    assert result.scores[0] == 0
    assert not result.masks[0].any()
    assert not result.masks[2].any()
    # Parts that stick out count as missing, wherever they are.
    farther = np.where(across[:, :1] < 0, across - [300, 0, 0], across)
    assert predictor(noise_image(100, 100), farther[None]).rles[0] == result.rles[1]


def test_a_pose_estimator_is_asked_where_no_poses_are_given(weights, predictor):
    seen = []

    def estimate(image):
        seen.append(image.shape)
        return standing_poses(2, 40)

    asking = Pose2SegPredictor.from_weights(weights, pose_estimator=estimate)
    found = asking(noise_image(60, 50))
    np.testing.assert_array_equal(found.poses, standing_poses(2, 40))
    assert seen == [(60, 50, 3)]
    with pytest.raises(InputError, match="an encoded image has no pixels to find people in"):
        asking(asking.encode(noise_image(60, 50)))
    assert len(predictor(np.zeros((60, 50, 3), np.uint8))) == 0  # our own estimator finds nobody


def test_the_pose_network_runs_only_where_no_poses_are_given(weights, monkeypatch):
    made, seen = [], []

    def estimator(**options):
        made.append(options)
        return lambda image: seen.append(image) or (standing_poses(1, 40), np.full(1, 0.5))

    monkeypatch.setattr("pose2seg_jax.prediction.predictor.MoveNetPoses", estimator)
    predictor = Pose2SegPredictor.from_weights(weights, flip=True)
    encoded, encode = [], predictor._encode
    monkeypatch.setattr(predictor, "_encode", lambda *a: encoded.append(1) or encode(*a))
    predictor(noise_image(60, 50), standing_poses(2, 40))
    assert (made, seen) == ([], [])
    for _ in range(2):
        result = predictor(noise_image(60, 50))
        assert result.pose_scores.tolist() == [0.5]
    assert made == [{"flip": True, "device": None}]
    assert len(seen) == 2
    assert len(encoded) == 3  # the backbone runs once an image


def test_networks_that_align_by_box_are_refused(weights):
    spec = weights.spec.with_fields({"alignment.policy": "box"})
    with pytest.raises(WeightsError, match='with the alignment policy "box"'):
        Pose2SegPredictor.from_weights(weights._replace(spec=spec))


def test_the_pure_function_refuses_what_it_cannot_take(predictor):
    run = functools.partial(predict_masks, predictor.network, predictor.variables)
    image, poses, valid = noise_image(40, 40), standing_poses(2, 40), np.ones(2, bool)
    for other in (image.astype(np.float32), image.astype(np.int32), image[..., 0]):
        with pytest.raises(InputError, match="expected uint8"):
            run(other, poses, valid)
        with pytest.raises(InputError, match="expected uint8"):
            jax.jit(run)(other, poses, valid)
    scored = poses.copy()
    scored[1, :, 2] = 0.9
    with pytest.raises(InputError, match=r"poses\[1\]: the third value"):
        run(image, scored, valid)
    masks, rois = jax.jit(run)(image, scored, valid)  # no errors under jit: loud all the same
    assert np.isnan(np.asarray(rois.probabilities[1])).all()
    assert np.isnan(float(rois.scores[1]))
    assert np.isfinite(np.asarray(masks[0])).all()


def test_pose_scores_multiply_mask_scores(predictor):
    image, poses = noise_image(100, 100), standing_poses(2)
    plain = predictor(image, poses)
    scored = predictor(image, poses, np.array([0.25, 1.0]))
    np.testing.assert_allclose(scored.scores, plain.scores * [0.25, 1])
    entry = scored.to_coco(1)[0]
    assert entry["score"] == pytest.approx(entry["mask_score"] * 0.25)
    assert entry["pose_score"] == 0.25
    for other in (np.ones(3), np.array([1, np.nan]), np.array([1, -1])):
        with pytest.raises(InputError, match="pose_scores"):
            predictor(image, poses, other)


_STRICT = """
import functools, numpy as np, jax
from pose2seg_jax import Pose2SegPredictor, predict_masks
from conftest import standing_pose, tiny_spec, tiny_weights
from pose2seg_jax.alignment.pose_noise import perturb_poses
from pose2seg_jax.models.variables import variable_shapes
from pose2seg_jax.prediction.network import Network
resnet = {"backbone": {"name": "resnet50_fpn", "features": 8}, "branch": {
    "name": "paper", "features": 4, "units": 1, "head_features": 4, "stem_features": 8, "stem_kernel": 3}}
indices = {"sampling": "pixel_indices", "alignment.policy": "cvpr2019"}
lite = {"backbone": {"name": "efficientnet_lite0_fpn", "features": 8}, "backbone_image_size": 32}
image = np.full((60, 80, 3), 90, np.uint8)
poses = np.stack([standing_pose(5, 5, 50)])
for fields in ({}, lite, resnet | indices):
    spec = tiny_spec(**fields)
    run = functools.partial(predict_masks, Network(spec, flip=True))
    masks, _ = jax.eval_shape(run, variable_shapes(spec), image, poses, np.ones(1, bool))
    assert masks.shape == (1, 60, 80)
predictor = Pose2SegPredictor.from_weights(tiny_weights(), flip=True)
poses = np.repeat(poses, 6, axis=0)  # two groups
with jax.transfer_guard("disallow"):
    assert predictor(image, poses).masks.shape == (6, 60, 80)
    assert len(predictor(image)) == 0  # MoveNet finds nobody
heads = tiny_weights(pose_head={"name": "associative_embedding", "features": 4})
predictor = Pose2SegPredictor.from_weights(heads, flip=True)
for accurate in (False, True):
    predictor.use_own_poses(accurate=accurate, part_score_threshold=0.0, person_score_threshold=0.0)
    with jax.transfer_guard("disallow"):
        assert predictor(image).poses.shape[1:] == (17, 3)
keys = jax.random.split(jax.random.key(0), 1)
assert perturb_poses(keys, poses[:1], np.ones(1), 1.0).shape == (1, 17, 3)
"""


def test_it_runs_where_the_users_program_is_strict():
    strict = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    strict |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment = os.environ | strict | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", _STRICT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_dtype_is_refused(weights):
    with pytest.raises(UserError, match=r"dtype is 'flaot32'; it must be one of float32, bfloat16"):
        Pose2SegPredictor.from_weights(weights, dtype="flaot32")


def test_geometry_needs_no_flax_and_the_predictor_no_tensorflow():
    script = (
        "import sys; sys.modules['tensorflow'] = None; import pose2seg_jax;"
        "assert 'flax' not in sys.modules; pose2seg_jax.Pose2SegPredictor; assert 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_with_flips_a_mirrored_image_has_the_mirrored_masks(predictor):
    """Boxes place mirrored ROIs exactly, which templates do not."""
    spec = predictor.network.spec.with_fields({"alignment.policy": "box"})
    side, roi = spec.image_size, spec.roi_size
    network = Network(spec, flip=True)
    image = noise_image(side, side, 0)[None]
    poses = standing_poses(3, side, 0).astype(np.float32)
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


@pytest.mark.usefixtures("quick_compile")
def test_a_predictor_survives_pickling(weights):
    predictor = Pose2SegPredictor.from_weights(weights, pose_estimator=_estimate)
    again = pickle.loads(pickle.dumps(predictor))
    image, poses = noise_image(60, 90, 0), standing_poses(2, 60, 0)
    assert again(image, poses).rles == predictor(image, poses).rles
    assert len(again(image)) == 1


def _estimate(image):
    return standing_poses(1, 60, 0)


def test_exclusive_masks_share_no_pixel(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    image, poses = noise_image(60, 90, 0), standing_poses(5, 60, 0)
    masks = predictor(image, poses).masks
    assert masks.sum(0).max() == 1
    alone = Pose2SegPredictor.from_weights(weights, exclusive=False)(image, poses).masks
    assert alone.sum(0).max() > 1
    np.testing.assert_array_equal(alone.any(0), masks.any(0))
    # A person who is there twice takes nothing from herself.
    twice = predictor(image, np.concatenate([poses, poses[:1]])).masks
    np.testing.assert_array_equal(twice, masks[[0, 1, 2, 3, 4, 0]])


def test_a_forked_process_is_told_what_to_do(weights, monkeypatch):
    predictor = Pose2SegPredictor.from_weights(weights)
    monkeypatch.setattr("os.getpid", lambda: -1)  # as after a fork; a real one warns, and may hang
    with pytest.raises(InputError, match=r"forked .*get_context\('spawn'\)"):
        predictor(noise_image(60, 90, 0), standing_poses(1, 60, 0))
    with pytest.raises(InputError, match="forked"):
        predictor(noise_image(60, 90, 0))
    for make in (functools.partial(Pose2SegPredictor.from_weights, weights), MoveNetPoses):
        with pytest.raises(InputError, match="forked"):
            make()
