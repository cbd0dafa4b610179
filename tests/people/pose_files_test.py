"""Pose files of every kind end up as the same poses; others are named."""

import json

import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.people import coco
from pose2seg_jax.people.parts import PART_NAMES
from pose2seg_jax.people.pose_files import read_poses

# The order of OpenPose's BODY_25, from its documentation.
_BODY_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
    "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe",
    "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_COCO_18 = (*_BODY_25[:8], *_BODY_25[9:19])


def _openpose(poses, names):
    people = []
    for pose in poses:
        by_name = dict(zip(PART_NAMES, pose, strict=True))
        parts = [by_name.get(name, np.asarray([5.0, 5.0, 2.0])) for name in names]
        people.append(
            {
                "pose_keypoints_2d": [
                    v for x, y, s in parts for v in map(float, (x - 0.5, y - 0.5, s * 0.45))
                ]
            }
        )
    return {"version": 1.3, "people": people}


@pytest.fixture
def poses():
    return np.stack([standing_pose(10, 20, 100), standing_pose(60.5, 30, 80)])


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photo.jpg"
    path.touch()
    return path


@pytest.mark.parametrize("names", [_BODY_25, _COCO_18])
def test_openpose(poses, image, tmp_path, names):
    content = _openpose(poses, names)
    content["people"][1]["pose_keypoints_2d"][2] = 0.1  # a nose below the threshold
    path = tmp_path / "photo_keypoints.json"
    path.write_text(json.dumps(content))
    for source in (path, tmp_path):  # the file, or the directory that OpenPose wrote
        found = read_poses(source, [image], 0.3)[image].poses
        np.testing.assert_allclose(found[0], poses[0], atol=1e-4)
        np.testing.assert_allclose(found[1, 1:], poses[1, 1:], atol=1e-4)
        assert not found[1, 0].any()


def test_arrays(poses, image, tmp_path):
    np.save(tmp_path / "any.npy", poses)
    np.testing.assert_array_equal(
        read_poses(tmp_path / "any.npy", [image], 0.3)[image].poses, poses
    )
    scored = poses.copy()
    scored[..., 2] = np.linspace(0.1, 0.9, 17)
    np.savez(tmp_path / "many.npz", photo=scored, other=poses)
    found = read_poses(tmp_path / "many.npz", [image], 0.5)[image].poses
    np.testing.assert_array_equal(found[..., 2], np.where(scored[..., 2] >= 0.5, 2, 0))
    assert not found[found[..., 2] == 0].any()


def test_alphapose_names_images_by_file(poses, image, tmp_path):
    entries = [
        {
            "image_id": "photo.jpg",
            "category_id": 1,
            "keypoints": (pose * [1, 1, 0.4]).ravel().tolist(),
        }
        for pose in poses
    ]
    path = tmp_path / "alphapose-results.json"
    path.write_text(json.dumps(entries))
    found = read_poses(path, [image], 0.3)[image]
    assert found.image_id == "photo.jpg"
    np.testing.assert_allclose(found.poses[..., :2], poses[..., :2] + 0.5, atol=1e-4)


def test_nobody_is_a_defined_answer(image, tmp_path):
    path = tmp_path / "photo_keypoints.json"
    path.write_text(json.dumps({"people": []}))
    assert read_poses(path, [image], 0.3)[image].poses.shape == (0, 17, 3)
    np.save(tmp_path / "none.npy", np.zeros((0, 17, 3)))
    assert read_poses(tmp_path / "none.npy", [image], 0.3)[image].poses.shape == (0, 17, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"shapes": []}, r"is no pose file.*found 'shapes'"),
        ("a.json", 5, "is no pose file.*no keys"),
        ("a.json", "{", "is no JSON file"),
        ("a.json", {"people": 5}, "no list 'people'"),
        ("a.json", {"people": [{"pose_keypoints_2d": [1, 2]}]}, r"people\[0\].*must be a list"),
        ("a.json", {"people": [5]}, r"people\[0\].*must be a list"),
        ("a.json", {"people": [{"pose_keypoints_2d": [9, 9, 1] * 15}]}, "holds 15 parts"),
        ("a.json", {"people": [{"pose_keypoints_2d": [0.5, 0.5, 1] * 25}]}, "--keypoint_scale 0"),
        ("other_keypoints.json", {"people": []}, "holds no pose of .*photo.jpg; it knows other"),
        ("a.npy", np.zeros((2, 18, 3)), r"shape \(P, 17, 3\).*\(2, 18, 3\)"),
        ("a.npy", np.full((1, 17, 3), np.nan), "no coordinates"),
        ("a.npy", "no array", "cannot be read as arrays"),
        ("a.npz", "no archive", "cannot be read as arrays"),
        ("a.npy", np.asarray([{}], object), "cannot be read as arrays"),
    ],
)
def test_other_files_are_named_with_what_gave_them_away(image, tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(coco.CocoError, match=message) as error:
        read_poses(path, [image], 0.3)
    assert name in str(error.value)


def test_a_directory_without_openpose_files_is_named(image, tmp_path):
    with pytest.raises(coco.CocoError, match=r"holds no \*_keypoints\.json, as OpenPose"):
        read_poses(tmp_path, [image], 0.3)


def test_pose_files_are_matched_with_images(coco_dir, tmp_path):
    images = sorted((coco_dir / "val2017").iterdir())
    annotations = coco_dir / "annotations/person_keypoints_val2017.json"
    matched = read_poses(annotations, images, 0.3)
    assert [len(matched[image].poses) for image in images] == [1, 7, 2, 1, 1]
    entries = [
        {"image_id": int(images[1].stem), "category_id": 1, "keypoints": [3.0, 4.0, 0.9] * 17},
        {"image_id": images[2].name, "category_id": 1, "keypoints": [3.0, 4.0, 0.9] * 17},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    assert set(read_poses(path, images, 0.3)) == set(images[1:3])
    with pytest.raises(coco.CocoError, match=r"holds no pose of .* it knows"):
        read_poses(path, images[:1], 0.3)
