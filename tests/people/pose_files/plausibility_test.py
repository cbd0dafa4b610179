"""Poses that cannot be those of the photo are refused or said, with numbers."""

import numpy as np
import pytest
from conftest import standing_pose
from pose_file_fixtures import HEIGHT, WIDTH, annotations, results

from pose2seg_jax.people.parts import PART_NAMES
from pose2seg_jax.people.pose_files import PoseFileError
from pose2seg_jax.people.skeletons import SKELETONS, columns_by_names

_SIZE = np.asarray([WIDTH, HEIGHT, 1])


@pytest.mark.parametrize("make", [results, annotations, lambda p: p])
def test_fractions_of_the_photo_are_read_and_said(read, poses, make, caplog):
    content = make(poses / _SIZE)
    found = read(content, "photo.npy" if isinstance(content, np.ndarray) else "poses.json")
    half = 0 if isinstance(content, np.ndarray) else 0.5
    np.testing.assert_allclose(found.poses[..., :2], poses[..., :2] + half, atol=1e-3)
    assert "so they are read as fractions (0..1) of the photo's width and height" in caplog.text


def test_fractions_may_reach_a_little_beyond_the_edge(read, poses, caplog):
    poses[0, 16, 1] = HEIGHT * 1.1
    found = read(results(poses / _SIZE))
    assert not found.poses[0, 16].any()
    assert found.left_out["parts outside of the photo"] == 1


@pytest.mark.parametrize("change", [lambda p: 2 * p - 1, lambda p: p - 0.5])
def test_other_normalisations_are_refused(read, poses, change):
    values = poses / _SIZE
    values[..., :2] = change(values[..., :2])
    with pytest.raises(PoseFileError, match=r"they are normalised, but not to 0\.\.1 of the photo"):
        read(results(values))


def test_a_small_person_in_the_corner_is_no_fraction(read, caplog):
    pose = standing_pose(0, 0, 6)[None].astype(np.float64)
    np.testing.assert_allclose(read(results(pose)).poses[0, :, 0], pose[0, :, 0] + 0.5, atol=1e-5)
    assert not caplog.text


@pytest.mark.parametrize("part", [0, 9, 16])
def test_a_part_outside_is_missing_and_counted(read, poses, part):
    poses[0, part, :2] = WIDTH + 30, 50
    poses[1, part, :2] = 50, -20
    found = read(results(poses))
    assert not found.poses[:, part].any()
    assert len(found.poses) == 2
    assert found.left_out["parts outside of the photo"] == 2


def test_a_person_outside_is_left_out_and_counted(read, poses):
    beyond = poses[:1] + np.asarray([WIDTH, 0, 0])
    found = read(results(np.concatenate([poses, beyond])))
    assert len(found.poses) == 2
    assert found.left_out["persons without a part in the photo"] == 1


def test_some_parts_outside_are_said_with_numbers(read, poses, caplog):
    read(results(poses + np.asarray([75, 0, 0])))
    assert "of 34 parts lie outside of the photo (200x300); are the poses of this photo" in caplog.text  # fmt: skip


@pytest.mark.parametrize("scale", [3, 4])
def test_another_resolution_is_refused_with_numbers(read, poses, scale):
    with pytest.raises(PoseFileError, match=r"photo.jpg: \d+ of 34 parts .* outside of the photo, which is 200x300 .*another size"):  # fmt: skip
        read(results(poses * [scale, scale, 1] + [60, 60, 0]))


def test_y_before_x_is_refused_where_it_shows(read):
    low = np.stack([standing_pose(20, 190, 100), standing_pose(100, 200, 90)]).astype(np.float64)
    with pytest.raises(PoseFileError, match="in the order y, x they would all lie inside"):
        read(results(low[..., [1, 0, 2]]))


@pytest.mark.parametrize("count", [3, 6])
def test_people_on_their_side_are_said(read, count, caplog):
    standing = np.stack([standing_pose(5 + 30 * i, 10 * i, 90) for i in range(count)])
    assert len(read(results(standing)).poses) == count
    assert not caplog.text
    read(results(standing[..., [1, 0, 2]]))
    assert f"{count} of {count} persons lie on their side; are the coordinates in the order y, x?" in caplog.text  # fmt: skip


@pytest.mark.parametrize("names", [False, True])
def test_other_17_parts_than_cocos_are_said(read, poses, names, caplog):
    by_name = dict(zip(PART_NAMES, poses[0], strict=True))
    hips = (by_name["left_hip"] + by_name["right_hip"]) / 2
    shoulders = (by_name["left_shoulder"] + by_name["right_shoulder"]) / 2
    others = {"root": hips, "spine": (hips + shoulders) / 2, "head": by_name["nose"]}
    parts = [by_name.get(name, others.get(name, shoulders)) for name in SKELETONS["h36m"]]
    if names:
        found = read(annotations([parts], list(SKELETONS["h36m"])))
        assert not caplog.text
        seen = np.asarray(columns_by_names(SKELETONS["h36m"])) >= 0
        np.testing.assert_allclose(found.poses[0, seen, :2], poses[0, seen, :2] + 0.5)
        return
    read(results([parts]))
    assert "nose, eyes and ears spread over" in caplog.text
    assert "--skeleton=h36m" in caplog.text
    caplog.clear()
    read(results([parts]), skeleton="coco")
    assert not caplog.text


def test_real_poses_are_said_nothing_about(read, real_dataset, save, tmp_path, caplog):
    from pose2seg_jax.people import pose_files

    entries = [
        {"image_id": person.image_id, "category_id": 1, "keypoints": np.where(person.pose[:, 2:] > 0, person.pose - [0.5, 0.5, 0], 0).ravel().tolist()}
        for person in real_dataset.persons()
    ]  # fmt: skip
    file = pose_files.read(save(entries, "real.json"), 0.3)
    sizes = {image.id: (image.height, image.width) for image in real_dataset.images}
    kept = 0
    for key, found in file.poses.items():
        kept += len(found.on_photo(*sizes[key], key, drop_duplicates=False).poses)
    assert kept == len(entries) == 724
    assert not caplog.text


def test_one_part_far_outside_hides_no_fractions(read, poses):
    values = poses / _SIZE
    values[0, 16, 1] = 1.4
    found = read(results(values))
    assert found.left_out["parts outside of the photo"] == 1
    np.testing.assert_allclose(found.poses[0, :16, :2], poses[0, :16, :2] + 0.5, atol=1e-3)


def test_fractions_beside_pixels_are_refused(read, poses):
    poses[1] = poses[1] / _SIZE
    with pytest.raises(PoseFileError, match=r"of 1 of 2 persons lie in 0\.\.1, those of the others are pixels"):  # fmt: skip
        read(results(poses))


def test_a_part_in_the_corner_beside_others_is_no_fraction(read, poses, caplog):
    poses[1, 1:] = 0
    poses[1, 0] = 1, 0, 2
    assert read(results(poses)).poses[1, 0].tolist() == [1.5, 0.5, 2]
    assert not caplog.text


def test_one_lying_person_in_fractions_is_said(read, poses, caplog):
    read(results((poses / _SIZE)[:1, :, [1, 0, 2]]))
    assert "1 of 1 persons lie on their side; are the coordinates in the order y, x?" in caplog.text
