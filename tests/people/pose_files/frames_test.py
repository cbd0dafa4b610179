"""Poses of a video's frames, by what the files of other programs call them."""

import json

import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.people import pose_files
from pose2seg_jax.people.pose_files import PoseFileError


def _results(path, image_ids):
    """COCO results; the person of the n-th image stands at x = 10 n."""
    entries = [
        {"image_id": image_id, "category_id": 1, "score": 0.9, "keypoints": standing_pose(10 * n, 5, 90).ravel().tolist()}
        for n, image_id in enumerate(image_ids)
    ]  # fmt: skip
    path.write_text(json.dumps(entries))
    return path


def _places(path, count):
    """Frame -> which person stands there."""
    found = pose_files.read(path, 0.3).match_frames(count)
    return {frame: round((poses.poses[0, 0, 0] - 45.5) / 10) for frame, poses in found.items()}


@pytest.mark.parametrize(
    "image_ids",
    [
        [0, 2, 3],
        ["0.jpg", "2.jpg", "3.jpg"],
        ["clip_000000.png", "clip_000002.png", "clip_000003.png"],
        ["frames/take2_0", "frames/take2_2", "frames/take2_3"],
    ],
)
def test_the_last_number_is_the_frame(tmp_path, image_ids, caplog):
    assert _places(_results(tmp_path / "p.json", image_ids), 4) == {0: 0, 2: 1, 3: 2}
    assert not caplog.text


def test_frames_may_be_counted_from_one(tmp_path, caplog):
    assert _places(_results(tmp_path / "p.json", [1, 3, 4]), 4) == {0: 0, 2: 1, 3: 2}
    assert "has no frame 0, so its frames are counted from 1" in caplog.text
    # Nobody in the last frame, or nobody in the first.
    assert _places(_results(tmp_path / "p.json", [1, 3]), 4) == {0: 0, 2: 1}
    assert _places(_results(tmp_path / "p.json", [2, 4]), 4) == {1: 0, 3: 1}
    caplog.clear()
    assert _places(_results(tmp_path / "p.json", [2, 3]), 4) == {2: 0, 3: 1}
    assert "counted from 0" in caplog.text


def test_a_folder_of_openpose_files(tmp_path):
    for frame in (0, 1, 2):
        people = [{"pose_keypoints_2d": standing_pose(10 * frame, 5, 90).ravel().tolist()}]
        (tmp_path / f"walk_{frame:012}_keypoints.json").write_text(json.dumps({"people": people}))
    found = pose_files.read(tmp_path, 0.3).match_frames(3)
    assert sorted(found) == [0, 1, 2]


def test_frames_without_names_come_in_their_order(tmp_path):
    frames = [
        {"frame_id": n, "instances": [{"keypoints": standing_pose(10 * n, 5, 90)[:, :2].tolist(), "keypoint_scores": [1.0] * 17}]}
        for n in range(3)
    ]  # fmt: skip
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    assert _places(path, 3) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(PoseFileError, match="but the video has 2"):
        _places(path, 2)


@pytest.mark.parametrize(
    ("image_ids", "message"),
    [
        ([0, 9], "knows frame 9, but the video has 4"),
        (["a_1", "b_1"], "are both frame 1"),
        (["left", "right"], "has no number of a frame"),
    ],
)
def test_files_of_other_videos_are_refused(tmp_path, image_ids, message):
    with pytest.raises(PoseFileError, match=message):
        _places(_results(tmp_path / "p.json", image_ids), 4)


def test_images_of_nobody_are_frames_too(tmp_path):
    np.savez(tmp_path / "p.npz", **{str(n): np.zeros((n % 2, 17, 3)) + standing_pose(10, 5, 90) for n in range(4)})  # fmt: skip
    found = pose_files.read(tmp_path / "p.npz", 0.3).match_frames(4)
    assert [len(found[n].poses) for n in range(4)] == [0, 1, 0, 1]
