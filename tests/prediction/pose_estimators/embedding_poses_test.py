"""The pose heads of a network as a pose estimator, by themselves and within the predictor."""

import pickle

import jax
import numpy as np
import pytest
from conftest import random_weights, tiny_spec, tiny_weights

from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.models import Pose2Seg
from pose2seg_jax.people.parts import FLIPPED_PARTS
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import EmbeddingPoses, embedding_poses
from pose2seg_jax.weights import files as weights

_HEAD = {"name": "associative_embedding", "features": 0}
_EVERYBODY = {"part_score_threshold": 0.0, "person_score_threshold": 0.0}


@pytest.fixture(scope="module")
def made():
    return random_weights(tiny_spec(pose_head=_HEAD))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)


def test_poses_come_back_in_the_image_and_sorted(made, image):
    found = EmbeddingPoses(Network(made.spec), made.variables, **_EVERYBODY)(image)
    assert 0 < len(found.poses) <= 30
    assert np.all(np.diff(found.scores) <= 0)
    np.testing.assert_allclose(found.scores, found.part_scores.mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.poses[..., 2] > 0, found.part_scores >= 0)
    # The canvas is the image with black above and below: nothing is farther out than that.
    assert np.all((found.poses[..., 0] >= 0) & (found.poses[..., 0] <= 90))
    assert np.all((found.poses[..., 1] >= -15) & (found.poses[..., 1] <= 75))


def test_the_mirrored_image_has_the_mirrored_poses(made, image):
    """Looked at both ways, the image and its mirror image hold the same."""
    network = Network(made.spec, flip=True)
    canvas = network.letterbox_image(image)[None]
    maps = [
        embedding_poses.find_maps(network, made.variables, network.encode(made.variables, c))
        for c in (canvas, canvas[:, :, ::-1])
    ]
    swapped = np.asarray(FLIPPED_PARTS)
    np.testing.assert_allclose(maps[0][0], maps[1][0][:, ::-1][..., swapped], atol=1e-5)
    other = np.asarray(maps[1][1])[:, ::-1][:, :, swapped][..., ::-1]
    np.testing.assert_allclose(maps[0][1], other, atol=1e-4)


def test_the_predictor_finds_its_own_poses_and_encodes_once(made, image, monkeypatch):
    calls = []
    encode = Pose2Seg.encode

    def counted(self, *arguments, **options):
        calls.append(1)
        return encode(self, *arguments, **options)

    monkeypatch.setattr(Pose2Seg, "encode", counted)
    predictor = Pose2SegPredictor.from_weights(made)
    predictor.use_own_poses(**_EVERYBODY)
    result = predictor(image)
    assert len(calls) == 1  # traced once, and it ran once: nothing else encodes
    expected = EmbeddingPoses(Network(made.spec), made.variables, **_EVERYBODY)(image)
    np.testing.assert_allclose(result.poses, expected.poses, atol=1e-3)
    np.testing.assert_allclose(result.pose_scores, expected.scores, atol=1e-5)
    again = predictor(predictor.encode(image))
    np.testing.assert_allclose(again.poses, result.poses, atol=1e-4)
    unpickled = pickle.loads(pickle.dumps(predictor))(image)
    np.testing.assert_allclose(unpickled.poses, result.poses, atol=1e-3)


def test_pose_heads_do_not_run_for_given_poses(made, image, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("the pose heads ran")

    monkeypatch.setattr(Pose2Seg, "find_parts", fail)
    poses = np.zeros((1, 17, 3), np.float32)
    poses[0, :4] = [[20, 20, 2], [40, 20, 2], [20, 50, 2], [40, 50, 2]]
    assert len(Pose2SegPredictor.from_weights(made)(image, poses).rles) == 1


def test_thresholds_leave_out_parts_and_persons(made, image):
    network = Network(made.spec)
    everybody = EmbeddingPoses(network, made.variables, **_EVERYBODY)(image)
    limit = float(np.median(everybody.scores))
    some = EmbeddingPoses(
        network, made.variables, part_score_threshold=0.5, person_score_threshold=limit
    )(image)
    np.testing.assert_array_equal(some.poses[..., 2] > 0, some.part_scores >= 0.5)
    kept = (everybody.scores >= limit) & np.any(everybody.part_scores >= 0.5, axis=1)
    assert len(some.poses) == kept.sum()


def test_three_sizes_of_the_image_give_one_answer(made, image):
    found = EmbeddingPoses(Network(made.spec), made.variables, accurate=True, **_EVERYBODY)(image)
    assert len(found.poses)
    assert np.all(np.isfinite(found.poses))


def test_networks_without_the_part_that_is_asked_for_say_so(made, tmp_path):
    plain = tiny_weights()
    with pytest.raises(weights.WeightsError, match="has no pose heads"):
        EmbeddingPoses(Network(plain.spec), plain.variables)
    alone = random_weights(tiny_spec(pose_head=_HEAD, branch={"name": "off"}))
    with pytest.raises(weights.WeightsError, match="has no segmentation branch"):
        Pose2SegPredictor.from_weights(alone)
    weights.save(tmp_path / "poses.safetensors", alone)
    found = EmbeddingPoses.load(tmp_path / "poses.safetensors", **_EVERYBODY)(
        np.zeros((64, 64, 3), np.uint8)
    )
    assert found.poses.shape[1:] == (17, 3)
    assert jax.tree.structure(alone.variables["params"]).num_leaves > 0
