"""Persons need keypoints only; crowds and other categories are left out and counted."""

import numpy as np
import pytest
from pose_file_fixtures import annotations, results

from pose2seg_jax.people import pose_files
from pose2seg_jax.people.pose_files import PoseFileError


@pytest.mark.parametrize(
    "fields",
    [
        {"segmentation": None}, {"segmentation": []}, {"segmentation": [[]]}, {"segmentation": {"counts": 5}},
        {"bbox": [0, 0, 0, 0]}, {"bbox": None}, {"bbox": "none"}, {"area": -1}, {"area": "large"},
        {"num_keypoints": 3}, {"num_keypoints": "17"}, {"id": None}, {"id": 5}, {"id": "uuid"},
        {"iscrowd": 0}, {"iscrowd": "0"}, {"iscrowd": False}, {"iscrowd": None}, {"category_id": "1"}, {"category_id": 0},
    ],
)  # fmt: skip
def test_persons_need_keypoints_only(read, poses, fields):
    content = annotations(poses, **fields)
    np.testing.assert_array_equal(read(content).poses[..., :2], poses[..., :2] + 0.5)


@pytest.mark.parametrize("name", ["Person", " person ", "HUMAN", "people", "pedestrian"])
def test_a_category_may_be_spelled_otherwise(read, poses, name):
    content = annotations(poses)
    content["categories"][0]["name"] = name
    assert len(read(content).poses) == 2


@pytest.mark.parametrize("key", ["width", "height", "both"])
@pytest.mark.parametrize("value", [None, 0, "wide", [300]])
def test_sizes_may_be_absent_or_floats(read, poses, key, value):
    content = annotations(poses)
    for field in ("width", "height"):
        if key in (field, "both"):
            content["images"][0][field] = value
    assert len(read(content).poses) == 2
    content["images"][0] |= {"width": 200.0, "height": "300.0"}
    assert read(content).size == (300, 200)


@pytest.mark.parametrize("image_id", ["a3f1", "7", 7.0, -1])
def test_images_may_have_any_ids(read, poses, image_id):
    content = annotations(poses, image_id=image_id)
    content["images"][0]["id"] = 7 if image_id in ("7", 7.0) else image_id
    found = read(content)
    assert len(found.poses) == 2
    assert found.image_id == (7 if image_id in ("7", 7.0) else image_id)


@pytest.mark.parametrize("crowd", [1, True, "1"])
def test_crowds_are_left_out_and_counted(read, poses, crowd, caplog):
    content = annotations(poses)
    content["annotations"][0]["iscrowd"] = crowd
    assert len(read(content).poses) == 1
    assert "left out: crowds (iscrowd): 1" in caplog.text
    with pytest.raises(PoseFileError, match=r"no pose that can be used; left out: crowds \(iscrowd\): 2"):  # fmt: skip
        read(annotations(poses, iscrowd=crowd))


def test_other_categories_are_left_out_and_counted(read, poses, caplog):
    content = annotations(poses)
    content["categories"].append({"id": 18, "name": "dog"})
    content["annotations"][0]["category_id"] = 18
    assert len(read(content).poses) == 1
    assert "left out: annotations of other categories: 1" in caplog.text
    for annotation in content["annotations"]:
        annotation["category_id"] = 99
    with pytest.raises(
        PoseFileError, match=r"category_id of a person \(1\); those that are there: 99"
    ):
        read(content)
    mixed = results(poses) + results(poses[:1])
    mixed[0]["category_id"] = 18
    caplog.clear()
    assert len(read(mixed, drop_duplicates=False).poses) == 2
    assert "left out: results of other categories (category_id): 1" in caplog.text
    mixed = [entry | {"category_id": 17 + i} for i, entry in enumerate(results(poses))]
    with pytest.raises(PoseFileError, match="those that are there: 17, 18"):
        read(mixed)
    same = results(poses, category_id=0)  # counted from 0: all are of one kind
    assert len(read(same).poses) == 2


def test_a_person_of_zeros_is_left_out(read, poses, caplog):
    content = results(np.concatenate([poses, np.zeros((1, 17, 3))]))
    assert len(read(content).poses) == 2
    assert "left out: persons without a part: 1" in caplog.text
    with pytest.raises(PoseFileError, match=r"no pose that can be used; left out: persons without a part \(keypoints\): 2"):  # fmt: skip
        read(results(np.zeros((2, 17, 3))))


@pytest.mark.parametrize("score", ["high", -0.1, float("nan"), 10**400, [0.9, 0.8], {}, True])
def test_odd_scores_of_persons_are_named(read, poses, score):
    with pytest.raises(PoseFileError, match="result 0: 'score' must be a number, 0 or more"):
        read(results(poses, score=score))


def test_ids_of_persons_are_kept(read, poses):
    content = annotations(poses)
    content["annotations"][1]["id"] = "second"
    assert read(content).ids == (0, "second")


def test_images_without_persons_are_known(save, poses):
    content = annotations(poses)
    content["images"].append({"id": 8, "file_name": "empty.jpg"})
    file = pose_files.read(save(content), 0.3)
    assert file.poses[8].poses.shape == (0, 17, 3)
    assert file.match([pose_files.Photo("/a/empty.jpg")])[0].image_id == 8


def test_a_size_as_stored_or_as_shown(read, poses):
    found = read(annotations(poses))
    assert found.fits(300, 200)
    assert not found.fits(60, 40)


def test_categories_without_names(read, poses, caplog):
    content = annotations(poses)
    del content["categories"]
    content["annotations"][0]["category_id"] = 18
    assert len(read(content).poses) == 1
    assert "left out: annotations of other categories: 1" in caplog.text
    content = annotations(poses, category_id=0)
    del content["categories"]
    assert len(read(content).poses) == 2
    for wrong in (18, "cat"):
        with pytest.raises(PoseFileError, match=rf"category_id of a person \(1\); .*{wrong}"):
            read(results(poses, category_id=wrong))
    mixed = results(poses)
    mixed[0]["category_id"] = "1"
    mixed[1]["category_id"] = 1.0
    assert len(read(mixed).poses) == 2


def test_persons_without_a_score_beside_others_are_counted(read, poses, caplog):
    content = results(poses, score=0.4)
    del content[1]["score"]
    assert read(content).scores.tolist() == [0.4, 1.0]
    assert "persons without a score, read as 1: 1" in caplog.text


def test_the_size_of_a_photo_must_be_that_of_the_file(read, poses):
    content = annotations(poses / 2)
    content["images"][0] |= {"width": 100, "height": 150}
    with pytest.raises(PoseFileError, match=r"photo\.jpg: is 200x300, but the file of its poses says 100x150"):  # fmt: skip
        read(content)
    values = [{"pose_keypoints_2d": (np.r_[poses[0], poses[0, :1]] / [200, 300, 1]).ravel().tolist()}]  # fmt: skip
    frame = {"people": values, "canvas_width": 512, "canvas_height": 768}
    assert len(read([frame], "photo.json").poses) == 1  # fractions belong to any size


@pytest.mark.parametrize("counts", [(16, 17), (17, 16)])
def test_of_two_numbers_of_parts_the_larger_counts(read, poses, counts):
    content = results(poses)
    for entry, count in zip(content, counts, strict=True):
        entry["keypoints"] = entry["keypoints"][: 3 * count]
    assert len(read(content).poses) == 2


def test_a_skeleton_that_the_parts_do_not_have_is_refused(read, poses):
    for values, message in ((poses, "persons have 17 parts, but 18"), (poses[..., :2], "holds 34")):
        with pytest.raises(PoseFileError, match=message):
            read(results(values), skeleton="openpose_18")
