"""Persons keep their numbers from frame to frame."""

import numpy as np
from conftest import standing_pose
from pycocotools import mask as mask_utils

from pose2seg_jax.prediction.tracking import Tracker


def _mask(pose):
    """The box of a pose as a mask in an image of 640 x 360."""
    mask = np.zeros((360, 640), np.uint8, order="F")
    (x0, y0), (x1, y1) = pose[:, :2].min(0).astype(int), pose[:, :2].max(0).astype(int)
    mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 1
    return mask_utils.encode(mask)


def _update(tracker, poses):
    stacked = np.stack(poses) if poses else np.zeros((0, 17, 3))
    return tracker.update(stacked, [_mask(pose) for pose in poses]).tolist()


def test_people_who_cross_keep_their_numbers():
    """Two walk past each other, one a little behind the other, in any order of the file."""
    rng = np.random.RandomState(0)
    for _ in range(5):
        tracker = Tracker()
        for frame in range(60):
            left, right = standing_pose(40 + 7 * frame, 60, 200), standing_pose(460 - 7 * frame, 50, 220)  # fmt: skip
            for pose in (left, right):
                pose[:, :2] += rng.normal(0, 2, (17, 2))
            order = rng.permutation(2)
            ids = _update(tracker, [(left, right)[index] for index in order])
            assert [ids[order.tolist().index(person)] for person in (0, 1)] in ([1, 2], [2, 1])
            if frame == 0:
                first = [ids[order.tolist().index(person)] for person in (0, 1)]
            assert [ids[order.tolist().index(person)] for person in (0, 1)] == first


def test_who_is_hidden_for_a_while_comes_back_and_strangers_are_new():
    tracker = Tracker()
    for frame in range(10):
        assert _update(tracker, [standing_pose(50 + 4 * frame, 60, 200)]) == [1]
    for _ in range(12):
        assert _update(tracker, []) == []
    assert _update(tracker, [standing_pose(50 + 4 * 22, 60, 200)]) == [1]
    # Somebody far away is another person, and after a long time everybody is.
    assert _update(tracker, [standing_pose(450, 60, 200)]) == [2]
    for _ in range(40):
        _update(tracker, [])
    assert _update(tracker, [standing_pose(450, 60, 200)]) == [3]


def test_missing_parts_do_not_matter_much():
    tracker = Tracker()
    for frame in range(20):
        first, second = standing_pose(50, 60, 200), standing_pose(300, 60, 200)
        if frame % 2:
            first[11:] = 0
        assert _update(tracker, [first, second]) == [1, 2]
