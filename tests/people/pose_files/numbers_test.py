"""Keypoints in every nesting; what is no number is a missing part."""

import numpy as np
import pytest
from pose_file_fixtures import annotations, results

from pose2seg_jax.people.pose_files import PoseFileError


def _with(poses, part, values):
    content = results(poses)
    content[0]["keypoints"][3 * part : 3 * part + 3] = values
    return content


@pytest.mark.parametrize(
    "values",
    [[None] * 3, [float("nan")] * 3, [float("inf"), 5, 2], [5, 5, None], [None, 5, 2], [10**400, 5, 2], ["nan", 5, 2]],
)  # fmt: skip
def test_a_part_without_numbers_is_missing_and_counted(read, poses, values, caplog):
    found = read(_with(poses, 3, values)).poses
    assert not found[0, 3].any()
    expected = poses.copy()
    expected[..., :2] += 0.5
    expected[0, 3] = 0
    np.testing.assert_allclose(found, expected)
    assert "parts without numbers (null, NaN, or a list that ends too early) are missing: 1" in caplog.text  # fmt: skip


def test_arrays_may_hold_nan(read, poses, caplog):
    poses[1, [0, 5]] = np.nan
    found = read(poses, "photo.npy").poses
    assert not found[1, [0, 5]].any()
    assert found[1, 1].all()
    assert "are missing: 2" in caplog.text


@pytest.mark.parametrize("lacking", [1, 2])
def test_a_list_that_ends_too_early_lacks_its_last_parts(read, poses, lacking, caplog):
    content = results(np.concatenate([poses, poses + np.asarray([3, 0, 0])]))
    del content[0]["keypoints"][51 - 3 * lacking :]
    found = read(content, drop_duplicates=False).poses
    assert not found[0, 17 - lacking :].any()
    assert found[0, : 17 - lacking, 2].all()
    assert f"are missing: {lacking}" in caplog.text


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([1, 2, 2] * 14, "holds 14 parts, where 17 were expected as for the other persons"),
        ([1, 2, 2] * 26, "holds 26 parts, where 17"),
        ([1.0] * 50, "must hold 3 numbers a part, x, y, v, but holds 50"),
        (["left", 2, 3] * 17, "must hold numbers, not 'left'"),
        ([[1, 2, 3, 4]] * 17, "must hold x, y and one third value of each part, but holds 4"),
        ([[1, 2, 3], 5], "mixes numbers and lists"),
        ([[1, {}, 3]] * 17, "must hold numbers, not {}"),
        (7, "must be a list of numbers, not 7"),
        ({"x": [1]}, "must be a list of numbers, not None"),
    ],
)
def test_other_forms_are_named_with_the_person(read, poses, keypoints, message):
    content = results(np.concatenate([poses, poses + 1])[:3])
    content[1]["keypoints"] = keypoints
    with pytest.raises(PoseFileError, match=rf"poses.json: result 1: 'keypoints' {message}"):
        read(content)


def test_scores_that_do_not_belong_to_the_parts_are_named(read, poses):
    person = {"keypoints": poses[0, :, :2].tolist(), "keypoint_scores": [0.9] * 16}
    with pytest.raises(PoseFileError, match="holds 17 parts, but there are 16 scores"):
        read([person], "photo.json")
    person = {"keypoints": poses[0].tolist(), "keypoint_scores": [0.9] * 17}  # 3-D
    with pytest.raises(PoseFileError, match="one third value of each part, but holds 3"):
        read([person], "photo.json")


@pytest.mark.parametrize("empty", [[], None])
def test_nobody_is_left_out_and_counted(read, poses, empty, caplog):
    content = annotations(poses)
    content["annotations"].append({"id": 9, "image_id": 7, "category_id": 1, "keypoints": empty})
    assert len(read(content).poses) == 2
    assert "left out: persons without a part: 1" in caplog.text
    content = annotations(poses)
    content["annotations"].append({"id": 9, "image_id": 7, "category_id": 1})
    assert len(read(content).poses) == 2
