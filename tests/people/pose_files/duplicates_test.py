"""The same person twice is found; two people who overlap survive."""

import contextlib
import io

import numpy as np
import pytest
from conftest import standing_pose
from pose_file_fixtures import results
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose2seg_jax.people.pose_files.duplicates import duplicates, similarity


def test_similarity_is_that_of_pycocotools(real_dataset):
    image = max(real_dataset.images, key=lambda image: len(image.posed))
    full = [p for p in image.posed if (p.pose[:, 2] > 0).all()][:4]
    poses = np.stack([person.pose for person in (full or image.posed[:4])]).astype(np.float64)
    poses = np.concatenate([poses, poses + np.asarray([3.0, -2.0, 0])])
    poses[..., 2] = 2
    keypoints = [pose.ravel().tolist() for pose in poses]
    # COCO takes the area of one annotation, we the larger box of both.
    areas = np.prod(np.ptp(poses[..., :2], axis=1), axis=1)
    truth, found = COCO(), COCO()
    entries = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "keypoints": k, "area": a, "iscrowd": 0, "ignore": 0,
         "num_keypoints": 17, "bbox": [0, 0, 1, 1], "score": 1.0}
        for i, (k, a) in enumerate(zip(keypoints, areas, strict=True))
    ]  # fmt: skip
    for coco in (truth, found):
        coco.dataset = {"images": [{"id": 1}], "annotations": entries, "categories": [{"id": 1}]}
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
    evaluation = COCOeval(truth, found, "keypoints")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation._prepare()
    oks = evaluation.computeOks(1, 1)  # found x truth: the area is the column's
    larger = areas[None, :] >= areas[:, None]
    np.testing.assert_allclose(similarity(poses)[larger], oks[larger], atol=1e-6)


@pytest.mark.parametrize("height", [20, 100, 250])
def test_the_pose_with_the_higher_score_stays(height):
    pose = standing_pose(30, 20, height)
    moved = pose + np.asarray([0.01 * height, 0, 0], np.float32)
    poses = np.stack([pose, moved, pose + np.asarray([height, 0, 0], np.float32)])
    assert duplicates(poses, np.asarray([0.5, 0.9, 0.1])).tolist() == [True, False, False]
    assert duplicates(poses, np.asarray([0.9, 0.9, 0.1])).tolist() == [False, True, False]


def test_overlapping_people_survive(data_dir):
    """All of OCHuman's persons, whose boxes overlap most."""
    import json

    from pose2seg_jax.people.skeletons import SKELETONS, columns_by_names

    content = json.loads((data_dir / "ochuman/native/ochuman.json").read_text())
    columns = list(columns_by_names(SKELETONS["ochuman"]))
    pairs = 0
    for image in content["images"]:
        some = [a["keypoints"] for a in image["annotations"] if a["keypoints"]]
        poses = np.asarray(some, np.float64).reshape(len(some), -1, 3)[:, columns]
        assert not duplicates(poses, np.ones(len(poses))).any(), image["file_name"]
        pairs += len(some) > 1
    assert pairs >= 8


@pytest.mark.parametrize("shift", [0.35, 0.5])
def test_two_people_of_one_height_side_by_side_survive(shift):
    pose = standing_pose(30, 20, 100)
    beside = pose + np.asarray([100 * shift * 0.3, 0, 0], np.float32)
    assert not duplicates(np.stack([pose, beside]), np.ones(2)).any()


def test_few_parts_say_nothing():
    pose = standing_pose(30, 20, 100)
    one, other = pose.copy(), pose.copy()
    one[2:, :] = other[2:, :] = 0
    assert not duplicates(np.stack([one, other]), np.ones(2)).any()
    other = pose.copy()
    other[5:] = 0  # a head on a whole person: a child on an arm
    assert not duplicates(np.stack([pose, other]), np.ones(2)).any()
    assert duplicates(np.zeros((0, 17, 3)), np.zeros(0)).shape == (0,)


def test_files_of_two_estimators(read, poses, caplog):
    content = results(poses, score=0.6) + results(poses + np.asarray([1, 0, 0]), score=0.8)
    assert read(content).scores.tolist() == [0.8, 0.8]
    found = read(content)
    assert found.left_out["persons who are there twice (config.prediction.drop_duplicates)"] == 2
    assert len(read(content, drop_duplicates=False).poses) == 4
