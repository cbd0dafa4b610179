"""The adapter to rtmlib, against that package's documented output; nothing is fetched."""

import sys
import types

import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.errors import UserError
from pose2seg_jax.prediction import pose_estimators


@pytest.fixture
def rtmlib(monkeypatch):
    """rtmlib.Body: BGR image -> keypoints (N, 17, 2) in pixel indices, scores (N, 17)."""
    module = types.ModuleType("rtmlib")
    module.made, module.answer = [], None

    class Body:
        def __init__(
            self,
            det=None,
            pose=None,
            mode="balanced",
            to_openpose=False,
            backend="onnxruntime",
            device="cpu",
        ):
            assert not to_openpose
            self.pose_model = types.SimpleNamespace(nms_thr=0.45)
            module.made.append((self, pose, mode, backend, device))

        def __call__(self, image):
            module.seen = image
            return module.answer

    module.Body = Body
    monkeypatch.setitem(sys.modules, "rtmlib", module)
    return module


def test_poses_are_ours_in_coordinates_and_visibility(rtmlib):
    poses = np.stack([standing_pose(3, 4, 50), standing_pose(20, 9, 40)])
    scores = np.full((2, 17), 0.9)
    scores[1, 3:5] = 0.2
    rtmlib.answer = (poses[..., :2] - 0.5, scores)
    estimate = pose_estimators.rtmo("lightweight", device="cuda")
    image = np.random.RandomState(0).randint(0, 255, (60, 70, 3)).astype(np.uint8)
    found, known, part_scores = estimate(image)
    np.testing.assert_allclose(known, [0.9, 0.9])
    np.testing.assert_allclose(part_scores, scores)
    np.testing.assert_array_equal(rtmlib.seen, image[..., ::-1])
    np.testing.assert_allclose(found[0], poses[0], atol=1e-5)
    assert found[1, :, 2].tolist() == [2, 2, 2, 0, 0] + [2] * 12
    assert found.dtype == np.float32
    ((body, *arguments),) = rtmlib.made
    assert arguments == ["rtmo", "lightweight", "onnxruntime", "cuda"]
    assert body.pose_model.nms_thr == 0.8


def test_nobody_is_no_pose(rtmlib):
    rtmlib.answer = (np.zeros((1, 17, 2)), np.zeros((1, 17)))  # as rtmlib says it
    assert pose_estimators.rtmo()(np.zeros((9, 9, 3), np.uint8)).poses.shape == (0, 17, 3)


def test_weights_that_cannot_be_fetched_are_one_clear_error(rtmlib, monkeypatch):
    def fail(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(rtmlib, "Body", fail)
    with pytest.raises(UserError, match=r"could not be fetched or started.*no route to host"):
        pose_estimators.rtmo()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    with pytest.raises(UserError, match="pip install 'rtmlib"):
        pose_estimators.rtmo()
